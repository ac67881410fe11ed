"""How far back models look, drawn: input gradients and recall against distance, over seeds.

Cells are those of `benchmarks.lessons_parallelism`: "alone/VARIANT/DISTANCE/SEED" is a training
at one distance, "together/VARIANT/SEED" one at all distances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ..comparison.cells import Cells
from .parallelism import KIND_LABEL, KIND_STYLE
from .theme import GREY, literal

# Variant -> its kind, its line, and what a legend calls it.
VARIANT_STYLE = {
    "rnn": ("rnn", "-", "RNN"),
    "rnn-orthogonal": ("rnn", "--", "RNN, orthogonal"),
    "lstm-forget-0": ("lstm", ":", "LSTM, forget bias 0"),
    "lstm-forget-1": ("lstm", "--", "LSTM, forget bias 1"),
    "lstm-forget-3": ("lstm", "-", "LSTM, forget bias 3"),
    "gru": ("gru", "-.", "GRU"),
    "convolution": ("convolution", "-", "convolution"),
    "attention": ("attention", "-", "attention"),
}
LEAST_SHOWN = 1e-10  # of a relative gradient: below it nothing is learnt


def variant_style(variant: str) -> dict[str, Any]:
    """Colour, line, marker and label of a variant; a kind's own where it has no variants."""
    kind, line, label = VARIANT_STYLE.get(
        variant, (variant, "-", KIND_LABEL.get(variant, literal(variant)))
    )
    colour, _, marker = KIND_STYLE.get(kind, (GREY, "-", "o"))
    return {
        "color": colour, "linestyle": line, "marker": marker, "markersize": 5, "label": label,
    }  # fmt: skip


def variants_of(cells: Cells) -> list[str]:
    """The variants that were trained, in the order of VARIANT_STYLE."""
    found = {name.split("/")[1] for name in cells if name.startswith(("alone/", "together/"))}
    return [name for name in VARIANT_STYLE if name in found]


def untrained_reach(cells: Cells, variant: str) -> np.ndarray:
    """Relative input gradients before training, [seeds, distances from 0]."""
    return np.array([cell["untrained"]["reach"] for cell in _of(cells, "together", variant)])


def by_distance(
    cells: Cells, part: str, variant: str, quantity: str
) -> dict[int, tuple[float, ...]]:
    """Distance -> one value a seed, the nearest distance first.

    Args:
        cells: of either part.
        part: "alone" or "together".
        variant: of the model.
        quantity: "accuracy", or "reach_at_mark" after training.
    """
    found: dict[int, list[float]] = {}
    for cell in _of(cells, part, variant):
        of = cell["trained"] if quantity == "reach_at_mark" else cell
        for distance, value in of[quantity].items():
            found.setdefault(int(distance), []).append(value)
    return {distance: tuple(found[distance]) for distance in sorted(found)}


def plot_reach(ax: Axes, profiles: Mapping[str, Any], *, names: Iterable[str] = ()) -> Axes:
    """Relative input gradient against distance: the geometric mean of the seeds, and their range.

    Args:
        ax: to draw on.
        profiles: variant -> relative gradients, [seeds, distances from 0] or [distances from 0].
        names: variants drawn; () is all.
    """
    for variant in names or profiles:
        rows = np.atleast_2d(np.asarray(profiles[variant], dtype=float))[:, 1:]
        rows = np.maximum(rows, LEAST_SHOWN / 10)
        distances = np.arange(1, rows.shape[1] + 1)
        style = {**variant_style(variant), "marker": ""}
        ax.plot(distances, np.exp(np.log(rows).mean(axis=0)), **style)
        _fill(ax, distances, rows.T, variant)
    return _gradient_axes(ax)


def plot_reach_at_mark(ax: Axes, cells: Cells, *, part: str = "together") -> Axes:
    """After training, the relative gradient at the token that was asked for, against its distance.

    Args:
        ax: to draw on.
        cells: of this part.
        part: "alone" or "together".
    """
    for variant in variants_of(cells):
        found = by_distance(cells, part, variant, "reach_at_mark")
        shown = [np.maximum(values, LEAST_SHOWN / 10) for values in found.values()]
        means = [np.exp(np.log(values).mean()) for values in shown]
        ax.plot(list(found), means, **variant_style(variant))
        _fill(ax, list(found), shown, variant)
    return _gradient_axes(ax)


def plot_recall(
    ax: Axes,
    accuracy: Mapping[str, Mapping[int, Sequence[float]]],
    chance_level: float,
) -> Axes:
    """Share of answers that are right, against distance: the mean of the seeds, and their range.

    Args:
        ax: to draw on.
        accuracy: variant -> distance -> one share a seed.
        chance_level: of a guess.
    """
    for variant, found in accuracy.items():
        shares = list(found.values())
        ax.plot(list(found), [np.mean(each) for each in shares], **variant_style(variant))
        _fill(ax, list(found), shares, variant)
    ax.axhline(chance_level, color=GREY, linewidth=1, linestyle="--", label="chance")
    ax.set(xlabel="distance (tokens)", ylabel="right answers (share)", ylim=(0, 1.04))
    return _distance_axis(ax)


def draw_reach(figure: Figure | SubFigure, cells: Cells) -> None:
    """Gradients before and after training, and recall, trained alone and together.

    Args:
        figure: empty, with a constrained layout.
        cells: "alone" and "together".
    """
    (before, after), (alone, together) = figure.subplots(2, 2)
    variants = variants_of(cells)
    plot_reach(before, {name: untrained_reach(cells, name) for name in variants})
    before.set_title("Gradient before training")
    plot_reach_at_mark(after, cells).set_title("At the mark, trained on all")
    for ax, part, title in (
        (alone, "alone", "Recall: one distance a model"),
        (together, "together", "Recall: all distances in one"),
    ):
        found = {name: by_distance(cells, part, name, "accuracy") for name in variants}
        plot_recall(ax, found, next(iter(_of(cells, part, variants[0])))["chance_level"])
        ax.set_title(title)
    handles, labels = together.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "outside lower center"}
    figure.legend(handles, labels, ncols=3, frameon=False, **place)


def _of(cells: Cells, part: str, variant: str) -> list[Mapping[str, Any]]:
    return [cell for name, cell in cells.items() if name.startswith(f"{part}/{variant}/")]


def _fill(ax: Axes, places: Any, values: Iterable[Any], variant: str) -> None:
    """The range of the seeds at each place, where there is more than one."""
    found = [np.asarray(each) for each in values]
    if any(len(each) > 1 for each in found):
        low, high = [each.min() for each in found], [each.max() for each in found]
        colour = variant_style(variant)["color"]
        ax.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def _gradient_axes(ax: Axes) -> Axes:
    ax.set(xlabel="distance (tokens)", ylabel="gradient / that at distance 0")
    ax.set_yscale("log")
    ax.set_ylim(bottom=LEAST_SHOWN)
    return _distance_axis(ax)


def _distance_axis(ax: Axes) -> Axes:
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return ax
