"""Pictures of block and allow lists: rules side by side, and what dropping under them costs.

Legend: L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..dropping.schedules import Schedule
from ..records import LayerLists
from .axes import layer_ticks, mark_mean, shared_legend
from .theme import BLUE, GREEN, INK, ORANGE, PINK, SKY, literal
from .variance import plot_schedule

LINES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, ":", "^"), (PINK, "-.", "D"))
LINES += ((SKY, (0, (5, 1)), "v"), (INK, (0, (1, 1)), "P"))


def plot_lists(ax: Axes, lists: Mapping[str, LayerLists], *, ranking: Sequence[int]) -> Axes:
    """One row a rule, one column a layer in sorted order: hatched is blocked, plain may be dropped.

    Args:
        lists: rule's name -> lists.
        ranking: layers in the order of the columns, most sensitive first.
    """
    for row, each in enumerate(lists.values()):
        for column, layer in enumerate(ranking):
            is_blocked = layer in each.block
            ax.barh(
                row, 1, left=column - 0.5, height=0.8, edgecolor="white", linewidth=1.5,
                color=ORANGE if is_blocked else BLUE, hatch="//" if is_blocked else "",
            )  # fmt: skip
    ax.set_yticks(range(len(lists)), labels=list(map(literal, lists)))
    ax.set_xticks(range(len(ranking)), labels=[str(layer) for layer in ranking])
    ax.set(xlabel="layer, most sensitive first", xlim=(-0.5, len(ranking) - 0.5))
    ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    blocked = Patch(facecolor=ORANGE, hatch="//", edgecolor="white", label="block list")
    allowed = Patch(facecolor=BLUE, edgecolor="white", label="allow list")
    ax.legend(handles=[blocked, allowed], ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return ax


def plot_dropping_left(
    ax: Axes, lists: Mapping[str, LayerLists], *, savings: Sequence[float], drop_max: float
) -> Axes:
    """Drop probability of an allowed layer against the saving, up to the cap, one line a rule.

    Args:
        lists: rule's name -> lists.
        savings: mean drop over all layers, rising, in [0, 1).
        drop_max: cap of one layer's drop probability.
    """
    for (name, each), (colour, line, mark) in zip(lists.items(), cycle(LINES), strict=False):
        drop = np.asarray(savings) * each.num_layers / len(each.allow)
        fits = drop <= drop_max * (1 + 1e-9)
        ax.plot(
            np.asarray(savings)[fits], drop[fits], color=colour, linestyle=line, marker=mark,
            markersize=4, label=literal(name),
        )  # fmt: skip
    ax.axhline(drop_max, color=INK, linewidth=0.8)
    ax.annotate(f"cap {drop_max:g}", (savings[0], drop_max), xytext=(2, 3),
                textcoords="offset points", color=INK)  # fmt: skip
    ax.set(xlabel="saving: mean drop over all layers", ylabel="drop of an allowed layer")
    ax.set(ylim=(0, 1.02))
    ax.legend(loc="lower right")
    return ax


def plot_frontier(
    ax: Axes, losses: Mapping[str, Mapping[float, tuple[float, float, float]]]
) -> Axes:
    """Loss against saving, one line a way of choosing layers, with its interval as a band.

    Args:
        losses: name -> {saving: (mean, low, high)}, nats per token above full depth.
    """
    for (name, points), (colour, line, mark) in zip(losses.items(), cycle(LINES), strict=False):
        savings = sorted(points)
        mean, low, high = np.array([points[saving] for saving in savings]).T
        ax.fill_between(savings, low, high, color=colour, alpha=0.18, linewidth=0)
        label = literal(name)
        ax.plot(savings, mean, color=colour, linestyle=line, marker=mark, markersize=4, label=label)
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set(xlabel="saving: mean drop over all layers", ylabel="loss above full depth\n(nats/token)")
    ax.legend()
    return ax


def plot_keep_list(
    ax: Axes,
    lists: LayerLists,
    keep: Sequence[float],
    *,
    labels: tuple[str, str] = ("block list", "allow list"),
) -> Axes:
    """One bar a layer: its keep probability; the block list is hatched, the mean is a line.

    Args:
        labels: what the legend calls layers on the block list and on the allow list.
    """
    layers, blocked = np.arange(lists.num_layers), set(lists.block)
    for is_blocked, colour, hatch, label in (
        (True, ORANGE, "//", labels[0]),
        (False, BLUE, "", labels[1]),
    ):
        chosen = np.array([(layer in blocked) == is_blocked for layer in layers])
        if chosen.any():
            ax.bar(
                layers[chosen], np.asarray(keep)[chosen], color=colour, hatch=hatch, label=label,
                edgecolor="white", linewidth=min(1, 20 / lists.num_layers),
            )  # fmt: skip
    mark_mean(ax, float(np.mean(keep)))
    ticks = layer_ticks(lists.num_layers)
    ax.set(xlabel="layer", ylabel="keep probability", ylim=(0, 1.02), xticks=ticks)
    ax.legend(loc="lower right", frameon=True, framealpha=0.9, fontsize=9)
    return ax


def draw_allocation(
    figure: Figure,
    lists: LayerLists,
    keep: Sequence[float],
    *,
    at_most: Sequence[float],
    schedule: Schedule,
    progress: float,
    labels: tuple[str, str],
) -> None:
    """A method's keep-probability list at one moment, and the mean over the run that it is of.

    Args:
        lists: the layers that are never dropped and the others.
        keep: one probability a layer.
        at_most: the same at the most that the method can be asked to save.
        schedule: progress to mean keep probability.
        progress: of that moment, in [0, 1].
        labels: as for `plot_keep_list`.
    """
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    plot_keep_list(left, lists, keep, labels=labels).set_title("Keep probability")
    left.plot(
        range(lists.num_layers), at_most, color=INK, linestyle="none", marker="D",
        markersize=min(5, 100 / lists.num_layers), markerfacecolor="white", clip_on=False,
        label="at the largest saving",
    )  # fmt: skip
    plot_schedule(right, schedule).set(title="Mean over the run", ylabel="")
    right.plot([progress], [schedule(progress)], color=INK, marker="o", label="now")
    shared_legend(figure, left)
