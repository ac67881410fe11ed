"""Pictures of sensitivity: of one measurement, of several side by side, and over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from ..errors import check_choice
from ..records import LayerLists, SensitivityData
from ..sensitivity import Agreement, Stability
from ..sensitivity.ranks import average_ranks
from .axes import layer_ticks
from .theme import BLUE, GREEN, GREY, INK, ORANGE, SKY, literal

RANK = "cividis"  # dark is the most sensitive
CORRELATION = "PuOr"  # told apart in all common forms of colour blindness, white at 0
SYMBOLS = {"spearman": "Spearman's ρ", "kendall": "Kendall's τ"}
NAME_LETTERS = 24  # beside a picture of half a page's width
OUTSTANDING = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."))


def plot_sensitivity(
    ax: Axes, sensitivity_data: SensitivityData, lists: LayerLists | None = None
) -> Axes:
    """One bar a layer with two standard errors; the block list is hatched and named.

    The scale is symmetric-logarithmic where one layer dwarfs the rest.
    """
    values = np.asarray(sensitivity_data.values)
    layers = np.arange(len(values))
    blocked = set(lists.block) if lists is not None else set()
    for is_blocked, colour, hatch, label in (
        (True, ORANGE, "//", "block list: never dropped"),
        (False, BLUE, "", "allow list: may be dropped" if lists is not None else None),
    ):
        chosen = np.array([(layer in blocked) == is_blocked for layer in layers])
        if chosen.any():
            ax.bar(
                layers[chosen], values[chosen], color=colour, hatch=hatch, label=label,
                edgecolor="white",
            )  # fmt: skip
    errors = 2 * np.asarray(sensitivity_data.standard_errors)
    ax.errorbar(layers, values, yerr=errors, fmt="none", color=INK, capsize=3, linewidth=1)
    if values.max() > 20 * max(np.median(np.abs(values)), 1e-12):
        ax.set_yscale("symlog", linthresh=max(float(np.median(np.abs(values))), 1e-4))
    ax.axhline(0, color=INK, linewidth=0.8)
    unit = literal(sensitivity_data.unit)
    scale = ",\nlogarithmic away from 0" if ax.get_yscale() == "symlog" else ""
    ax.set(xlabel="layer", ylabel=f"sensitivity ({unit}){scale}")
    ax.set_xticks(layer_ticks(len(layers)))
    if lists is not None:
        ax.legend()
    return ax


def plot_estimators(
    ax: Axes,
    measured: Mapping[str, SensitivityData],
    *,
    of: str = "rank",
    labels: Sequence[str] | None = None,
) -> Axes:
    """Each estimator side by side, a column a layer; dark is the most sensitive.

    Args:
        of: "rank", 1 the most sensitive, equal values share their mean rank; or "value", its place
            between the estimator's lowest, 0, and highest, 100. Never the values themselves, for
            the estimators' units differ.
        labels: what the rows are called, one each; the default is their names.

    Raises:
        ValueError: `of` is neither; or an estimator gives all layers one value, which has no place.
    """
    rows_EL = np.stack([SCALES[check_choice("of", of, SCALES)](data) for data in measured.values()])
    num_layers = rows_EL.shape[1]
    low, high, colours = (1, num_layers, RANK) if of == "rank" else (0, 100, f"{RANK}_r")
    ax.imshow(rows_EL, aspect="auto", cmap=colours, vmin=low, vmax=high)
    texts = [[f"{cell:g}" if of == "rank" else f"{cell:.0f}" for cell in row] for row in rows_EL]
    _write_in_cells(ax, rows_EL, texts, colours, low=low, high=high)
    ax.set(xlabel="layer", xticks=layer_ticks(num_layers))
    ax.set_yticks(range(len(measured)), labels=labels or list(map(literal, measured)))
    ax.tick_params(length=0)
    return ax


def plot_rank_slopes(ax: Axes, first: SensitivityData, second: SensitivityData) -> Axes:
    """Each layer's rank by two estimators, left and right; the layers that move farthest stand out.

    A layer that both rank alike is a level line; lines that cross are pairs in dispute.
    """
    ranks_2L = np.stack([ranks_of(first), ranks_of(second)])
    num_layers = ranks_2L.shape[1]
    moved = set(layers_farthest_apart(first, second))
    for is_farthest, style in (
        (False, {"color": BLUE, "linewidth": 1.2, "label": "a layer"}),
        (True, {"color": ORANGE, "linewidth": 2.6, "linestyle": "--", "label": "farthest apart"}),
    ):
        chosen = [layer for layer in range(num_layers) if (layer in moved) == is_farthest]
        lines = ax.plot([0, 1], ranks_2L[:, chosen], marker="o", markersize=4, **style)
        for line in lines[1:]:
            line.set_label("_")  # one entry a kind
    for side, align, ranks in ((0, "right", ranks_2L[0]), (1, "left", ranks_2L[1])):
        for rank in np.unique(ranks):
            layers = ", ".join(str(layer) for layer in np.flatnonzero(ranks == rank))
            ax.annotate(
                layers, (side, rank), xytext=(-8 if side == 0 else 8, 0), ha=align, va="center",
                textcoords="offset points", color=INK, fontsize=10, annotation_clip=False,
            )  # fmt: skip
    ax.set(ylabel="rank (1 = most\nsensitive)", yticks=[1, num_layers], xlim=(-0.12, 1.12))
    ax.invert_yaxis()
    ax.spines["bottom"].set_visible(False)
    return ax


def short_name(name: str) -> str:
    """A name as it is, or its beginning where it would take an axis's room."""
    return literal(name if len(name) <= NAME_LETTERS else f"{name[: NAME_LETTERS - 1]}…")


def ranks_of(data: SensitivityData) -> np.ndarray:
    """Rank of each layer, 1 the most sensitive; equal values share their mean rank."""
    return average_ranks(-np.asarray(data.values))


def layers_farthest_apart(first: SensitivityData, second: SensitivityData) -> tuple[int, ...]:
    """The layers whose two ranks differ most; none where the two orders are the same."""
    apart = np.abs(ranks_of(first) - ranks_of(second))
    return tuple(np.flatnonzero((apart == apart.max()) & (apart > 0)).tolist())


def _place(data: SensitivityData) -> np.ndarray:
    """Each value's place between the lowest, 0, and the highest, 100."""
    values = np.asarray(data.values)
    if np.ptp(values) == 0:
        raise ValueError(f"{data.method!r} has one value for all layers: it gives them no place")
    return 100 * (values - values.min()) / np.ptp(values)


SCALES = {"rank": ranks_of, "value": _place}


def plot_agreement(ax: Axes, found: Agreement, *, of: str = "spearman") -> Axes:
    """Rank correlations of each pair, with their intervals, in a square of cells.

    Args:
        of: "spearman" or "kendall".
    """
    cells = [[found.pair(row, column, of=of) for column in found.names] for row in found.names]
    values = np.array([[value for value, _, _ in row] for row in cells])
    texts = [
        ["" if row == column else _with_interval(*cell) for column, cell in enumerate(line)]
        for row, line in enumerate(cells)
    ]
    ax.imshow(values, cmap=CORRELATION, vmin=-1, vmax=1)
    _write_in_cells(ax, values, texts, CORRELATION, low=-1, high=1)
    names = [literal(name).replace("_", "\n") for name in found.names]
    ax.set_xticks(range(len(names)), labels=names)
    ax.set_yticks(range(len(names)), labels=names)
    ax.tick_params(length=0)
    ax.set_xlabel(f"{SYMBOLS[of]}, {found.confidence:.0%} interval over batches")
    return ax


def plot_stability(ax: Axes, found: Stability) -> Axes:
    """Each layer's rank at each checkpoint; the layers that end as the first three stand out."""
    ranks = np.asarray(found.ranks)
    num_layers = ranks.shape[1]
    last = np.argsort(ranks[-1], kind="stable")
    for layer in range(num_layers):
        place = int(np.flatnonzero(last == layer)[0])
        colour, line = OUTSTANDING[place] if place < len(OUTSTANDING) else (GREY, "-")
        width = 2.4 if place < len(OUTSTANDING) else 1.0
        ax.plot(
            found.iterations, ranks[:, layer], color=colour, linestyle=line, linewidth=width,
            marker="o", markersize=4, zorder=3 if width > 2 else 2,
        )  # fmt: skip
        ax.annotate(
            f" {layer}", (found.iterations[-1], ranks[-1, layer]), color=colour, va="center"
        )
    ax.set(
        xlabel="training step", ylabel="rank (1 = most sensitive)", yticks=range(1, num_layers + 1)
    )
    ax.invert_yaxis()
    ax.margins(x=0.08)
    return ax


def plot_rank_correlation(ax: Axes, found: Stability) -> Axes:
    """How each checkpoint's order correlates with the last one's, with the interval."""
    low, high = np.asarray(found.with_last_low), np.asarray(found.with_last_high)
    ax.fill_between(found.iterations, low, high, color=SKY, alpha=0.35, linewidth=0)
    ax.plot(found.iterations, found.with_last, color=BLUE, marker="o", label="with the last")
    ax.plot(
        found.iterations[1:], found.with_previous[1:], color=ORANGE, linestyle="--", marker="s",
        markersize=4, label="with the one before",
    )  # fmt: skip
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set(
        xlabel="training step",
        ylabel=f"rank correlation ({SYMBOLS['spearman']})",
        ylim=(-1.05, 1.05),
    )
    ax.legend(loc="lower right")
    return ax


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f}\n[{low:.2f},\n{high:.2f}]"


def _write_in_cells(
    ax: Axes,
    values: np.ndarray,
    texts: Sequence[Sequence[str]],
    colours: str,
    *,
    low: float = 1,
    high: float | None = None,
) -> None:
    """Text in each cell, light on dark cells and dark on light ones."""
    scale = Normalize(low, float(values.max()) if high is None else high)
    for (row, column), value in np.ndenumerate(values):
        red, green, blue, _ = colormaps[colours](scale(value))
        is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        colour, text = "white" if is_dark else INK, str(texts[row][column])
        ax.text(
            column, row, text, ha="center", va="center",
            fontsize=min(9, 150 / values.shape[1]), color=colour,
        )  # fmt: skip
