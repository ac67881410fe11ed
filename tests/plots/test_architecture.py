"""The hourglass drawn: boxes, arrows, and the line that nothing may pass."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sbldlib.measure import measure_causality
from sbldlib.models.conv_gpt import PRESETS, ConvGPT
from sbldlib.plots.architecture import plot_architecture, plot_causality
from sbldlib.plots.theme import ORANGE


@pytest.fixture
def ax():
    return Figure(figsize=(7, 3), layout="constrained").subplots()


def boxes(ax) -> list[Rectangle]:
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


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
    found = measure_causality(
        ConvGPT.from_preset("tiny", widths=(8, 16, 32), merge=3),
        torch.zeros(1, 9, dtype=torch.int64),
    )
    plot_causality(ax, found.influence, found.offset)
    (line,) = (line for line in ax.lines if line.get_color() == ORANGE)
    ends = dict(zip(line.get_ydata(), line.get_xdata(), strict=False))
    assert ends[3.5] in (3.5, 4.5) and line.get_xdata().max() == 8.5
    assert line.get_xdata().tolist()[:4] == [0.5, 0.5, 1.5, 1.5]
    drawn = ax.images[0].get_array()
    assert np.array_equal(~np.ma.getmaskarray(drawn), np.tril(np.ones((9, 9))) > 0)
    assert to_rgba(line.get_color()) == to_rgba(ORANGE)
