from __future__ import annotations

import pytest
import torch
from scipy import stats
from small import EncoderLM, gpt, random_batches, same_weights, weights
from torch import nn

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import next_token_loss
from sbldlib.sensitivity import calculate_sensitivities, calculate_sensitivity

NUM_LAYERS = 4


def transformers_gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=32, n_positions=8, n_embd=16, n_layer=NUM_LAYERS, n_head=2, initializer_range=0.3
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.GPT2LMHeadModel(config)


MODELS = {"gpt": gpt, "encoder": EncoderLM, "transformers gpt2": transformers_gpt2}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


@torch.no_grad()
def naive_deltas(model: nn.Module, layer: int, batches) -> list[float]:
    """What the sensitivity is by its definition: two whole passes a batch."""
    was_training = model.training
    model.eval()
    deltas = []
    for batch in batches:
        full = float(next_token_loss(model, batch))
        with skip_layers(model, {layer}):
            deltas.append(float(next_token_loss(model, batch)) - full)
    model.train(was_training)
    return deltas


def test_equals_the_naive_computation_and_scipys_standard_error(model):
    batches = random_batches(5)
    found = calculate_sensitivities(model, batches=batches, iteration=7)
    for layer in range(NUM_LAYERS):
        deltas = naive_deltas(model, layer, batches)
        assert found.values[layer] == pytest.approx(sum(deltas) / 5, abs=1e-6)
        assert found.standard_errors[layer] == pytest.approx(stats.sem(deltas), abs=1e-6)
        assert abs(found.values[layer]) > 1e-4, "a layer that does nothing would prove nothing"
        single = calculate_sensitivity(model, layer, batches=batches)
        assert single.value == pytest.approx(found.values[layer], abs=1e-6)
        assert single.standard_error == pytest.approx(found.standard_errors[layer], abs=1e-6)
    assert (found.num_layers, found.num_batches, found.iteration) == (NUM_LAYERS, 5, 7)
    assert (found.method, found.unit) == ("loss_delta", "nats per token")


def count_block_runs(model: nn.Module) -> list[int]:
    runs = [0]
    for block in attach(model).blocks:
        block.module.register_forward_hook(lambda *_: runs.__setitem__(0, runs[0] + 1))
    return runs


def test_all_layers_run_each_block_before_the_skipped_one_once(model):
    runs = count_block_runs(model)
    calculate_sensitivities(model, batches=random_batches(2))
    assert runs[0] == 2 * (NUM_LAYERS + NUM_LAYERS * (NUM_LAYERS - 1) // 2)


def test_one_layer_runs_the_blocks_after_it_a_second_time(model):
    runs = count_block_runs(model)
    calculate_sensitivity(model, 1, batches=random_batches(2))
    assert runs[0] == 2 * (NUM_LAYERS + NUM_LAYERS - 2)


def test_the_model_is_left_as_it_was(model):
    frozen_part = next(m for m in model.modules() if isinstance(m, nn.LayerNorm))
    model.train()
    frozen_part.eval()  # as those do who fine-tune with a part held still
    next_token_loss(model, random_batches(1, seed=9)[0]).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    skipping, before = attach(model), weights(model)
    skipping.set_dropped({2})
    state = torch.get_rng_state()
    with skip_layers(model, {1}):
        calculate_sensitivities(model, batches=random_batches(2))
        assert (skipping.skipped, skipping.dropped) == ({1}, {2})
    assert (skipping.replay, skipping.recorded) == ({}, None)
    assert [module.training for module in model.modules()] == modes
    assert same_weights(model, before)
    assert torch.equal(torch.get_rng_state(), state)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, gradients[name]), name


def test_layers_skipped_or_dropped_before_do_not_leak_in():
    model, batches = gpt(), random_batches(3)
    expected = calculate_sensitivities(model, batches=batches)
    attach(model).set_dropped({0})
    skip_layers(model, {1, 3})
    assert calculate_sensitivities(model, batches=batches) == expected


def test_training_noise_does_not_reach_the_measurement():
    batches = random_batches(3)
    model = gpt(dropout=0.5).train()
    assert calculate_sensitivities(model, batches=batches) == calculate_sensitivities(
        model, batches=batches
    )


def test_a_layer_that_adds_nothing_has_sensitivity_zero_exactly():
    model = gpt()
    with torch.no_grad():
        for part in (model.blocks[2].attention.output, model.blocks[2].mlp.output):
            part.weight.zero_()
            part.bias.zero_()
    found = calculate_sensitivities(model, batches=random_batches(3))
    assert (found.values[2], found.standard_errors[2]) == (0.0, 0.0)
    assert all(found.values[layer] != 0 for layer in (0, 1, 3))


def test_a_batch_may_be_a_dict_with_a_loss_of_ones_own():
    def loss(model, batch):
        return next_token_loss(model, (batch["tokens"], batch["targets"]))

    model, pairs = gpt(), random_batches(3)
    dicts = [{"tokens": tokens, "targets": targets} for tokens, targets in pairs]
    expected = calculate_sensitivities(model, batches=pairs)
    assert calculate_sensitivities(model, batches=dicts, loss=loss) == expected


def test_the_model_is_left_as_it_was_when_the_loss_raises():
    model = gpt().train()
    skipping = attach(model)
    skipping.set_dropped({3})

    def loss(model, batch):
        if skipping.replay:
            raise RuntimeError("no more")
        return next_token_loss(model, batch)

    with pytest.raises(RuntimeError, match="no more"):
        calculate_sensitivities(model, batches=random_batches(2), loss=loss)
    assert model.training and skipping.dropped == {3} and skipping.skipped == set()
    assert (skipping.replay, skipping.recorded) == ({}, None)


def test_one_batch_gives_no_standard_error():
    with pytest.raises(ValueError, match=r"batches holds 1; a standard error needs at least 2"):
        calculate_sensitivities(gpt(), batches=random_batches(1))


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ValueError, match=r"method='loss_delt' .*'loss_delta'"):
        calculate_sensitivity(gpt(), 0, batches=random_batches(2), method="loss_delt")


@pytest.mark.parametrize("layer", [NUM_LAYERS, -1, 1.5, True])
def test_a_layer_out_of_range_is_named(layer):
    with pytest.raises(ValueError, match=r"layer.*(4 is outside 0\.\.3|-1|1\.5|True)"):
        calculate_sensitivity(gpt(), layer, batches=random_batches(2))


def test_a_loss_that_is_not_finite_says_where():
    model = gpt()
    with torch.no_grad():
        model.blocks[1].mlp.output.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="loss=nan at full depth"):
        calculate_sensitivities(model, batches=random_batches(2))

    def loss(model, batch):
        value = next_token_loss(model, batch)
        return value * float("inf") if 2 in attach(model).skipped else value

    with pytest.raises(ValueError, match="loss=inf without layer 2"):
        calculate_sensitivities(gpt(), batches=random_batches(2), loss=loss)
