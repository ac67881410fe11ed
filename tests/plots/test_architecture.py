"""The hourglass drawn: levels by rule are those of a forward pass, and costs add up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from small import gpt, random_batches

from sbldlib.measure import count_flops, measure_causality
from sbldlib.models.conv_gpt import PRESETS, ConvGPT, ConvGPTConfig
from sbldlib.plots.architecture import (
    OUTSIDE,
    Level,
    costs_by_level,
    levels_of,
    plot_architecture,
    plot_causality,
    trace_levels,
)
from sbldlib.plots.theme import ORANGE

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


@pytest.fixture
def ax():
    return Figure(figsize=(7, 3), layout="constrained").subplots()


def boxes(ax) -> list[Rectangle]:
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


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


def test_one_box_a_block_as_tall_as_its_level_and_as_broad_as_its_width(ax):
    plot_architecture(ax, PRESETS["small-ahead"])
    found = boxes(ax)
    heights = [box.get_height() for box in found]
    assert len(found) == 12 and heights == heights[::-1]
    assert heights[0] > heights[1] == heights[2] > heights[3]
    assert found[0].get_width() < found[1].get_width() < found[5].get_width()
    said = [text.get_text() for text in ax.texts]
    assert said.count("4 → 1") == said.count("1 → 4") == 3
    assert said.count("1024\n× 48") == 2 and said.count("16\n× 384") == 1
    edges = [(box.get_x(), box.get_x() + box.get_width()) for box in found]
    assert all(end < start for (_, end), (start, _) in pairwise(edges))


@pytest.mark.parametrize(("name", "arrows"), [("tiny", 2), ("tiny-ahead", 0), ("small", 3)])
def test_what_is_carried_over_is_an_arrow(ax, name, arrows):
    plot_architecture(ax, PRESETS[name])
    drawn = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
    assert len(drawn) == arrows
    ax.figure.draw_without_rendering()


def test_the_line_of_the_targets_parts_what_may_be_seen_from_what_may_not(ax):
    found = measure_causality(ConvGPT(CONV), torch.zeros(1, 9, dtype=torch.int64))
    plot_causality(ax, found.influence, found.offset)
    (line,) = (line for line in ax.lines if line.get_color() == ORANGE)
    ends = dict(zip(line.get_ydata(), line.get_xdata(), strict=False))
    assert ends[3.5] in (3.5, 4.5) and line.get_xdata().max() == 8.5
    assert line.get_xdata().tolist()[:4] == [0.5, 0.5, 1.5, 1.5]
    drawn = ax.images[0].get_array()
    assert np.array_equal(~np.ma.getmaskarray(drawn), np.tril(np.ones((9, 9))) > 0)
    assert to_rgba(line.get_color()) == to_rgba(ORANGE)
