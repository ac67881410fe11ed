"""The GPT variants drawn: bits per byte at two budgets, on the way there, and the suspects.

Cells are those of `benchmarks.lessons_variants`; `comparison.cells` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ..comparison.cells import (
    REFERENCE,
    Cells,
    arms_of,
    by_seed,
    mean_over_seeds,
    of_arm,
    of_length,
    times_as_long,
)
from ..models.recurrent import KINDS
from .axes import shared_legend
from .parallelism import on_powers
from .theme import GREY, INK, ORANGE, PINK, SKY
from .variant_styles import arm_style, suspects

BUDGETS = {
    "raw": "equal tokens",
    "compute": "equal FLOPs",
    "longer": "{:.0f} times the tokens",
    "longer_compute": "{:.0f} times the FLOPs",
}
ROWS = (("raw", "longer"), ("compute", "longer_compute"))
# What the source reports of its convolution, over what it reports of its baseline: training, test.
REPORTED = (1.42 / 3.54, 1.30 / 3.46)

SUSPECT_STYLE = {
    "reference": (INK, "o"),
    "target": (SKY, "v"),
    "padding": (PINK, "s"),
    "leak": (ORANGE, "X"),
}
AS_REPORTED, ON_TEXT = "as reported", "on text alone"
OF_SOURCE = "where the source's would lie"


def plot_scores(ax: Axes, cells: Cells, part: str, arms: Iterable[str] | None = None) -> Axes:
    """Bits per byte of each arm: a mark a seed, and the mean with its 95 % interval.

    Args:
        ax: to draw on.
        cells: of the file.
        part: a key of BUDGETS.
        arms: from the top; None is all that were trained.
    """
    chosen = arms_of(cells, part) if arms is None else list(arms)
    labels = []
    for place, arm in enumerate(chosen):
        style = arm_style(arm, cells)
        labels.append(style["label"])
        values = list(by_seed(cells, part, arm).values())
        marks = {"color": style["color"], "marker": style["marker"], "linestyle": "none"}
        ax.plot(values, [place] * len(values), markersize=6, alpha=0.6, **marks)
        mean = mean_over_seeds(cells, part, arm)
        if mean.low is not None and mean.high is not None:
            ax.plot([mean.low, mean.high], [place + 0.28] * 2, color=style["color"], linewidth=1.5)
        if mean.mean is not None:
            ax.plot([mean.mean], [place + 0.28], color=style["color"], marker="|", markersize=9)
    ax.set_yticks(range(len(chosen)), labels)
    ax.set_ylim(max(len(chosen), 1) - 0.4, -0.5)
    title = BUDGETS.get(part, part).format(times_as_long(cells) or 1)
    ax.set(xlabel="bits per byte of new text", title=title)
    return ax


def plot_curves(
    ax: Axes, cells: Cells, part: str = "compute", arms: Iterable[str] | None = None
) -> Axes:
    """Bits per byte of new text against operations spent: mean over seeds, and their range.

    Args:
        ax: to draw on.
        cells: of the file.
        part: a key of BUDGETS.
        arms: None is all that were trained.
    """
    for arm in arms_of(cells, part) if arms is None else arms:
        found = list(of_arm(cells, part, arm).values())
        num = min((len(cell["flops_at"]) for cell in found), default=0)
        if not num:
            continue
        flops = np.mean([cell["flops_at"][-num:] for cell in found], axis=0) / 1e12
        bits = np.array([[bits for _, bits in cell["bits_per_byte_at"][-num:]] for cell in found])
        style = arm_style(arm, cells)
        ax.plot(flops, bits.mean(0), **style)
        ax.fill_between(flops, bits.min(0), bits.max(0), color=style["color"], alpha=0.15, lw=0)
    ax.set(xlabel="operations spent (TFLOP)", ylabel="bits per byte of new text")
    return ax


def plot_suspects(ax: Axes, cells: Cells, reported: Sequence[float] = REPORTED) -> Axes:
    """What each suspect does to the loss, against the GPT's; dashed where the source's would be.

    Filled: the loss as it would be reported. Hollow: the same model's loss on the text alone.

    Args:
        ax: to draw on.
        cells: of the file.
        reported: the source's losses over its baseline's; drawn as shares of this GPT's.
    """
    rows = suspects(cells)
    for place, (label, kind, loss, on_text) in enumerate(rows):
        colour, marker = SUSPECT_STYLE[kind]
        style: Any = {"color": colour, "marker": marker, "markersize": 7, "linestyle": "none"}
        if on_text is not None:
            ax.plot([loss, on_text], [place, place], color=GREY, linewidth=1, zorder=1)
            ax.plot([on_text], [place], markerfacecolor="white", label=ON_TEXT, **style)
        ax.plot([loss], [place], label=AS_REPORTED, **style)
        for share in reported if label == arm_style(REFERENCE)["label"] else ():
            words = {"color": GREY, "linestyle": "--", "linewidth": 1, "label": OF_SOURCE}
            ax.axvline(share * loss, zorder=0, **words)
    ax.set_yticks(range(len(rows)), [label for label, *_ in rows])
    ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    ax.set(xlabel="loss on new text (nats a target)")
    ax.set_xlim(left=0)
    return ax


LENGTH_AXES = {
    "seconds": ("µs a token, forward and backward", 1e6),
    "saved_bytes": ("kB a token kept for backward", 1e-3),
    "flops": ("MFLOP a token", 1e-6),
}


def plot_lengths(ax: Axes, cells: Cells, quantity: str = "seconds") -> Axes:
    """What a token costs against the length of its row, GPT and convolution, on powers.

    The line is the median over rounds, the bars reach from the 10th to the 90th percentile.

    Args:
        ax: to draw on.
        cells: "length" cells.
        quantity: a key of LENGTH_AXES.
    """
    words, scale = LENGTH_AXES[quantity]
    for arm in ("gpt", "conv"):
        found = of_length(cells, arm)
        if not found:
            continue
        a_token = [np.asarray(cell[quantity]) * scale / cell["tokens"] for cell in found.values()]
        low, middle, high = (
            np.array([np.percentile(each, p) for each in a_token]) for p in (10, 50, 90)
        )
        ax.errorbar(
            list(found), middle, yerr=(middle - low, high - middle), capsize=2, **arm_style(arm)
        )
    ax.set(xlabel="tokens a row", ylabel=words)
    return on_powers(ax)


def draw_variants(figure: Figure | SubFigure, cells: Cells) -> None:
    """Bits per byte at each budget, of the GPTs that predict the next token without seeing it.

    Above equal tokens, below equal operations; to the right the longer trainings, if there are any.

    Args:
        figure: empty, with a constrained layout.
        cells: of the file.
    """
    left_out = {"conv-ahead", "conv-leak", *KINDS}
    rows = [[part for part in row if arms_of(cells, part)] for row in ROWS]
    arms = [[arm for arm in arms_of(cells, *row) if arm not in left_out] for row in rows]
    axes = figure.subplots(
        len(rows),
        max(map(len, rows)),
        sharex="col",
        sharey="row",
        height_ratios=[max(len(each), 1) for each in arms],
        squeeze=False,
    )
    for row, chosen, parts in zip(axes, arms, rows, strict=True):
        for ax, part in zip(row, parts, strict=False):
            plot_scores(ax, cells, part, chosen).label_outer()


def draw_suspects(figure: Figure, cells: Cells) -> None:
    """What could make a loss low, in one axes with its legend outside.

    Args:
        figure: empty, with a constrained layout.
        cells: of the file.
    """
    ax = plot_suspects(figure.subplots(), cells)
    shared_legend(figure, ax, where="lower")


def draw_lengths(figure: Figure, cells: Cells) -> None:
    """Time, and bytes kept for the backward pass, against the length of a row.

    Args:
        figure: empty, with a constrained layout.
        cells: of the file.
    """
    axes = list(figure.subplots(1, 2).flat)
    for ax, quantity in zip(axes, ("seconds", "saved_bytes"), strict=True):
        plot_lengths(ax, cells, quantity)
    shared_legend(figure, axes[0])
