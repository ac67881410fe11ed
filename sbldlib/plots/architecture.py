"""Hourglass models drawn: levels of fewer and wider vectors, and what each of them costs.

For any configuration with the fields of `Hourglass`; a real forward pass gives the same levels.

Legend: B batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from ..dropping.blocks import find_blocks
from ..errors import check_positive_int
from ..losses import evaluation_mode
from ..measure import count_flops, first_tensor
from .filling import plot_influence
from .theme import BLUE, GREY, INK, ORANGE

OUTSIDE = "between levels, head"


class Hourglass(Protocol):
    """What these pictures read of a configuration, such as `ConvGPTConfig`."""

    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def merge(self) -> int: ...
    @property
    def levels(self) -> tuple[int, ...]: ...
    @property
    def context_length(self) -> int: ...
    @property
    def skip_connections(self) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Level:
    """The blocks that work on vectors of one width.

    Attributes:
        num_vectors: on this level, of one row.
        width: numbers in each of them.
        layers: of the blocks, in the order in which they run.
    """

    num_vectors: int
    width: int
    layers: tuple[int, ...]

    @property
    def name(self) -> str:
        """Vectors × width."""
        return f"{self.num_vectors} × {self.width}"


def levels_of(config: Hourglass, num_tokens: int | None = None) -> tuple[Level, ...]:
    """The levels of an hourglass, the tokens' own first, from its configuration alone.

    Args:
        num_tokens: T of a row, >= 1; what a last group lacks is filled up. None is the context.

    Raises:
        ValueError: num_tokens below 1.
    """
    asked = config.context_length if num_tokens is None else num_tokens
    span = config.merge ** (len(config.widths) - 1)
    whole = -(-check_positive_int("num_tokens", asked) // span) * span
    return tuple(
        Level(
            num_vectors=whole // config.merge**level,
            width=width,
            layers=tuple(layer for layer, at in enumerate(config.levels) if at == level),
        )
        for level, width in enumerate(config.widths)
    )


def trace_levels(model: nn.Module, tokens_BT: Tensor) -> tuple[Level, ...]:
    """The levels of any model, most vectors first, from the shapes that its blocks are given.

    Args:
        model: one whose residual blocks are found, each given [B, vectors, D].
        tokens_BT: what its forward pass takes.
    """
    shapes: dict[int, tuple[int, int]] = {}

    def watch(layer: int) -> Callable[..., None]:
        def note(_block: nn.Module, given: tuple) -> None:
            shapes[layer] = (given[0].shape[1], given[0].shape[2])

        return note

    blocks = enumerate(find_blocks(model))
    hooks = [entry.module.register_forward_pre_hook(watch(layer)) for layer, entry in blocks]
    try:
        with evaluation_mode(model):
            model(tokens_BT)
    finally:
        for hook in hooks:
            hook.remove()
    found = sorted(set(shapes.values()), key=lambda shape: (-shape[0], shape[1]))
    return tuple(
        Level(
            num_vectors=shape[0],
            width=shape[1],
            layers=tuple(layer for layer in sorted(shapes) if shapes[layer] == shape),
        )
        for shape in found
    )


def costs_by_level(model: nn.Module, batch: Any) -> dict[str, dict[str, float]]:
    """ "weights" and "FLOPs" of a training step on this batch -> level -> how many.

    What belongs to no level (compressors, expanders, head, tables, last norm) is `OUTSIDE`.

    Args:
        model: as for `trace_levels`.
        batch: (inputs_BT, targets_BT).
    """
    flops = count_flops(model, batch)
    blocks = [entry.module for entry in find_blocks(model)]
    weights = [sum(weight.numel() for weight in block.parameters()) for block in blocks]
    levels = trace_levels(model, first_tensor(batch))
    costs: dict[str, dict[str, float]] = {}
    for name, of_layer, total in (
        ("weights", weights, sum(weight.numel() for weight in model.parameters())),
        ("FLOPs", flops.blocks, flops.full),
    ):
        costs[name] = {
            level.name: float(sum(of_layer[layer] for layer in level.layers)) for level in levels
        }
        costs[name][OUTSIDE] = total - sum(of_layer)
    return costs


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
