"""Comparisons drawn: each arm's paired difference with its interval, and loss against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..comparison import ComparisonSummary
from .theme import BLUE, GREY, INK, ORANGE, PINK

CONTROLS = ("full depth", "shallower", "pruned")
LABELS = {"validation_loss": "loss on new text (nats/token)", "accuracy": "exact answers"}


def arm_style(name: str) -> dict[str, Any]:
    """Colour and marker of an arm: SBLD and its variants, controls, and the field."""
    if name.startswith("sbld"):
        return {"color": BLUE, "marker": "o"}
    if name in CONTROLS:
        return {"color": INK, "marker": "s"}
    return {"color": ORANGE, "marker": "^"}


def plot_differences(
    ax: Axes, summary: ComparisonSummary, budget: str, *, metric: str = "validation_loss"
) -> Axes:
    """Every arm's paired difference to the reference arm, with its 95 % interval.

    A hollow marker is a difference that these seeds do not resolve.

    Args:
        summary: of a comparison.
        budget: of the table.
        metric: of the results, such as "validation_loss".
    """
    table = summary.table(budget)
    rows = [row for row in table["rows"][1:] if f"{metric}_difference" in row]
    rows.sort(key=lambda row: row[f"{metric}_difference"]["mean"])
    for place, row in enumerate(reversed(rows)):
        found, style = row[f"{metric}_difference"], arm_style(row["arm"])
        low, high = (found["mean"] if end is None else end for end in (found["low"], found["high"]))
        resolved = found["verdict"] != "unresolved"
        ax.plot([low, high], [place, place], color=style["color"], linewidth=1.6)
        ax.plot(
            found["mean"],
            place,
            linestyle="none",
            markersize=7,
            markeredgecolor=style["color"],
            markerfacecolor=style["color"] if resolved else "white",
            marker=style["marker"],
        )
    ax.axvline(0, color=GREY, linewidth=1.0, linestyle="--")
    ax.set_yticks(np.arange(len(rows)), [row["arm"] for row in reversed(rows)])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel(f"{LABELS.get(metric, metric)}, less {table['reference']}'s")
    ax.grid(axis="y", visible=False)
    return ax


def plot_loss_against_cost(ax: Axes, summary: ComparisonSummary, budgets: Sequence[str]) -> Axes:
    """Final loss against all that an arm cost, as a share of full depth's FLOPs at equal steps.

    Args:
        summary: of a comparison whose "steps" table holds full depth.
        budgets: the tables whose runs are drawn.
    """
    whole = next(r for r in summary.table("steps")["rows"] if r["arm"] == "full depth")["flops"]
    for budget in budgets:
        for row in summary.table(budget)["rows"]:
            if "validation_loss" in row:
                paid = row["paid"] if budget == "flops" else 0.0
                style = arm_style(row["arm"])
                ax.plot((row["flops"] + paid) / whole, row["validation_loss"], **style)
    ax.set(xlabel="FLOPs, pre-analysis paid (full depth = 1)", ylabel=LABELS["validation_loss"])
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
    markers = dict(zip(controls, "sD^v", strict=False))
    colours = dict(zip(controls, (INK, ORANGE, GREY, PINK), strict=False))
    offsets = dict(zip(controls, np.linspace(0.18, -0.18, len(controls)), strict=True))
    for place, found in enumerate(reversed(list(differences.values()))):
        for name, gap in found.items():
            height, colour = place + offsets[name], colours[name]
            if gap["low"] is not None:
                ax.plot([gap["low"], gap["high"]], [height, height], color=colour, linewidth=1.6)
            resolved = gap["verdict"] != "unresolved"
            ax.plot(
                gap["mean"],
                height,
                marker=markers[name],
                linestyle="none",
                markersize=7,
                markeredgecolor=colour,
                markerfacecolor=colour if resolved else "white",
                label=name if place == 0 else None,
            )
    ax.axvline(0, color=BLUE, linewidth=1.2, linestyle="--")
    ax.set_yticks(np.arange(len(differences)), list(differences)[::-1])
    ax.set_ylim(-0.6, len(differences) - 0.4)
    ax.set_xlabel(xlabel)
    ax.grid(axis="y", visible=False)
    ax.legend()
    return ax
