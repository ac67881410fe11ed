"""A pruned model computes what the whole one computes with those layers skipped."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from dropping.toys import Block, Stack, inputs, stack
from hypothesis import given, settings
from hypothesis import strategies as st
from small import EncoderLM, T, V, gpt, same_weights, weights
from torch import Tensor, nn

from sbldlib.dropping.export import early_exit, prune
from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.models.gpt import GPT

TOKENS_BT = torch.arange(2 * T).reshape(2, T) % V


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model.eval()(TOKENS_BT)


def skipped_logits(model: nn.Module, layers) -> Tensor:
    with skip_layers(model, layers):
        return logits(model)


@settings(max_examples=10)
@given(layers=st.sets(st.integers(0, 4), max_size=4))
def test_it_computes_what_skipping_does(layers):
    for model in (gpt(5), EncoderLM(5)):
        pruned = prune(model, layers)
        assert torch.equal(logits(pruned), skipped_logits(model, layers))


@pytest.mark.parametrize("layer", [1, 3, 5])
def test_an_early_exit_is_the_first_blocks_with_the_models_own_head(layer):
    model = gpt(5)
    small = early_exit(model, layer)
    x_BTD = model._embed(TOKENS_BT, 0)
    for block in list(model.blocks)[:layer]:
        x_BTD = block(x_BTD)
    expected_BTV = model.final_norm(x_BTD) @ model.token_embedding.weight.T
    torch.testing.assert_close(logits(small), expected_BTV.detach())
    assert isinstance(small, GPT) and small.config.num_layers == layer


def test_the_model_itself_stays_as_it_is():
    model = gpt(4).train()
    before, expected = weights(model), logits(copy.deepcopy(model))
    pruned = prune(model, {1})
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.zero_()
    assert model.training and model.config.num_layers == 4
    assert same_weights(model, before) and torch.equal(logits(model), expected)


def test_what_is_skipped_or_dropped_at_present_is_no_part_of_it():
    model = gpt(4)
    expected = skipped_logits(model, {2})
    skip_layers(model, {0, 1})
    attach(model).set_dropped({3})
    pruned = prune(model, {2})
    assert torch.equal(logits(pruned.train()), expected)
    assert attach(model).skipped == {0, 1}


def test_it_is_a_plain_model_that_goes_on_training():
    model = gpt(4)
    skip_layers(model, {3})
    pruned = prune(model, {0, 2})
    assert all(type(module).__call__ is nn.Module.__call__ for module in pruned.modules())
    assert not any("sbld" in name for block in pruned.blocks for name in vars(block))
    pruned.train()(TOKENS_BT).square().sum().backward()
    assert all(parameter.grad is not None for parameter in pruned.parameters())
    again = pickle.loads(pickle.dumps(pruned))
    assert torch.equal(logits(again), logits(pruned))


def test_a_gpt_is_saved_and_loaded_at_its_new_depth(tmp_path):
    model = gpt(4)
    pruned = prune(model, {1, 2})
    assert [name for name, _ in pruned.blocks.named_children()] == ["0", "1"]
    pruned.save(tmp_path / "small")
    loaded = GPT.load(tmp_path / "small")
    assert loaded.config.num_layers == 2
    assert torch.equal(logits(loaded), skipped_logits(model, {1, 2}))


@pytest.mark.parametrize("layers", [{0}, {1, 2}])
def test_a_gpt_generates_with_a_cache(layers):
    model = gpt(4).eval()
    pruned = prune(model, layers)
    prompt_BT = TOKENS_BT[:, :3]
    with_cache = pruned.generate(prompt_BT, 4, temperature=0)
    assert torch.equal(with_cache, pruned.generate(prompt_BT, 4, temperature=0, use_cache=False))
    with skip_layers(model, layers):
        assert torch.equal(with_cache, model.generate(prompt_BT, 4, temperature=0))


def test_torchs_encoder_knows_its_depth():
    assert prune(EncoderLM(4), {0}).encoder.num_layers == 3


def test_tied_weights_stay_tied():
    model = stack(4)
    model.head.weight = model.embedding.weight
    pruned = prune(model, {1})
    assert pruned.head.weight is pruned.embedding.weight is not model.head.weight


class Placed(Block):
    """Knows its place, in a part of itself, as the attentions of transformers do."""

    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.norm.layer_idx = layer_idx


def test_blocks_learn_their_new_places():
    pruned = prune(Stack(*(Placed(layer) for layer in range(5))), {0, 3})
    assert [block.norm.layer_idx for block in pruned.blocks] == [0, 1, 2]


def test_a_list_of_named_blocks_keeps_its_names():
    blocks = nn.Sequential()
    for name in ("first", "second", "third"):
        blocks.add_module(name, Block())
    pruned = prune(nn.Sequential(nn.Linear(8, 8), blocks), {1})
    assert [name for name, _ in pruned[1].named_children()] == ["first", "third"]
    assert torch.isfinite(pruned(inputs())).all()


def test_a_config_has_its_depth_and_its_entries_by_layer_set():
    model = stack(3)
    model.config = SimpleNamespace(n_layer=3, layer_types=["a", "b", "c"], sizes=[1, 2, 3])
    pruned = prune(model, {1})
    assert vars(pruned.config) == {"n_layer": 2, "layer_types": ["a", "c"], "sizes": [1, 2, 3]}
    assert model.config.n_layer == 3


class Stages(nn.Module):
    """Two stages of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([stack(2, seed=1), stack(2, seed=2)])
        self.config = SimpleNamespace(depths=(2, 2))

    def forward(self, x_BTD: Tensor) -> Tensor:
        for stage in self.stages:
            x_BTD = stage(x_BTD)
        return x_BTD


def test_stages_are_pruned_each_by_itself():
    model = Stages().eval()
    pruned = prune(model, {1, 2})
    assert pruned.config.depths == (1, 1)
    with skip_layers(model, {1, 2}):
        assert torch.equal(pruned(inputs()), model(inputs()))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({4}, r"layers_to_remove: layer 4 is outside 0..3"),
        ([1, 1], r"layers_to_remove: layer 1 is named twice"),
        (range(4), r"layers_to_remove=\[0, 1, 2, 3\] leaves the model without a block"),
    ],
)
def test_layers_that_cannot_be_removed(layers, message):
    with pytest.raises(ValueError, match=message):
        prune(gpt(4), layers)


@pytest.mark.parametrize(
    ("layer", "message"), [(0, "layer=0 must be at least 1"), (5, r"layer=5 is outside 1..4")]
)
def test_an_exit_that_cannot_be(layer, message):
    with pytest.raises(ValueError, match=message):
        early_exit(gpt(4), layer)


def test_no_stage_may_be_left_empty():
    with pytest.raises(ValueError, match=r"leaves the stage 'stages.1.blocks' without a block"):
        prune(Stages(), {0, 2, 3})
    with pytest.raises(ValueError, match=r"the stage 'stages.1.blocks'"):
        early_exit(Stages(), 1)


def test_a_config_that_does_not_say_its_depth():
    model = stack(3)
    model.config = SimpleNamespace(depth=3)
    with pytest.raises(ValueError, match=r"config of Stack holds its depth in none of depths, num"):
        prune(model, {1})


class Alternating(nn.Module):
    """Every second block is built otherwise, by its place."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(0.1 * (i % 2)) for i in range(config.num_layers))
        for place, block in enumerate(self.blocks):
            block.shift = place % 2


def test_a_block_that_would_be_another_in_its_new_place():
    model = Alternating(SimpleNamespace(num_layers=4))
    with pytest.raises(ValueError, match=r"blocks.2 cannot stand at place 1: .* another .*shift"):
        prune(model, {1})
    for block in model.blocks:
        block.shift = 7  # changed by hand since: no matter of its place
    assert len(prune(model, {0, 1}).blocks) == len(prune(model, {3}).blocks) - 1 == 2


def test_a_scale_set_for_evaluation_is_not_lost_in_silence():
    model = gpt(4)
    attach(model).set_evaluation_scale({1: 0.5, 2: 1.0})
    with pytest.raises(ValueError, match=r"layers \[1\] are scaled in evaluation .*eval_scale"):
        prune(model, {3})
    assert prune(model, {1}).config.num_layers == 3  # the scaled layer is the one that goes
    attach(model).set_evaluation_scale({})
    assert prune(model, {3}).config.num_layers == 3
