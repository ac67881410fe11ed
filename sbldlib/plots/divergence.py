"""A model that begins as a few blocks: who shares which, what learns, and how layers diverge."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..measure.stages import StageCount
from ..models.diverging_gpt_config import DivergingGPTConfig
from .axes import layer_ticks
from .theme import BLUE, GREY, INK, ORANGE, PROBABILITY

FROZEN = "//"  # hatching of what stands still
NOT_YET = "#f2f2f2"
DISTANCE = "distance of the weights"
SMALL_SEEN = 0.4  # exponent of the colours: copies are near each other, and would all look alike
MOST_LABELS = 14  # one above the other; more would overlap
_LIGHT = 0.55  # from this luminance on, letters on a colour are dark


def stage_bounds(at: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Begin and end of each stage, as shares of the run.

    Args:
        at: progress at which each later stage begins, ascending, in (0, 1).
    """
    return tuple(pairwise((0.0, *at, 1.0)))


def plot_sharing(ax: Axes, config: DivergingGPTConfig, at: Sequence[float]) -> Axes:
    """Which places share a block over the run: one field a block, places from below to above.

    A block keeps its colour through the stages; a field that is hatched holds attention still.

    Args:
        config: of the model.
        at: progress at which each later stage begins, one a later stage.
    """
    stages = range(len(config.stages))
    for stage, (begin, end) in zip(stages, stage_bounds(at), strict=True):
        now = _at_stage(config, stage)
        is_frozen = now.is_between and now.freeze_attention
        leaders = now.leaders[: now.num_running]
        for leader in sorted(set(leaders)):
            num = leaders.count(leader)
            _field(ax, (begin, end), (leader, num), config.num_layers, is_frozen)
            if end - begin > 0.07 and num * MOST_LABELS >= config.num_layers:
                named = f"block {leader}" + (f" × {num}" if num > 1 else "")
                middle = ((begin + end) / 2, leader + num / 2 - 0.5)
                _label(ax, middle, named, _colour(leader, config.num_layers), is_frozen)
        if now.num_running < config.num_layers:
            low, high = now.num_running - 0.5, config.num_layers - 0.5
            ax.add_patch(
                Rectangle((begin, low), end - begin, high - low, facecolor=NOT_YET, edgecolor=GREY)
            )
            ax.text((begin + end) / 2, (low + high) / 2, "not yet", ha="center", va="center")
    ax.set(
        xlim=(0, 1), ylim=(-0.5, config.num_layers - 0.5), xlabel="share of the run",
        ylabel="place", yticks=layer_ticks(config.num_layers),
    )  # fmt: skip
    return ax


def plot_stage_costs(ax: Axes, stages: Sequence[StageCount], at: Sequence[float]) -> Axes:
    """Weights that learn and operations a token over the run, in percent of the last stage's.

    Args:
        stages: of `count_stages`, whose last one is an ordinary GPT.
        at: progress at which each later stage begins.
    """
    last, bounds = stages[-1], [0.0, *at, 1.0]
    rows = {
        "weights that learn": ([stage.learning / last.learning for stage in stages], BLUE, "-"),
        "FLOPs a token": (
            [stage.flops_per_token / last.flops_per_token for stage in stages], ORANGE, "--",
        ),
    }  # fmt: skip
    for name, (shares, colour, line) in rows.items():
        ends = 100 * np.array([*shares, shares[-1]])
        ax.step(bounds, ends, where="post", color=colour, linestyle=line, label=name)
    ax.set(xlim=(0, 1), ylim=(0, 118), xlabel="share of the run", ylabel="% of a GPT's")
    ax.legend(loc="lower right")
    return ax


def draw_growth(
    figure: Figure,
    config: DivergingGPTConfig,
    stages: Sequence[StageCount],
    at: Sequence[float],
) -> tuple[Axes, Axes]:
    """Who shares which block over a run, and below it what each stage learns and costs."""
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.7, 1))
    plot_sharing(upper, config, at).set_xlabel("")
    plot_stage_costs(lower, stages, at)
    if config.freeze_attention and len(config.stages) > 2:
        frozen = Patch(facecolor="white", edgecolor=INK, hatch=FROZEN, label="attention frozen")
        upper.legend(
            handles=[frozen], loc="lower right", bbox_to_anchor=(1, 1), fontsize=9,
            borderaxespad=0.1,
        )  # fmt: skip
    return upper, lower


def plot_low_rank(ax: Axes, outputs: int, inputs: int, rank: int) -> Axes:
    """A frozen matrix and its low-rank change, drawn to scale with their shapes.

    Args:
        outputs, inputs: of the matrix.
        rank: of the change.
    """
    gap = 0.45 * inputs
    matrices = (
        ("W", (outputs, inputs), GREY, FROZEN, "stands still"),
        ("up", (outputs, rank), BLUE, "", "learns"),
        ("down", (rank, inputs), BLUE, "", "learns"),
    )
    left = 0.0
    for place, (name, (high, wide), colour, hatch, does) in enumerate(matrices):
        ax.add_patch(
            Rectangle(
                (left, -high / 2), wide, high, facecolor=colour, edgecolor="white", hatch=hatch
            )
        )
        said = f"{name}\n{high} × {wide}\n{does}"
        middle = left + wide / 2
        ax.text(middle, -outputs / 2 - 0.05 * outputs, said, ha="center", va="top", fontsize=9)
        if place < 2:
            ax.text(left + wide + gap / 2, 0, "+@"[place], ha="center", va="center", fontsize=15)
        left += wide + gap
    ax.set(xlim=(-0.2 * inputs, left - gap + 0.2 * inputs), ylim=(-0.85 * outputs, 0.55 * outputs))
    ax.set_aspect("equal")
    ax.axis("off")
    return ax


def plot_neighbours(
    ax: Axes, steps: Sequence[int], neighbours: np.ndarray, *, switches: Sequence[int] = ()
) -> Axes:
    """Distance of each layer's weights from the next one's over training, as a heat map.

    Args:
        steps: done at each measurement, ascending, at least two.
        neighbours: [measurements, L - 1]; NaN is left white.
        switches: steps at which a later stage begins, marked.
    """
    num = neighbours.shape[1]
    middles = [(one + other) / 2 for one, other in pairwise(steps)]
    edges = [steps[0], *middles, steps[-1]]
    image = ax.pcolormesh(
        edges, np.arange(num + 1) - 0.5, neighbours.T, cmap=PROBABILITY, norm=_distances(),
    )  # fmt: skip
    ax.set_yticks(range(num), labels=[f"{layer}–{layer + 1}" for layer in range(num)])
    ax.set(xlabel="step", ylabel="neighbouring places")
    mark_switches(ax, switches)
    ax.figure.colorbar(image, ax=ax, label=DISTANCE, ticks=_TICKS)
    return ax


def plot_layer_pairs(
    ax: Axes,
    values_LL: np.ndarray,
    *,
    label: str = DISTANCE,
    limits: tuple[float, float] | None = None,
) -> Axes:
    """A number for each two layers, as a heat map with the numbers in its fields.

    Args:
        values_LL: [L, L]; NaN is left white.
        label: of the colours.
        limits: of the colours; None for distances, whose small values are told apart.
    """
    num, scale = len(values_LL), Normalize(*limits) if limits else _distances()
    decimals = 2 if num <= 8 else 1
    image = ax.imshow(values_LL, cmap=PROBABILITY, norm=scale, origin="lower")
    for (row, column), value in np.ndenumerate(values_LL):
        if np.isfinite(value) and num <= 12:
            dark = scale(value) > _LIGHT
            ax.text(
                column, row, f"{round(value, decimals) + 0.0:.{decimals}f}", ha="center",
                va="center", fontsize=8, color=INK if dark else "white",
            )  # fmt: skip
    ticks = layer_ticks(num)
    ax.set(xlabel="place", ylabel="place", xticks=ticks, yticks=ticks)
    marks = None if limits else _TICKS
    ax.figure.colorbar(image, ax=ax, label=label, shrink=0.8, ticks=marks)
    return ax


def mark_switches(ax: Axes, switches: Sequence[int]) -> Axes:
    """A dotted line at each step at which a later stage begins; seen on dark and on light."""
    for place, step in enumerate(switches):
        label = "a stage begins" if place == 0 else None
        ax.axvline(step, color="white", linewidth=2.4, zorder=1.5)  # below the data's lines
        ax.axvline(step, color=INK, linewidth=1.2, linestyle=":", label=label, zorder=1.6)
    return ax


_TICKS = (0, 0.01, 0.1, 0.3, 1)


def _distances() -> PowerNorm:
    return PowerNorm(SMALL_SEEN, vmin=0, vmax=1, clip=True)


def _at_stage(config: DivergingGPTConfig, stage: int) -> DivergingGPTConfig:
    return DivergingGPTConfig(**{**vars(config), "stage": stage})


def _field(
    ax: Axes, bounds: tuple[float, float], places: tuple[int, int], num_layers: int, frozen: bool
) -> None:
    (begin, end), (leader, num) = bounds, places
    ax.add_patch(
        Rectangle(
            (begin, leader - 0.5), end - begin, num, facecolor=_colour(leader, num_layers),
            edgecolor="white", linewidth=1.5, hatch=FROZEN if frozen else "",
        )
    )  # fmt: skip


def _label(
    ax: Axes,
    middle: tuple[float, float],
    text: str,
    colour: tuple[float, float, float, float],
    is_hatched: bool,
) -> None:
    red, green, blue, _ = colour
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > _LIGHT
    behind = {"facecolor": colour, "edgecolor": "none", "pad": 0.5} if is_hatched else None
    ax.text(
        *middle, text, ha="center", va="center", fontsize=9, bbox=behind,
        color=INK if is_light else "white",
    )  # fmt: skip


def _colour(leader: int, num_layers: int) -> tuple[float, float, float, float]:
    return mpl.colormaps[PROBABILITY](0.15 + 0.8 * leader / max(1, num_layers - 1))
