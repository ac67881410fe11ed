from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from sbldlib.dropping.lists import create_block_allow_lists
from sbldlib.plots.lists import (
    draw_allocation,
    plot_dropping_left,
    plot_frontier,
    plot_keep_list,
    plot_lists,
)
from sbldlib.records import SensitivityData

DATA = SensitivityData(values=(0.5, 0.1, 0.2, 0.3), standard_errors=(0.01,) * 4)
LISTS = {f"count {n}": create_block_allow_lists(DATA, count=n) for n in (1, 3)}


def test_rules_stand_side_by_side_with_the_block_list_hatched():
    ax = Figure().subplots()
    plot_lists(ax, LISTS, ranking=DATA.ranking())
    hatched = [
        (round(b.get_y() + b.get_height() / 2), round(b.get_x() + 0.5))
        for b in ax.patches
        if b.get_hatch()
    ]
    assert hatched == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "3", "2", "1"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["count 1", "count 3"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["block list", "allow list"]


def test_a_line_ends_where_the_allow_list_is_full():
    ax = Figure().subplots()
    plot_dropping_left(ax, LISTS, savings=[0.0, 0.15, 0.3, 0.45], drop_max=0.9)
    one, three, cap = ax.get_lines()
    assert one.get_ydata() == pytest.approx([0, 0.2, 0.4, 0.6])
    assert three.get_ydata() == pytest.approx([0, 0.6])
    assert set(cap.get_ydata()) == {0.9}
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["count 1", "count 3"]


def test_the_frontier_draws_means_with_bands_in_the_order_of_savings():
    ax = Figure().subplots()
    points = {0.2: (0.5, 0.4, 0.6), 0.1: (0.2, 0.1, 0.3)}
    names = [f"way {i}" for i in range(8)]  # more than there are line styles
    plot_frontier(ax, {name: points for name in names})
    assert [t.get_text() for t in ax.get_legend().get_texts()] == names
    line = ax.get_lines()[0]
    assert list(line.get_xdata()) == [0.1, 0.2] and list(line.get_ydata()) == [0.2, 0.5]
    assert len(ax.collections) == 8


def test_a_keep_list_shows_its_mean():
    ax = Figure().subplots()
    keep = (1.0, 0.5, 0.6, 0.7)
    plot_keep_list(ax, LISTS["count 1"], keep)
    bars = {round(b.get_x() + b.get_width() / 2): b for b in ax.patches}
    assert np.allclose([bars[layer].get_height() for layer in range(4)], keep)
    assert [layer for layer in range(4) if bars[layer].get_hatch()] == [0]
    assert [t.get_text() for t in ax.texts] == ["mean\n0.70"]


def test_an_allocation_shows_the_list_its_end_and_where_in_the_run_it_is():
    figure = Figure(figsize=(6, 3), layout="constrained")
    draw_allocation(
        figure, LISTS["count 1"], (1.0, 0.5, 0.6, 0.7), at_most=(1.0, 0.1, 0.2, 0.3),
        schedule=lambda progress: 1 - 0.6 * progress, progress=0.5, labels=("never", "may"),
    )  # fmt: skip
    figure.draw_without_rendering()
    left, right = figure.axes
    bars = [bar.get_height() for bar in sorted(left.patches, key=lambda bar: bar.get_x())]
    assert bars == [1.0, 0.5, 0.6, 0.7]
    ends = left.get_lines()[-1]
    assert list(ends.get_ydata()) == [1.0, 0.1, 0.2, 0.3] and ends.get_marker() == "D"
    course, now = right.get_lines()
    assert course.get_ydata()[-1] == pytest.approx(0.4)
    assert (list(now.get_xdata()), list(now.get_ydata())) == ([0.5], [0.7])
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(named) == ["at the largest saving", "may", "never"]
    assert left.get_legend() is None
