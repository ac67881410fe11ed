"""Hourglass models drawn: levels of fewer and wider vectors, and what each output depends on.

Legend: T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..measure.levels import Hourglass, Level, levels_of
from .filling import plot_influence
from .theme import BLUE, GREY, INK, ORANGE


def plot_architecture(ax: Axes, config: Hourglass, num_tokens: int | None = None) -> Axes:
    """The blocks from left to right: tall is many vectors, broad is many numbers in each.

    Orange lines merge or expand, dashed ones carry over to the way out what a level held.

    Args:
        num_tokens: as for `levels_of`.
    """
    levels = levels_of(config, num_tokens)
    heights = [1 + np.log2(level.num_vectors) for level in levels]
    x, edges = 0.0, []
    for layer, at in enumerate(config.levels):
        breadth, height = 0.28 + 0.55 * np.sqrt(levels[at].width / config.widths[-1]), heights[at]
        if layer and config.levels[layer - 1] != at:
            before = heights[config.levels[layer - 1]]
            for side in (-0.5, 0.5):
                ax.plot([x, x + 0.75], [side * before, side * height], color=ORANGE)
            verb = f"{config.merge} → 1" if height < before else f"1 → {config.merge}"
            ax.text(x + 0.375, 0, verb, ha="center", va="center", fontsize=9, color=ORANGE)
            x += 0.75
        elif layer:
            x += 0.16
        ax.add_patch(Rectangle((x, -height / 2), breadth, height, facecolor=BLUE, edgecolor=INK))
        ax.text(x + breadth / 2, 0, str(layer), ha="center", va="center", color="white")
        edges.append((x, x + breadth))
        x += breadth
    _name_levels(ax, levels, heights, edges)
    if config.skip_connections:
        _draw_skips(ax, levels, heights, edges)
    ax.set(xlim=(-0.1, x + 0.1), ylim=(-0.5 * heights[0] - 2.4, 0.5 * heights[0] + 0.6))
    ax.axis("off")
    return ax


def plot_causality(ax: Axes, influence: Sequence[Sequence[float]], offset: int) -> Axes:
    """A measured map of influence, with a line before each output's target: nothing may pass it.

    Args:
        influence: row i, column j, as `Causality` has it.
        offset: the target of output i is token i + offset.
    """
    rows_TT = np.asarray(influence, dtype=float)
    plot_influence(ax, rows_TT)
    T = len(rows_TT)
    edges = np.repeat(np.arange(T + 1), 2)[1:-1] - 0.5
    ends = np.minimum(np.repeat(np.arange(T) + offset, 2), T) - 0.5
    ax.plot(ends, edges, color=ORANGE, linewidth=1.6, label="target: nothing right of it")
    ax.set(xlabel="token j", ylabel="output i", xlim=(-0.5, T - 0.5), ylim=(T - 0.5, -0.5))
    return ax


def _name_levels(ax: Axes, levels: Sequence[Level], heights: Any, edges: Any) -> None:
    """Vectors × width under each level's blocks, on the way in and on the way out."""
    low = -0.5 * heights[0] - 0.35
    for level in levels:
        half = len(level.layers) // 2
        runs = (
            (level.layers,) if level is levels[-1] else (level.layers[:half], level.layers[half:])
        )
        for run in runs:
            middle = (edges[run[0]][0] + edges[run[-1]][1]) / 2
            ax.text(
                middle, low, f"{level.num_vectors}\n× {level.width}", ha="center", va="top",
                fontsize=10, color=INK,
            )  # fmt: skip


def _draw_skips(ax: Axes, levels: Sequence[Level], heights: Any, edges: Any) -> None:
    for level, height in zip(levels[:-1], heights[:-1], strict=True):
        half = len(level.layers) // 2
        start, end = edges[level.layers[half - 1]][1], edges[level.layers[half]][0]
        y = 0.5 * height - 0.25
        ax.annotate(
            "", (end, y), (start, y),
            arrowprops={"arrowstyle": "->", "linestyle": "--", "color": GREY},
        )  # fmt: skip
