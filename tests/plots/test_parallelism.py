"""Counts, seconds and bounds: what is drawn is what was measured."""

from __future__ import annotations

import numpy as np
import pytest
from lesson_cells import KINDS, counted, timed
from matplotlib.figure import Figure

from sbldlib.measure import Parallelism
from sbldlib.plots.parallelism import (
    KIND_LABEL,
    KIND_STYLE,
    cells_of,
    draw_parallelism,
    plot_bounds,
    plot_counts,
    plot_paths,
    plot_seconds,
    plot_speed_ups,
    speed_ups,
)


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def drawn(ax) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines}


def test_every_kind_has_a_look_of_its_own():
    assert set(KIND_STYLE) == set(KIND_LABEL) == set(KINDS)
    colours, lines, markers = zip(*KIND_STYLE.values(), strict=True)
    assert len(set(colours)) == len(set(markers)) == 5 and len(set(lines)) == 4


def test_cells_are_found_by_part_and_kind_in_order_of_length():
    assert [length for length, _ in cells_of(counted(), "counts", "rnn")] == [8, 16]
    assert cells_of(counted(), "counts", "gru") == cells_of(counted(), "seconds", "rnn") == []


def test_counts_are_drawn_on_powers_and_flops_a_row(ax):
    plot_counts(ax, counted(), "longest_path")
    assert drawn(ax) == {"RNN": ([8, 16], [24, 48]), "attention": ([8, 16], [14, 14])}
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.get_ylabel() == "longest path (nodes)"
    ax.clear()
    plot_counts(ax, counted(), "flops", kinds=("rnn",))
    assert drawn(ax) == {"RNN": ([8, 16], [400, 800])}


def test_seconds_are_a_tokens_with_the_spread_of_the_rounds(ax):
    plot_seconds(ax, timed(), threads="2", kinds=("gru",))
    bars = ax.containers[0]
    assert bars.get_label() == "GRU"
    medians = bars.lines[0].get_ydata()
    assert medians == pytest.approx([0.004 / 32 * 1e6, 0.004 / 64 * 1e6])
    low, high = bars.lines[1][0].get_ydata()[0], bars.lines[1][1].get_ydata()[0]
    assert (low, high) == pytest.approx((0.0024 / 32 * 1e6, 0.0056 / 32 * 1e6))


def test_a_gpus_seconds_are_drawn_without_naming_threads(ax):
    plot_seconds(ax, timed(("0",)))
    assert len(ax.containers) == 5


def test_speed_ups_are_taken_within_a_round(ax):
    cell = {"seconds_by_threads": {"1": [2.0, 4.0], "2": [1.0, 4.0]}}
    assert speed_ups(cell) == pytest.approx([2, 1])
    plot_speed_ups(ax, timed())
    assert len(ax.containers) == 10
    assert all(bar.lines[0].get_ydata() == pytest.approx([2]) for bar in ax.containers)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["8", "16"]
    named = [bar.get_label() for bar in ax.containers]
    assert [name for name in named if not name.startswith("_")] == list(KIND_LABEL.values())


def test_paths_are_drawn_by_kind(ax):
    counts = {
        n: {"gru": Parallelism(longest_path=3 * n, num_nodes=1, num_operations=1, flops=1)}
        for n in (2, 4)
    }
    plot_paths(ax, counts)
    assert drawn(ax) == {"GRU": ([2, 4], [6, 12])}


def test_bounds_fall_with_processors_until_the_chain(ax):
    found = Parallelism(longest_path=10, num_nodes=10, num_operations=10, flops=4000)
    plot_bounds(ax, {"lstm": found}, flops_per_second=1000, seconds_per_step=0.01)
    processors, milliseconds = drawn(ax)["LSTM"]
    assert milliseconds[0] == pytest.approx(4000) and milliseconds[-1] == pytest.approx(100)
    assert np.all(np.diff(milliseconds) <= 1e-9) and processors[-1] == pytest.approx(1e5)


@pytest.mark.parametrize("gpu", [None, timed(("0",))])
def test_the_figure_has_a_panel_for_the_gpu_where_there_is_one(gpu):
    figure = Figure(figsize=(10, 6), layout="constrained")
    draw_parallelism(figure, {**counted(), **timed()}, gpu)
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes if ax.axison]
    assert len(titles) == (5 if gpu else 4) and ("Time on a GPU" in titles) is bool(gpu)
    assert len(figure.legends) == 1
