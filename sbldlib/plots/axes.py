"""What several pictures' axes share: one legend for them, a mean beside them, ticks with room."""

from __future__ import annotations

from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .theme import INK

MAX_TICKS = 8  # of layers along an axis that is half a picture wide


def layer_ticks(num_layers: int) -> range:
    """Layers that have a tick: all, or every second, third, ... so that there are not too many."""
    return range(0, num_layers, -(-num_layers // MAX_TICKS))


def shared_legend(figure: Figure, *axes: Axes, where: str = "upper") -> None:
    """One legend outside the axes, where it hides no data, in place of their own.

    Args:
        axes: whose labelled artists it names; a label that two share is named once.
        where: "upper" or "lower" end of the figure, whose layout must be constrained.
    """
    named: dict[str, Artist] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
        if (legend := each.get_legend()) is not None:
            legend.remove()
    place: dict[str, Any] = {"loc": f"outside {where} center"}
    figure.legend(
        list(named.values()), list(named), ncols=max(1, len(named)), columnspacing=1.4,
        frameon=False, **place,
    )  # fmt: skip


def mark_mean(ax: Axes, mean: float) -> None:
    """A dashed line at the mean, named beside the axes, where it hides nothing."""
    ax.axhline(mean, color=INK, linewidth=1, linestyle="--")
    ax.annotate(
        f"mean\n{mean:.2f}", (1, mean), xycoords=("axes fraction", "data"), xytext=(3, 0),
        textcoords="offset points", va="center", color=INK, fontsize=9,
    )  # fmt: skip
