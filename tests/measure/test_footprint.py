from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small import gpt

from sbldlib.losses import next_token_loss
from sbldlib.measure import count_flops, count_saved_bytes
from sbldlib.measure.footprint import (
    Footprint,
    block_bytes,
    num_weights,
    outside_bytes,
    predict_footprint,
)
from sbldlib.models.gpt import GPT, PRESETS, GPTConfig

# Rows, tokens a row, and what differs from the small model: L, D, H, V, biases, activation.
SHAPES = [
    (3, 8, {}),
    (1, 1, {}),
    (2, 5, {"num_layers": 2, "num_heads": 1}),
    (4, 8, {"width": 24, "num_heads": 3, "vocabulary_size": 77}),
    (2, 64, {"context_length": 64, "width": 32, "num_heads": 8, "bias": False}),
    (5, 7, {"num_layers": 2, "activation": "gelu", "vocabulary_size": 300}),
]


def in_bfloat16(model, batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return next_token_loss(model, batch)


def made(rows: int, tokens: int, changes: dict):
    model = gpt(**changes)
    V = model.config.vocabulary_size
    drawn = torch.randint(V, (2, rows, tokens), generator=torch.Generator().manual_seed(0))
    return model, (drawn[0].clone(), drawn[1].clone())


def foretold(model: GPT, batch, **settings) -> Footprint:
    rows, tokens = batch[0].shape
    return predict_footprint(model.config, batch_size=rows, num_tokens=tokens, **settings)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "tokens", "changes"), SHAPES)
def test_what_is_kept_is_foretold_to_the_byte(rows, tokens, changes, precision):
    model, batch = made(rows, tokens, changes)
    is_half = precision == "bfloat16"
    counted = count_saved_bytes(model, batch, loss=in_bfloat16 if is_half else next_token_loss)
    each = block_bytes(model.config, rows, tokens, is_half=is_half)
    assert counted.blocks == (each,) * model.config.num_layers
    assert counted.outside == outside_bytes(model.config, rows, tokens, is_half=is_half)
    found = foretold(model, batch, precision=precision)
    assert found.activations == counted.full and found.recomputed == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "tokens", "changes"), SHAPES)
def test_under_recomputation_blocks_keep_their_inputs(rows, tokens, changes, precision):
    model, batch = made(rows, tokens, changes)
    model.activation_recomputation = True
    loss = in_bfloat16 if precision == "bfloat16" else next_token_loss
    found = foretold(model, batch, precision=precision, activation_recomputation=True)
    assert found.activations == count_saved_bytes(model, batch, loss=loss).full
    is_half = precision == "bfloat16"
    assert found.recomputed == block_bytes(model.config, rows, tokens, is_half=is_half)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(("rows", "tokens", "changes"), SHAPES)
def test_operations_are_those_that_are_counted(rows, tokens, changes, again):
    model, batch = made(rows, tokens, changes)
    model.activation_recomputation = again
    found = foretold(model, batch, activation_recomputation=again)
    assert found.flops == count_flops(model, batch).full
    assert found.tokens == rows * tokens


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", PRESETS)
def test_weights_are_those_of_the_model(name, bias):
    config = replace(PRESETS[name], bias=bias)
    with torch.device("meta"):
        model = GPT(config)
    assert num_weights(config) == model.num_parameters()


def test_state_is_of_the_weights_and_the_moments_are_adamw_s():
    model, batch = made(3, 8, {})
    optimizer = torch.optim.AdamW(model.parameters())
    next_token_loss(model, batch).backward()
    optimizer.step()
    found = foretold(model, batch)
    weights = [p for p in model.parameters()]
    assert found.weights == sum(p.numel() * p.element_size() for p in weights)
    assert found.gradients == sum(p.grad.numel() * p.grad.element_size() for p in weights)
    kept = [v for state in optimizer.state.values() for v in state.values() if v.ndim]
    assert found.moments == sum(v.numel() * v.element_size() for v in kept)


def test_the_parts_add_up_and_time_follows_from_the_rate():
    found = predict_footprint(PRESETS["gpt2-124m"], batch_size=8)
    assert found.total == sum(found.parts.values()) and len(found.parts) == 5
    assert found.parameters == pytest.approx(124.4e6, rel=1e-3)
    assert found.seconds(found.flops / 2) == pytest.approx(2)
    assert Footprint.from_json(found.to_json()) == found


def test_the_context_is_the_default_and_activations_grow_with_tokens_alone():
    config = PRESETS["tiny"]
    whole = predict_footprint(config, batch_size=4)
    assert whole == predict_footprint(config, batch_size=4, num_tokens=64)
    quarter = predict_footprint(config, batch_size=1)
    assert 4 * quarter.activations == whole.activations + 3 * 4  # one number is a batch's
    assert quarter.weights == whole.weights


def test_a_large_model_is_foretold_without_being_made():
    gpt2 = GPTConfig(
        vocabulary_size=50257, context_length=1024, num_layers=48, num_heads=25, width=1600
    )
    found = predict_footprint(gpt2, batch_size=1, precision="bfloat16")
    assert found.parameters == 1_557_611_200


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({}, {"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({}, {"num_tokens": 65}, "num_tokens=65 is more than context_length=64"),
        ({}, {"precision": "float16"}, r"precision='float16' is not known \(did you mean"),
        ({}, {"activation_recomputation": 1}, "activation_recomputation=1 must be True or False"),
        ({"dropout": 0.1}, {}, r"dropout=0.1 keeps masks"),
    ],
)
def test_what_cannot_be_foretold_is_refused(changes, settings, message):
    config = replace(PRESETS["tiny"], **changes)
    with pytest.raises(ValueError, match=message):
        predict_footprint(config, **{"batch_size": 2, **settings})


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"flops_per_second=0 is outside \(0, inf\]"):
        predict_footprint(PRESETS["tiny"], batch_size=1).seconds(0)
    with pytest.raises(ValueError, match="config='tiny' must be a GPTConfig"):
        predict_footprint("tiny", batch_size=1)
