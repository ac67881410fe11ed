"""Comparisons drawn: paired differences with intervals, and methods as heat-maps.

Legend: T steps, L layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from ..comparison import ComparisonSummary
from ..comparison.summary import CONTROLS, UNRESOLVED, Difference
from ..methods import METHODS
from .theme import BLUE, GREY, INK, ORANGE, PINK, PROBABILITY, literal

LABELS = {"validation_loss": "loss on new text (nats/token)", "accuracy": "exact answers (share)"}
MARKER_SIZE = 7
STUDY_STYLE = ((INK, "s"), (ORANGE, "D"), (GREY, "^"), (PINK, "v"))


def arm_style(name: str) -> dict[str, Any]:
    """Colour and marker of an arm: SBLD and its variants, controls, and the field."""
    root = name.partition(",")[0]
    if root in CONTROLS:
        return {"color": INK, "marker": "s"}
    if root in METHODS and root != "sbld":
        return {"color": ORANGE, "marker": "^"}
    return {"color": BLUE, "marker": "o"}  # a search names its arms by what they change in SBLD


def differences(
    summary: ComparisonSummary,
    budget: str,
    *,
    metric: str = "validation_loss",
    reference: str | None = None,
) -> dict[str, Difference]:
    """Each arm's paired difference to the reference arm, lowest first.

    An arm that has no result, for its pre-analysis alone is more than the budget, is left out.

    Args:
        summary: of a comparison.
        budget: of the table.
        metric: of the results, such as "validation_loss".
        reference: an arm of that table; None is the table's own.
    """
    table = summary.table(budget)
    known: str = reference or table["reference"]
    arms = [row["arm"] for row in table["rows"] if metric in row and row["arm"] != known]
    gaps = {arm: summary.difference(budget, arm, known, metric=metric) for arm in arms}
    paired = [(gap.mean, arm) for arm, gap in gaps.items() if gap.mean is not None]
    return {arm: gaps[arm] for _, arm in sorted(paired)}


def plot_differences(
    ax: Axes,
    summary: ComparisonSummary,
    budget: str,
    *,
    metric: str = "validation_loss",
    reference: str | None = None,
) -> Axes:
    """Every arm's paired difference to the reference arm, with its 95 % interval.

    A hollow marker is a difference that these seeds do not resolve.

    Args:
        summary, budget, metric, reference: as in `differences`.
    """
    gaps = differences(summary, budget, metric=metric, reference=reference)
    for place, (arm, gap) in enumerate(reversed(gaps.items())):
        _mark(ax, place, gap.to_dict(), **arm_style(arm))
    ax.axvline(0, color=GREY, linewidth=1.0, linestyle="--")
    ax.set_yticks(np.arange(len(gaps)), [literal(arm) for arm in gaps][::-1])
    ax.set_ylim(-0.6, len(gaps) - 0.4)
    reference = reference or summary.table(budget)["reference"]
    shown = LABELS.get(metric) or literal(metric)
    ax.set_xlabel(f"{shown},\nless {literal(str(reference))}'s")
    ax.grid(axis="y", visible=False)
    _name_families(ax, gaps)
    return ax


def plot_study(
    ax: Axes,
    differences: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    xlabel: str = "loss on new text (nats/token), less SBLD's",
) -> Axes:
    """One line a setting, one marker a control: how far it lies from SBLD, with its interval.

    Args:
        differences: setting -> control -> a `Difference` as plain values, control less SBLD:
            left of zero the control is better.
        xlabel: of the axis.
    """
    controls = list(dict.fromkeys(name for found in differences.values() for name in found))
    styles = dict(zip(controls, STUDY_STYLE, strict=False))
    offsets = dict(zip(controls, np.linspace(0.18, -0.18, len(controls)), strict=True))
    for place, found in enumerate(reversed(list(differences.values()))):
        for name, gap in found.items():
            colour, marker = styles[name]
            _mark(ax, place + offsets[name], gap, color=colour, marker=marker)
    ax.axvline(0, color=BLUE, linewidth=1.2, linestyle="--")
    ax.set_yticks(np.arange(len(differences)), [literal(name) for name in differences][::-1])
    ax.set_ylim(-0.6, len(differences) - 0.4)
    ax.set_xlabel(xlabel)
    ax.grid(axis="y", visible=False)
    handles = [_handle(name, colour, marker) for name, (colour, marker) in styles.items()]
    ax.legend(handles=[*handles, _handle("unresolved", GREY, "o", hollow=True)])
    return ax


def plot_field(
    figure: Figure | SubFigure, tables: Mapping[str, np.ndarray], *, num_columns: int = 4
) -> Figure | SubFigure:
    """Keep probability by layer and time, one small heat-map a method, one scale for all.

    Args:
        figure: empty, with a constrained layout.
        tables: method's name -> its keep probabilities, [T, L], in [0, 1]; every row an equal
            part of the run.
        num_columns: of heat-maps, >= 1.
    """
    num_rows = -(-len(tables) // num_columns)
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    axes = list(grid.flat)
    for ax, (name, table_TL) in zip(axes, tables.items(), strict=False):
        num_layers = table_TL.shape[1]
        image = ax.imshow(
            table_TL.T, aspect="auto", origin="lower", interpolation="nearest",
            extent=(0, 1, -0.5, num_layers - 0.5), cmap=PROBABILITY, vmin=0, vmax=1,
        )  # fmt: skip
        ax.set_title(literal(name), fontsize="medium")
        ax.set(xticks=[0, 0.5, 1], yticks=range(0, num_layers, max(1, num_layers // 4)))
    for place, ax in enumerate(axes):
        if place >= len(tables):
            ax.set_axis_off()
            continue
        if place + num_columns >= len(tables):  # the lowest of its column
            ax.set_xlabel("progress")
            ax.tick_params(labelbottom=True)
        if place % num_columns == 0:
            ax.set_ylabel("layer")
    figure.colorbar(image, ax=axes, label="keep probability", shrink=0.6)
    return figure


def _mark(ax: Axes, height: float, gap: Mapping[str, Any], *, color: str, marker: str) -> None:
    """One difference: its interval as a line, its mean hollow where it is unresolved."""
    if gap["low"] is not None:
        ax.plot([gap["low"], gap["high"]], [height, height], color=color, linewidth=1.6)
    ax.plot(
        gap["mean"], height, marker=marker, linestyle="none", markersize=MARKER_SIZE,
        markeredgecolor=color, markerfacecolor="white" if gap["verdict"] == UNRESOLVED else color,
    )  # fmt: skip


def _name_families(ax: Axes, arms: Iterable[str]) -> None:
    """A legend of the families that are there."""
    families = {"s": ("control", INK), "o": ("SBLD", BLUE), "^": ("the field", ORANGE)}
    there = {arm_style(arm)["marker"] for arm in arms}
    handles = [_handle(*families[marker], marker) for marker in families if marker in there]
    handles.append(_handle("unresolved", GREY, "o", hollow=True))
    ax.legend(handles=handles, loc="upper right", fontsize="small", handletextpad=0.3)


def _handle(name: str, colour: str, marker: str, *, hollow: bool = False) -> Line2D:
    return Line2D(
        [], [], linestyle="none", marker=marker, markersize=MARKER_SIZE, label=literal(name),
        markeredgecolor=colour, markerfacecolor="white" if hollow else colour,
    )  # fmt: skip
