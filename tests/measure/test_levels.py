"""Levels by rule are those of a forward pass, and their costs add up."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from small import gpt, random_batches

from sbldlib.measure import count_flops
from sbldlib.measure.levels import OUTSIDE, Level, costs_by_level, levels_of, trace_levels
from sbldlib.models.conv_gpt import PRESETS, ConvGPT, ConvGPTConfig

CONV = ConvGPTConfig(
    vocabulary_size=32, context_length=64, widths=(8, 16, 32), num_heads=2, merge=3
)


@dataclass(frozen=True)
class Other:
    """An hourglass that is not the kit's."""

    widths: tuple[int, ...] = (10, 20)
    merge: int = 2
    levels: tuple[int, ...] = (0, 0, 1, 0)
    context_length: int = 8
    skip_connections: bool = True


def test_the_sources_shape_has_four_levels():
    levels = levels_of(PRESETS["small-ahead"])
    assert [level.name for level in levels] == ["1024 × 48", "256 × 96", "64 × 192", "16 × 384"]
    assert [level.layers for level in levels] == [(0, 11), (1, 2, 9, 10), (3, 4, 7, 8), (5, 6)]


@pytest.mark.parametrize("num_tokens", [1, 9, 30, 54])
@pytest.mark.parametrize("target", ["next", "ahead"])
def test_levels_by_rule_are_those_of_a_forward_pass(target, num_tokens):
    model = ConvGPT.from_preset("tiny", target=target, widths=(8, 16, 32), merge=3)
    tokens_BT = torch.zeros(2, num_tokens, dtype=torch.int64)
    assert trace_levels(model, tokens_BT) == levels_of(model.config, num_tokens)


def test_a_gpt_is_one_level_and_keeps_no_hooks():
    model = gpt()
    assert trace_levels(model, random_batches(1)[0][0]) == (
        Level(num_vectors=8, width=16, layers=(0, 1, 2, 3)),
    )
    assert not any(block._forward_pre_hooks for block in model.blocks)


def test_any_hourglass_has_levels():
    assert [level.layers for level in levels_of(Other())] == [(0, 1, 3), (2,)]
    assert [level.num_vectors for level in levels_of(Other(), 3)] == [4, 2]


@pytest.mark.parametrize("num_tokens", [0, -1, 2.5])
def test_a_number_of_tokens_that_is_none_is_refused(num_tokens):
    with pytest.raises(ValueError, match="num_tokens="):
        levels_of(CONV, num_tokens)


def test_costs_add_up_to_the_whole_model():
    model = ConvGPT(CONV)
    batch = (torch.zeros(2, 27, dtype=torch.int64),) * 2
    costs = costs_by_level(model, batch)
    names = ["27 × 8", "9 × 16", "3 × 32", OUTSIDE]
    assert list(costs["weights"]) == list(costs["FLOPs"]) == names
    assert sum(costs["weights"].values()) == model.num_parameters()
    assert sum(costs["FLOPs"].values()) == pytest.approx(count_flops(model, batch).full)
    assert costs["weights"]["3 × 32"] == 2 * (12 * 32**2 + 13 * 32)
    assert costs["FLOPs"]["3 × 32"] == 2 * 2 * 3 * (6 * 12 * 32**2 + 12 * 3 * 32)
