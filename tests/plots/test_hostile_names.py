"""Names of arms, runs, rules and units stand in a figure as they are, whatever they hold."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hostile import NAMES
from matplotlib.figure import Figure
from matplotlib.text import Text
from plotted import made_summary

from sbldlib import LayerLists, SensitivityData
from sbldlib.comparison.tables import study_differences
from sbldlib.dropping.schedules import constant
from sbldlib.plots.comparison import plot_differences, plot_field, plot_study
from sbldlib.plots.lists import plot_dropping_left, plot_frontier, plot_lists
from sbldlib.plots.sensitivity import plot_agreement, plot_estimators, plot_sensitivity
from sbldlib.plots.steering import plot_paired_gaps
from sbldlib.plots.theme import NAME_CHARACTERS, literal, themed
from sbldlib.plots.training import plot_losses
from sbldlib.plots.variance import plot_schedules
from sbldlib.sensitivity import agreement

DATA = SensitivityData(
    values=(3.0, 1.0, 2.0),
    standard_errors=(0.1,) * 3,
    num_batches=2,
    samples=((3.1, 2.9), (0.9, 1.1), (2.2, 1.8)),
)
LISTS = LayerLists(block=(0,), allow=(2, 1), rule="count 1")


def shown(figure) -> list[str]:
    """Every text of the figure as it is drawn, none of it read as a formula."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a font may lack a letter
        figure.canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    parsed = [text._preprocess_math(text.get_text()) for text in texts]
    assert not [text for text, is_math in parsed if is_math]
    return [text for text, _ in parsed]


def expected(name: str) -> str:
    """The name as a reader is to see it."""
    escaped = {
        "\x1b": "\\x1b",
        "\x07": "\\x07",
        "\n": " ",
        "\udce9": "\\udce9",
        "\u202e": "\\u202e",
    }
    text = "".join(escaped.get(letter, letter) for letter in name)
    return text if len(text) <= NAME_CHARACTERS else f"{text[:NAME_CHARACTERS]}…"


PLOTS = {
    "losses": lambda ax, name: plot_losses(ax, {name: [3.0, 2.0, 1.0], "sbld": [3.0, 2.5, 2.0]}),
    "lists": lambda ax, name: plot_lists(ax, {name: LISTS}, ranking=(0, 2, 1)),
    "room": lambda ax, name: plot_dropping_left(
        ax, {name: LISTS}, savings=(0.1, 0.2), drop_max=0.9
    ),
    "frontier": lambda ax, name: plot_frontier(ax, {name: {0.1: (1.0, 0.5, 1.5)}}),
    "unit": lambda ax, name: plot_sensitivity(ax, replace(DATA, unit=name)),
    "estimators": lambda ax, name: plot_estimators(ax, {name: DATA, "other": DATA}),
    "pairs": lambda ax, name: plot_paired_gaps(ax, {name: [0.1, 0.2]}, {name: 0.1}),
    "schedules": lambda ax, name: plot_schedules(ax, {name: constant(0.8)}, saving=0.2),
    "study": lambda ax, name: plot_study(
        ax, {name: study_differences({"s": made_summary()}, "sbld", ["uniform"])["s"]}
    ),
    "control": lambda ax, name: plot_study(
        ax, {"s": {name: {"mean": 0.1, "low": 0.0, "high": 0.2, "verdict": "higher"}}}
    ),
}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("plot", PLOTS)
def test_a_name_is_drawn_as_it_is(plot, name):
    with themed():
        figure = Figure(figsize=(12, 8))
        PLOTS[plot](figure.subplots(), name)
        assert any(expected(name) in text for text in shown(figure))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_method_over_its_own_heat_map(name):
    figure = Figure(figsize=(12, 8))
    plot_field(figure, {name: np.ones((4, 3))})
    assert any(expected(name) in text for text in shown(figure))


@pytest.mark.parametrize("name", [name for name in NAMES if "_" not in name])
def test_an_estimator_in_a_square_of_agreement(name):
    figure = Figure(figsize=(12, 8))
    plot_agreement(figure.subplots(), agreement({name: DATA, "other": DATA}, num_resamples=5))
    assert any(expected(name) in text for text in shown(figure))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_an_arm_and_the_reference_of_a_comparison(name):
    for arm in ("sbld", "full depth"):
        figure = Figure(figsize=(12, 8))
        plot_differences(figure.subplots(), made_summary(names={arm: name}), "steps")
        assert any(expected(name) in text for text in shown(figure)), arm


def test_a_literal_keeps_plain_names():
    for name in ("sbld, PWEGD", "100 % of it", "µs at 3², ½", "a\\b"):
        assert literal(name) == name
