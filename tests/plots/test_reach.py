"""Reach and recall: means and ranges over seeds, and nothing that was not measured."""

from __future__ import annotations

import numpy as np
import pytest
from lesson_cells import DISTANCES, VARIANTS, trained
from matplotlib.figure import Figure

from sbldlib.plots.reach import (
    LEAST_SHOWN,
    VARIANT_STYLE,
    by_distance,
    draw_reach,
    plot_reach,
    plot_reach_at_mark,
    plot_recall,
    untrained_reach,
    variant_style,
    variants_of,
)


@pytest.fixture
def ax():
    return Figure().subplots()


def line_of(ax, label: str):
    return next(line for line in ax.lines if line.get_label() == label)


def test_no_two_variants_look_alike():
    looks = [(variant_style(v)["color"], variant_style(v)["linestyle"]) for v in VARIANT_STYLE]
    assert len(set(looks)) == len(looks)
    assert variant_style("convolution")["label"] == "convolution"
    assert variant_style("lstm")["label"] == "LSTM"  # a kind of its own is a variant too


def test_values_are_gathered_over_seeds():
    cells = trained()
    assert variants_of(cells) == list(VARIANTS)
    assert by_distance(cells, "alone", "rnn", "accuracy") == dict.fromkeys(DISTANCES, (0.5, 0.4))
    assert by_distance(cells, "together", "rnn", "reach_at_mark") == dict.fromkeys(
        DISTANCES, (0.5, 0.5)
    )
    assert untrained_reach(cells, "rnn").shape == (2, 8)
    assert by_distance(cells, "alone", "gru", "accuracy") == {}


def test_reach_is_the_geometric_mean_with_the_range_of_the_seeds(ax):
    plot_reach(ax, {"rnn": untrained_reach(trained(), "rnn")})
    line = line_of(ax, "RNN")
    assert line.get_xdata().tolist() == list(range(1, 8))
    assert line.get_ydata()[0] == pytest.approx(10**-2.5)
    assert line.get_ydata()[-1] == pytest.approx(LEAST_SHOWN / 10), "cut below the frame"
    assert ax.get_ylim()[0] == LEAST_SHOWN and len(ax.collections) == 1


def test_one_profile_needs_no_seeds(ax):
    plot_reach(ax, {"rnn": [1.0, 0.1, 0.0]})
    assert line_of(ax, "RNN").get_ydata()[0] == pytest.approx(0.1)
    assert not ax.collections and np.isfinite(line_of(ax, "RNN").get_ydata()).all()


def test_the_gradient_at_the_mark_is_drawn_where_it_was_asked(ax):
    plot_reach_at_mark(ax, trained())
    line = line_of(ax, "attention")
    assert list(line.get_xdata()) == list(DISTANCES)
    assert line.get_ydata() == pytest.approx([0.5] * 3)


def test_recall_has_a_mean_a_range_and_the_chance_level(ax):
    found = {name: by_distance(trained(), "alone", name, "accuracy") for name in VARIANTS}
    plot_recall(ax, found, 0.125)
    assert line_of(ax, "RNN").get_ydata() == pytest.approx([0.45] * 3)
    assert line_of(ax, "chance").get_ydata()[0] == 0.125
    assert len(ax.collections) == len(VARIANTS)


def test_one_seed_has_no_range(ax):
    plot_recall(ax, {"gru": {1: (0.5,), 3: (0.2,)}}, 0.1)
    assert not ax.collections


def test_the_figure_names_every_variant_once():
    figure = Figure(figsize=(8, 7), layout="constrained")
    draw_reach(figure, trained())
    assert len(figure.axes) == 4
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == [variant_style(name)["label"] for name in VARIANTS] + ["chance"]
