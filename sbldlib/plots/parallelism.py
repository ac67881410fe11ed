"""Work and span drawn: counts and seconds against length, and the bounds that they set.

Counts and seconds are cells of `benchmarks.lessons_parallelism`: name, such as "counts/rnn/64" ->
what was measured, as plain values.

Legend: T tokens, p processors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator, NullFormatter

from ..comparison.cells import Cells
from ..measure import Parallelism
from ..measure.scaling import time_bounds
from ..models.recurrent import KINDS
from .axes import shared_legend
from .theme import BLUE, GREEN, GREY, INK, ORANGE, PINK

KIND_STYLE = {
    "rnn": (ORANGE, "-", "o"),
    "lstm": (BLUE, "--", "s"),
    "gru": (PINK, "-.", "^"),
    "convolution": (GREEN, ":", "D"),
    "attention": (INK, "-", "v"),
}
KIND_LABEL = {
    "rnn": "RNN",
    "lstm": "LSTM",
    "gru": "GRU",
    "convolution": "convolution",
    "attention": "attention",
}
# What is counted -> the axis' words; FLOPs are of one row.
QUANTITIES = {
    "longest_path": "longest path (nodes)",
    "num_operations": "operations dispatched",
    "flops": "work (FLOPs a sequence)",
}


def kind_style(kind: str, *, marker: bool = True) -> dict[str, Any]:
    """Colour, line and marker of a kind of model, the same in every figure."""
    colour, line, shape = KIND_STYLE[kind]
    style = {"color": colour, "linestyle": line, "label": KIND_LABEL[kind]}
    return {**style, "marker": shape, "markersize": 5} if marker else style


def cells_of(cells: Cells, part: str, kind: str) -> list[tuple[int, Mapping[str, Any]]]:
    """This part's cells of this kind, by length, the shortest first."""
    found = [
        (int(name.split("/")[2]), cell)
        for name, cell in cells.items()
        if name.startswith(f"{part}/{kind}/")
    ]
    return sorted(found, key=lambda each: each[0])


def plot_counts(ax: Axes, cells: Cells, quantity: str, kinds: Iterable[str] = KINDS) -> Axes:
    """What a forward pass counts, against the length of its sequence, both on powers.

    Args:
        ax: to draw on.
        cells: "counts" cells; kinds without one are left out.
        quantity: a key of QUANTITIES.
        kinds: drawn, in their order.
    """
    for kind in kinds:
        found = cells_of(cells, "counts", kind)
        if found:
            lengths = [length for length, _ in found]
            ax.plot(lengths, [_a_row(cell, quantity) for _, cell in found], **kind_style(kind))
    ax.set(xlabel="tokens", ylabel=QUANTITIES[quantity])
    return on_powers(ax)


def plot_paths(ax: Axes, counted: Mapping[int, Mapping[str, Parallelism]]) -> Axes:
    """Longest path of each kind against length, both on powers.

    Args:
        ax: to draw on.
        counted: tokens -> kind -> counts.
    """
    for kind in KINDS:
        lengths = [length for length, kinds in counted.items() if kind in kinds]
        paths = [counted[length][kind].longest_path for length in lengths]
        if lengths:
            ax.plot(lengths, paths, **kind_style(kind))
    ax.set(xlabel="tokens", ylabel=QUANTITIES["longest_path"])
    return on_powers(ax)


def plot_seconds(
    ax: Axes, cells: Cells, *, threads: str | None = None, kinds: Iterable[str] = KINDS
) -> Axes:
    """Time a token of a step with a fixed number of tokens, against the length they are cut into.

    The line is the median over the rounds, the bars reach from the 10th to the 90th percentile.

    Args:
        ax: to draw on.
        cells: "seconds" cells; kinds without one are left out.
        threads: whose seconds; None is the first of each cell.
        kinds: drawn, in their order.
    """
    for kind in kinds:
        lengths, medians, bars = [], [], []
        for length, cell in cells_of(cells, "seconds", kind):
            rounds = cell["seconds_by_threads"]
            seconds = rounds[next(iter(rounds)) if threads is None else threads]
            low, middle, high = np.percentile(seconds, (10, 50, 90)) / (cell["rows"] * length)
            lengths.append(length)
            medians.append(middle * 1e6)
            bars.append(((middle - low) * 1e6, (high - middle) * 1e6))
        if lengths:
            errors = np.array(bars).T
            ax.errorbar(lengths, medians, yerr=errors, capsize=2, **kind_style(kind))
    ax.set(xlabel="tokens a sequence", ylabel="µs a token")
    return on_powers(ax)


def speed_ups(cell: Mapping[str, Any], fewer: str = "1", more: str = "2") -> np.ndarray:
    """Seconds with few threads / seconds with more, round by round."""
    rounds = cell["seconds_by_threads"]
    return np.array(rounds[fewer]) / np.array(rounds[more])


def plot_speed_ups(ax: Axes, cells: Cells, kinds: Sequence[str] = KINDS) -> Axes:
    """How much faster two threads are than one: median and 10th to 90th percentile of the rounds.

    Args:
        ax: to draw on.
        cells: "seconds" cells that hold one thread's and two threads' rounds.
        kinds: drawn, each beside the other at every length.
    """
    lengths = sorted({length for kind in kinds for length, _ in cells_of(cells, "seconds", kind)})
    offsets = np.linspace(-0.3, 0.3, len(kinds))
    for offset, kind in zip(offsets, kinds, strict=True):
        for length, cell in cells_of(cells, "seconds", kind):
            low, middle, high = np.percentile(speed_ups(cell), (10, 50, 90))
            style = {**kind_style(kind), "linestyle": "none"}
            if length != lengths[0]:
                style["label"] = None
            place = lengths.index(length) + offset
            bars = [[middle - low], [high - middle]]
            ax.errorbar([place], [middle], yerr=bars, capsize=2, **style)
    for level in (1, 2):
        ax.axhline(level, color=GREY, linewidth=1, linestyle="--", zorder=0)
    ax.set_xticks(range(len(lengths)), [str(length) for length in lengths])
    ax.set(xlabel="tokens a sequence", ylabel="one thread's time / two threads'", ylim=(0, 2.2))
    return ax


def plot_bounds(
    ax: Axes,
    counted: Mapping[str, Parallelism],
    *,
    flops_per_second: float,
    seconds_per_step: float,
    most_processors: float = 1e5,
) -> Axes:
    """The least time of a forward pass against the number of processors, on powers.

    Args:
        ax: to draw on.
        counted: kind -> work and span.
        flops_per_second: of one processor.
        seconds_per_step: that a step of the longest path takes at least.
        most_processors: where the axis ends.
    """
    processors = np.logspace(0, np.log10(most_processors), 60)
    for kind, found in counted.items():
        work, span = found.flops / flops_per_second, found.longest_path * seconds_per_step
        times = [time_bounds(work, span, p)[0] * 1e3 for p in processors]
        ax.plot(processors, times, **kind_style(kind, marker=False))
    ax.set(xlabel="processors", ylabel="least time (ms)", xscale="log", yscale="log")
    return ax


def on_powers(ax: Axes) -> Axes:
    """Both axes on powers, the lengths of 2, with ticks that are read as numbers."""
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = ax.get_ylim()
    if high < 1e5 or high < 100 * low:
        steps = (1, 2, 5) if high < 300 * low else (1,)
        ax.yaxis.set_major_locator(LogLocator(subs=steps))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    return ax


def draw_parallelism(figure: Figure | SubFigure, cells: Cells, gpu: Cells | None = None) -> None:
    """Path, operations, work and seconds against length; a panel for a GPU's where there are some.

    Args:
        figure: empty, with a constrained layout.
        cells: "counts" and "seconds".
        gpu: "seconds" of a GPU.
    """
    axes = list(figure.subplots(2, 3 if gpu else 2).flat)
    titles = {
        "longest_path": "Span: what must wait",
        "num_operations": "Operations",
        "flops": "Work: what must be done",
    }
    for ax, (quantity, title) in zip(axes, titles.items(), strict=False):
        plot_counts(ax, cells, quantity).set_title(title)
    plot_seconds(axes[3], cells, threads="1").set_title("Time on one CPU thread")
    if gpu:
        plot_seconds(axes[4], gpu).set_title("Time on a GPU")
        axes[5].set_axis_off()
    if isinstance(figure, Figure):
        shared_legend(figure, axes[0], where="lower")


def _a_row(cell: Mapping[str, Any], quantity: str) -> float:
    return cell[quantity] / cell["rows"] if quantity == "flops" else cell[quantity]
