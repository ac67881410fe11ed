"""The encoder-decoder: what depends on what, masks, layers that are skipped, weights, training."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sbldlib.dropping.blocks import find_blocks
from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import evaluate_loss
from sbldlib.methods import make_method
from sbldlib.models.encoder_decoder import (
    PRESETS,
    EncoderDecoder,
    EncoderDecoderConfig,
    shift_right,
    translation_loss,
)
from sbldlib.models.encoder_decoder_parts import Attention
from sbldlib.sensitivity import calculate_sensitivities
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.memory import cut
from sbldlib.training.optimizer import make_optimizer

MINI = EncoderDecoderConfig(
    vocabulary_size=23,
    context_length=12,
    num_encoder_layers=3,
    num_decoder_layers=2,
    num_heads=2,
    width=16,
)
NORMS = ("pre", "post")
NUM_SOURCE = (7, 4, 1)  # tokens of each source before its padding
B, S, T = len(NUM_SOURCE), 7, 5


def draw(*shape: int, seed: int = 0, lowest: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(lowest, MINI.vocabulary_size, shape, generator=generator)


def sources(seed: int = 0) -> Tensor:
    """Rows of different lengths, filled up with padding."""
    counts = torch.arange(S) < torch.tensor(NUM_SOURCE)[:, None]
    return draw(B, S, seed=seed).where(counts, torch.tensor(MINI.padding))


def targets(seed: int = 1) -> Tensor:
    """What is to be written; the last row is shorter."""
    targets_BT = draw(B, T, seed=seed)
    targets_BT[-1, 2:] = -100
    return targets_BT


def build(norm: str = "pre", seed: int = 0, **changes) -> EncoderDecoder:
    return EncoderDecoder(replace(MINI, norm=norm, **changes), seed)


def embedded(model: EncoderDecoder) -> list[Tensor]:
    """Fills with what the embedding gives: the source's, then the target's."""
    seen: list[Tensor] = []
    model.embedding.register_forward_hook(lambda *call: seen.append(call[2]))
    return seen


class Copies:
    """Sentences to be written as they are; a pure function of the step."""

    def batch(self, step: int, micro_batch: int = 0) -> tuple[Tensor, Tensor]:
        source_BS = draw(16, 3, seed=100 * step + micro_batch, lowest=16)
        return source_BS, source_BS.clone()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("num_tokens", [1, 5, 12])
def test_logits_have_one_row_per_target_token(norm, num_tokens):
    logits_BTV = build(norm)(sources(), draw(B, num_tokens))
    assert logits_BTV.shape == (B, num_tokens, MINI.vocabulary_size)
    assert logits_BTV.dtype == torch.float32


@pytest.mark.parametrize("norm", NORMS)
def test_logits_depend_on_the_whole_source_and_on_the_targets_up_to_theirs(norm):
    model = build(norm)
    seen = embedded(model)
    logits_BTV = model(sources(), draw(B, T))
    for place in range(T):
        pulled = logits_BTV[:, place].square().sum()
        source_BSD, target_BTD = torch.autograd.grad(pulled, seen, retain_graph=True)
        moved_BS, moved_BT = source_BSD.norm(dim=-1) > 0, target_BTD.norm(dim=-1) > 0
        assert moved_BS.tolist() == (sources() != MINI.padding).tolist()
        assert moved_BT.tolist() == [[i <= place for i in range(T)]] * B


@pytest.mark.parametrize("norm", NORMS)
def test_a_sentence_is_read_alike_alone_and_in_a_padded_batch(norm):
    model, target_BT = build(norm), draw(B, T)
    together_BTV = model(sources(), target_BT)
    for row, num in enumerate(NUM_SOURCE):
        alone_TV = model(sources()[row : row + 1, :num], target_BT[row : row + 1])[0]
        torch.testing.assert_close(together_BTV[row], alone_TV, atol=1e-5, rtol=1e-5)


def test_masked_tokens_are_not_read():
    model, source_BS, target_BT = build(), draw(B, S), draw(B, T)
    mask_BS = torch.arange(S) != 2
    mask_BS = mask_BS.expand(B, S)
    other_BS = source_BS.clone()
    other_BS[:, 2] = (source_BS[:, 2] - 2) % 20 + 3
    masked, other = (model(x, target_BT, source_mask_BS=mask_BS) for x in (source_BS, other_BS))
    assert torch.equal(masked, other)
    assert not torch.allclose(model(source_BS, target_BT), model(other_BS, target_BT), atol=1e-3)


def test_order_matters_on_both_sides():
    model, source_BS, target_BT = build(), draw(1, S), draw(1, T)
    logits_BTV = model(source_BS, target_BT)
    assert not torch.allclose(logits_BTV, model(source_BS.flip(1), target_BT), atol=1e-3)
    swapped_BT = target_BT[:, [1, 0, 2, 3, 4]]
    last_V, other_V = logits_BTV[0, -1], model(source_BS, swapped_BT)[0, -1]
    assert not torch.allclose(last_V, other_V, atol=1e-3)


def test_encode_and_decode_are_forward():
    model, target_BT = build(), draw(B, T)
    memory = model.encode(sources())
    assert torch.equal(model.decode(target_BT, *memory), model(sources(), target_BT))


def test_blocks_of_both_halves_are_found():
    model = build()
    names = [f"encoder.blocks.{i}" for i in range(3)], [f"decoder.blocks.{i}" for i in range(2)]
    assert [entry.name for entry in find_blocks(model)] == names[0] + names[1]
    for half, expected in zip(("encoder", "decoder"), names, strict=True):
        assert [entry.name for entry in find_blocks(model, within=half)] == expected


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("layer", "half"), [(1, "encoder"), (4, "decoder")])
def test_a_skipped_layer_is_a_model_without_it(norm, layer, half):
    model = build(norm)
    place = layer if half == "encoder" else layer - MINI.num_encoder_layers
    fewer = getattr(MINI, f"num_{half}_layers") - 1
    shallow = build(norm, **{f"num_{half}_layers": fewer})
    gone, last = f"{half}.blocks.{place}.", f"{half}.blocks.{fewer}."
    weights = {name: value for name, value in model.state_dict().items() if gone not in name}
    shallow.load_state_dict({name.replace(last, gone): value for name, value in weights.items()})
    with skip_layers(model, {layer}):
        skipped = model(sources(), draw(B, T))
    assert torch.equal(skipped, shallow(sources(), draw(B, T)))
    assert not torch.allclose(skipped, model(sources(), draw(B, T)), atol=1e-3)


def test_layers_of_the_encoder_alone_can_be_named():
    model = build()
    full = model(sources(), draw(B, T))
    with skip_layers(model, {0, 1, 2}, within="encoder"):
        model.encoder.requires_grad_(False)
        assert not torch.allclose(full, model(sources(), draw(B, T)), atol=1e-3)
    with pytest.raises(ValueError, match="layer 3 is outside"):
        skip_layers(model, {3}, within="encoder")


def test_rows_that_skip_a_layer_are_those_of_a_model_that_skips_it():
    model, target_BT = build(), draw(B, T)
    alone = {}
    for layer in (None, 1, 4):
        with skip_layers(model, () if layer is None else {layer}):
            alone[layer] = model(sources(), target_BT)
    skipping = attach(model)
    skipping.set_rows({1: (0, 1), 4: (0, 2)})
    mixed = model.train()(sources(), target_BT)
    expected = torch.stack([alone[None][0], alone[4][1], alone[1][2]])
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_attention_weights_of_every_head_and_layer(norm):
    found = build(norm).attention_weights(sources(), draw(B, T))
    assert (len(found.encoder), len(found.decoder), len(found.cross)) == (3, 2, 2)
    shapes = {"encoder": (S, S), "decoder": (T, T), "cross": (T, S)}
    for name, sides in shapes.items():
        for weights in getattr(found, name):
            assert weights.shape == (B, MINI.num_heads, *sides)
            assert not weights.requires_grad
            ones = torch.ones(weights.shape[:-1])
            torch.testing.assert_close(weights.sum(-1), ones, atol=1e-5, rtol=0)
            assert (weights >= 0).all()
    is_padding_B11S = (sources() == MINI.padding)[:, None, None]
    for weights in (*found.encoder, *found.cross):
        assert (weights.masked_select(is_padding_B11S) == 0).all()
    for weights in found.decoder:
        assert torch.equal(weights, weights.tril())
        assert (weights.diagonal(dim1=-2, dim2=-1) > 0).all()


@pytest.mark.parametrize("mask", ["causal", "padding"])
def test_attention_with_its_weights_gives_what_attention_gives(mask):
    attention = build().encoder.blocks[0].attention
    x_BTD = torch.linspace(-2, 2, B * S * 16).view(B, S, 16).cos()
    mask_B11S = None if mask == "causal" else (sources() != MINI.padding)[:, None, None]
    output, weights_BHTS = attention.explicit(x_BTD, x_BTD, mask_B11S)
    plain = attention(x_BTD, x_BTD, mask_B11S)
    torch.testing.assert_close(output, plain, atol=1e-6, rtol=1e-5)
    value_BHTE = attention.value(x_BTD).view(B, S, 2, 8).transpose(1, 2)
    taken = (weights_BHTS @ value_BHTE).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.output(taken), plain, atol=1e-6, rtol=1e-5)


def test_a_plain_forward_pass_computes_no_weights(monkeypatch):
    monkeypatch.setattr(Attention, "explicit", None)
    calls, plain = [], F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or plain(*a, **k)
    )
    build()(sources(), draw(B, T))
    assert len(calls) == 3 + 2 * 2


def test_weights_are_of_evaluation_mode_and_the_mode_is_restored():
    model = build(dropout=0.5).train()
    model.encoder.eval()
    one, two = (model.attention_weights(sources(), draw(B, T)) for _ in range(2))
    assert torch.equal(one.cross[1], two.cross[1])
    assert model.training and model.decoder.blocks[0].training
    assert not model.encoder.training
    model.eval()
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            one.encoder, model.attention_weights(sources(), draw(B, T)).encoder, strict=True
        )
    )


def test_a_skipped_layer_has_no_weights_even_where_none_has_run_before():
    model = build()
    with skip_layers(model, {0, 4}):
        found = model.attention_weights(sources(), draw(B, T))
    assert [weights is None for weights in found.encoder] == [True, False, False]
    assert [weights is None for weights in found.decoder] == [False, True]
    assert [weights is None for weights in found.cross] == [False, True]


def test_weights_come_from_the_seed_and_nothing_else():
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())
    one, two, other = (build(seed=seed).state_dict() for seed in (3, 3, 4))
    build().attention_weights(sources(), draw(B, T))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), repr(np.random.get_state()))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["embedding.weight"], other["embedding.weight"])
    assert "positions_TD" not in one


def test_initial_weights():
    model = EncoderDecoder.from_preset("tiny", vocabulary_size=500)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert torch.equal(weight, torch.zeros_like(weight)), name
        elif "norm" in name:
            assert torch.equal(weight, torch.ones_like(weight)), name
        elif name == "embedding.weight":
            assert weight.std().item() == pytest.approx(64**-0.5, rel=0.02)
        else:  # uniform up to Glorot's bound
            bound = math.sqrt(6 / sum(weight.shape))
            assert 0.98 * bound < weight.abs().max().item() <= bound, name
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03), name


@pytest.mark.parametrize("norm", NORMS)
def test_initial_logits_are_of_size_one(norm):
    model = EncoderDecoder.from_preset("tiny", norm=norm)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 64, (2, 8, 20), generator=generator)
    assert model(*tokens).std().item() == pytest.approx(1, abs=0.2)


def test_published_parameter_counts():
    with torch.device("meta"):
        counts = {name: EncoderDecoder.from_preset(name).num_parameters() for name in PRESETS}
    assert counts["base-2017"] == pytest.approx(65e6, rel=0.04)  # table 3 of the paper
    assert counts["big-2017"] == pytest.approx(213e6, rel=0.04)


def test_dropout_acts_in_training_alone():
    model, target_BT = build(dropout=0.5), draw(B, T)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one, two = (model.train()(sources(), target_BT) for _ in range(2))
    assert not torch.equal(one, two)
    one, two = (model.eval()(sources(), target_BT) for _ in range(2))
    assert torch.equal(one, two)


@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=3))
def test_shift_right(rows):
    targets_BT = torch.tensor(rows)
    targets_BT = targets_BT.masked_fill(targets_BT == 9, -100)
    read_BT = shift_right(targets_BT, start=1, padding=0)
    assert read_BT[:, 0].tolist() == [1] * len(rows)
    assert read_BT[:, 1:].tolist() == [[0 if t == 9 else t for t in row[:-1]] for row in rows]


def test_the_loss_is_the_mean_over_the_targets_that_count():
    model = build()
    source_BS, targets_BT = sources(), targets()
    log_BTV = model(source_BS, shift_right(targets_BT, start=1, padding=0)).log_softmax(-1)
    told = [
        -log_BTV[row, place, targets_BT[row, place]].item()
        for row in range(B)
        for place in range(T)
        if targets_BT[row, place] != -100
    ]
    assert len(told) == 12
    loss = translation_loss(model, (source_BS, targets_BT))
    assert loss.item() == pytest.approx(sum(told) / len(told), abs=1e-5)


def test_a_batch_in_pieces_has_the_gradient_of_the_whole():
    model, batch = build(), (sources(), targets())
    translation_loss(model, batch).backward()
    whole = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    for piece in cut(batch, 2):
        (translation_loss(model, piece.batch) * piece.share).backward()
    for weight, gradient in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(weight.grad, gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_copying_is_learnt_in_training(norm):
    model = EncoderDecoder(replace(MINI, norm=norm))
    optimizer = make_optimizer(model, learning_rate=1e-2)
    config = TrainConfig(budget=Budget(steps=100), precision="float32")
    held_out = [Copies().batch(10_000)]
    run = train(
        model,
        Copies(),
        optimizer,
        config=config,
        loss=translation_loss,
        evaluations={
            "held out": lambda model: evaluate_loss(model, held_out, loss=translation_loss)
        },
    )
    assert run.steps[0].loss_nats == pytest.approx(math.log(23), abs=1.2)
    blind = math.log(7)  # the loss without a look at the source
    assert run.steps[-1].evaluations["held out"] < blind / 2
    assert run.steps[0].layers_run == (0, 1, 2, 3, 4)
    assert run.steps[0].flops > 0


def test_dropping_runs_what_was_drawn():
    model = build()
    method = make_method("uniform", model, saving=0.4, seed=1, mode="fixed_count")
    run = train(
        model,
        Copies(),
        make_optimizer(model),
        config=TrainConfig(budget=Budget(steps=10)),
        callbacks=[method],
        loss=translation_loss,
    )
    assert [len(step.layers_run) for step in run] == [3] * 10
    assert {layer for step in run for layer in step.layers_run} == {0, 1, 2, 3, 4}
    assert all(step.flops < step.flops_full for step in run)


def test_sensitivity_is_what_skipping_each_layer_costs():
    model, batches = build(), [(sources(seed), targets(seed + 1)) for seed in range(2)]
    data = calculate_sensitivities(model, batches=batches, loss=translation_loss)
    full = evaluate_loss(model, batches, loss=translation_loss)
    for layer, value in enumerate(data.values):
        with skip_layers(model, {layer}):
            cost = evaluate_loss(model, batches, loss=translation_loss) - full
        assert value == pytest.approx(cost, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 15}, "width=15 must be a multiple of num_heads=2, such as 16"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"num_decoder_layers": 0}, "num_decoder_layers=0 must be at least 1"),
        ({"num_encoder_layers": 1.5}, "num_encoder_layers=1.5 must be a whole number"),
        ({"hidden_width": -1}, "hidden_width=-1 must be at least 1"),
        ({"dropout": 1.0}, r"dropout=1.0 is outside \[0, 1\)"),
        ({"norm": "prenorm"}, "norm='prenorm' is not known"),
        ({"activation": "gleu"}, "did you mean 'gelu'"),
        ({"bias": 1}, "bias=1 must be True or False"),
        ({"end": 23}, r"end=23 is outside the vocabulary's 0..22"),
        ({"end": 1}, "padding, start, end must be different tokens"),
        ({"context_length": 2**30}, "context_length=1073741824 must be at most"),
    ],
)
def test_settings_that_cannot_be(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(MINI, **changes)


def test_the_hidden_width_is_four_times_the_width_unless_told():
    assert MINI.hidden_width == 64
    assert build(hidden_width=5).encoder.blocks[0].feed_forward.hidden.out_features == 5


BAD_INPUTS = {
    "source shape": (lambda: (draw(S), draw(B, T)), r"source of shape \(7,\) must be \[batch"),
    "no source": (lambda: (draw(0, S), draw(0, T)), r"source of shape \(0, 7\)"),
    "target shape": (lambda: (sources(), draw(B, 0)), r"target of shape \(3, 0\)"),
    "rows": (lambda: (sources(), draw(2, T)), "has 2 rows, the source 3"),
    "long source": (lambda: (draw(B, 13), draw(B, T)), "source of 13 tokens .* context_length=12"),
    "long target": (lambda: (sources(), draw(B, 14)), "target of 14 tokens .* context_length=12"),
    "unknown source": (lambda: (sources() + 20, draw(B, T)), "source: token .* vocabulary_size=23"),
    "unknown target": (lambda: (sources(), draw(B, T) - 9), "target: token -.* vocabulary_size=23"),
    "type": (lambda: (sources().float(), draw(B, T)), "source of type torch.float32"),
    "no tensor": (lambda: ([[3, 4]], draw(1, T)), "must be a tensor of tokens"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_inputs_that_do_not_fit(case):
    make, words = BAD_INPUTS[case]
    with pytest.raises(ValueError, match=words):
        build()(*make())


MASKS = {
    "shape": (torch.ones(B, S + 1, dtype=torch.bool), r"source_mask of shape \(3, 8\) .* \(3, 7\)"),
    "one row": (torch.ones(1, S, dtype=torch.bool), r"source_mask of shape \(1, 7\) .* \(3, 7\)"),
    "type": (torch.ones(B, S), "type torch.float32 must have .* torch.bool"),
    "list": ([[True]], "must be a tensor of booleans"),
    "empty": (torch.tensor([[True], [False], [True]]).expand(B, S), "row 1 of 3 is an empty sent"),
}


@pytest.mark.parametrize("case", MASKS)
def test_masks_that_do_not_fit(case):
    mask_BS, words = MASKS[case]
    with pytest.raises(ValueError, match=words):
        build()(sources(), draw(B, T), source_mask_BS=mask_BS)


def test_an_empty_sentence_is_named():
    source_BS = sources()
    source_BS[1] = MINI.padding
    with pytest.raises(ValueError, match="source row 1 of 3 is an empty sentence"):
        build()(source_BS, draw(B, T))


def test_targets_that_do_not_fit():
    targets_BT = targets()
    targets_BT[0, -1] = 23
    with pytest.raises(ValueError, match="23 logits"):
        translation_loss(build(), (sources(), targets_BT))
    with pytest.raises(ValueError, match=r"targets of shape \(5,\) must be \[batch, tokens\]"):
        translation_loss(build(), (sources(), targets_BT[0]))


def test_a_preset_by_a_wrong_name():
    with pytest.raises(ValueError, match="did you mean 'base-2017'"):
        EncoderDecoder.from_preset("base2017")
    with pytest.raises(ValueError, match="must be an EncoderDecoderConfig"):
        EncoderDecoder({"width": 4})  # pyright: ignore


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_save_and_load_give_the_same_model(tmp_path, dtype):
    model = build().to(dtype).eval()
    again = EncoderDecoder.load(model.save(tmp_path)).eval()
    assert again.config == model.config
    shifted_BT = shift_right(sources(), start=1, padding=0)
    assert torch.equal(again(sources(), shifted_BT), model(sources(), shifted_BT))


def test_a_half_by_itself_maps_activations_to_activations():
    x_BSD = torch.linspace(-1, 1, B * S * 16).view(B, S, 16)
    assert build().encoder(x_BSD, torch.ones(B, 1, 1, S, dtype=torch.bool)).shape == x_BSD.shape
