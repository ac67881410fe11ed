from __future__ import annotations

import math

import pytest
import torch
from small import EncoderLM, gpt

from sbldlib.training.optimizer import make_optimizer


@pytest.mark.parametrize("make_model", [gpt, EncoderLM])
def test_matrices_and_embeddings_decay_and_nothing_else_does(make_model):
    model = make_model()
    optimizer = make_optimizer(model, weight_decay=0.3)
    decayed, plain = optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    in_decayed = {names[id(p)] for p in decayed["params"]}
    in_plain = {names[id(p)] for p in plain["params"]}
    assert in_decayed.isdisjoint(in_plain)
    assert in_decayed | in_plain == set(names.values())
    assert all(p.ndim == 1 for p in plain["params"]) and all(p.ndim > 1 for p in decayed["params"])
    assert all("norm" in name or "bias" in name for name in in_plain)
    assert any("embedding" in name for name in in_decayed)


def test_decay_shrinks_matrices_alone():
    model = gpt()
    optimizer = make_optimizer(model, learning_rate=0.5, weight_decay=0.2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.5 * 0.2 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_the_defaults_are_gpts():
    optimizer = make_optimizer(gpt())
    assert isinstance(optimizer, torch.optim.AdamW)
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["fused"]) == (3e-3, (0.9, 0.95), True)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_frozen_weights_are_left_out():
    model = gpt()
    model.blocks[0].requires_grad_(False)
    held = {id(p) for group in make_optimizer(model).param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", v) for v in (0, -1.0, math.inf, math.nan, "fast")]
    + [("weight_decay", v) for v in (-0.1, math.inf, math.nan, None)],
)
def test_values_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name}="):
        make_optimizer(gpt(), **{name: value})
