"""Pictures of the published family: size by year and compute by size, on logarithmic axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes

from ..models.family import FAMILY, Member, count_parameters, reckoned_petaflop_days
from .theme import BLUE, GREEN, GREY, INK, ORANGE

STYLE: dict[str, dict[str, Any]] = {
    "BERT": {"color": ORANGE, "marker": "s"},
    "GPT-1": {"color": INK, "marker": "D"},
    "GPT-2": {"color": GREEN, "marker": "^"},
    "GPT-3": {"color": BLUE, "marker": "o"},
}


def line_of(one: Member) -> str:
    """The line that a member belongs to, one of `STYLE`."""
    return one.name.split(" ")[0]


def plot_compute(ax: Axes, family: Sequence[Member] = FAMILY) -> Axes:
    """Published training compute against counted parameters; a cross is 6 x parameters x tokens.

    A member whose compute is published as an order alone is a vertical bar.
    """
    named: set[str] = set()
    for one in family:
        line = line_of(one)
        parameters = count_parameters(one)
        label = line if line not in named else None
        if one.petaflop_days is not None:
            ax.plot(
                parameters, one.petaflop_days, linestyle="none", markersize=7, label=label,
                **STYLE[line],
            )  # fmt: skip
            named.add(line)
        elif one.petaflop_days_between is not None:
            low, high = one.petaflop_days_between
            colour = STYLE[line]["color"]
            ax.plot([parameters] * 2, [low, high], color=colour, linewidth=5, alpha=0.6, label=line)
            named.add(line)
        if (reckoned := reckoned_petaflop_days(one)) is not None:
            is_first = "6ND" not in named
            ax.plot(
                parameters, reckoned, color=GREY, marker="x", markersize=11, linestyle="none",
                zorder=1, label="6 × parameters × tokens" if is_first else None,
            )  # fmt: skip
            named.add("6ND")
    ax.set(
        xscale="log", yscale="log", xlabel="parameters",
        ylabel="training compute\n(petaflop/s-days)",
    )  # fmt: skip
    ax.legend()
    return ax


def plot_sizes(ax: Axes, family: Iterable[Member] = FAMILY) -> Axes:
    """Counted parameters of each member as a bar, smallest first, with its published number."""
    counted = sorted(((count_parameters(one), one) for one in family), key=lambda pair: pair[0])
    for place, (parameters, one) in enumerate(counted):
        style = STYLE[line_of(one)]
        hatch = "//" if one.kind == "encoder" else None
        ax.barh(place, parameters, color=style["color"], hatch=hatch, edgecolor="white")
        ax.annotate(
            f"{_short(one.published_parameters)}", (parameters, place), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=9, color=INK,
        )  # fmt: skip
    ax.set_yticks(range(len(counted)), labels=[one.name for _, one in counted])
    ax.set(xscale="log", xlabel="parameters, counted (the number: as published)")
    ax.margins(x=0.15)
    return ax


def _short(number: float) -> str:
    return f"{number / 1e9:g} G" if number >= 1e9 else f"{number / 1e6:g} M"
