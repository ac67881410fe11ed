from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from sbldlib.plots.theme import METHOD_STYLE, method_style, themed
from sbldlib.plots.training import (
    layers_run_matrix,
    plot_evaluations,
    plot_keep_probability,
    plot_layers_run,
    plot_losses,
    plot_runs,
    smoothed,
)
from sbldlib.records import RunRecord, StepRecord


@pytest.fixture
def ax():
    return Figure().subplots()


def step(t: int, layers: tuple[int, ...] = (0, 1)) -> StepRecord:
    return StepRecord(
        step=t, progress=t / 3, loss_nats=4.0 - t, learning_rate=1e-3, gradient_norm=1.0,
        seconds=0.5, tokens=64, flops=2e12, flops_full=4e12, layers_run=layers,
    )  # fmt: skip


def run() -> RunRecord:
    return RunRecord(
        name="x", configuration={}, environment={}, num_layers=2, num_parameters=1,
        steps=tuple(step(t) for t in range(4)),
    )  # fmt: skip


def test_smoothed_is_the_mean_of_the_last_window():
    assert smoothed([4, 2, 0, 6], 2).tolist() == [4, 3, 1, 3]
    assert smoothed([1, 2, 3], 1).tolist() == [1, 2, 3]


def test_losses_have_a_line_a_method_in_its_own_style(ax):
    plot_losses(ax, {"sbld": [3, 2, 1], "pld": [3, 3, 3]}, window=1)
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines["sbld"].get_ydata().tolist() == [3, 2, 1]
    assert lines["sbld"].get_xdata().tolist() == [1, 2, 3]
    assert lines["pld"].get_linestyle() == "--" and lines["sbld"].get_linestyle() == "-"
    assert ax.get_xlabel() == "step" and "nats/token" in ax.get_ylabel()


@pytest.mark.parametrize(
    ("against", "last", "label"),
    [("steps", 4, "step"), ("seconds", 2.0, "training time (s)"), ("flops", 8.0, "FLOPs")],
)
def test_runs_against_each_axis(ax, against, last, label):
    plot_runs(ax, {"sbld": run()}, against=against)
    (line,) = ax.get_lines()
    assert line.get_xdata()[-1] == pytest.approx(last) and label in ax.get_xlabel()
    assert ax.get_xlim()[1] >= last


def test_unknown_axis_is_named(ax):
    with pytest.raises(ValueError, match=r"against='second'.*seconds"):
        plot_runs(ax, {"sbld": run()}, against="second")


def test_raster_shows_what_ran(ax):
    steps = [step(0, (0, 2)), step(1, (1,)), step(2, ())]
    assert layers_run_matrix(steps, 3).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    plot_layers_run(ax, steps, 3)
    assert np.array_equal(ax.images[0].get_array(), layers_run_matrix(steps, 3))
    assert ax.get_ylabel() == "layer"


def test_keep_probability_is_drawn_layer_by_step(ax):
    table = np.array([[1.0, 0.5], [1.0, 0.25], [1.0, 0.5]])
    plot_keep_probability(ax, table, num_steps=30)
    image = ax.images[0]
    assert np.array_equal(image.get_array(), table.T) and image.get_clim() == (0, 1)
    assert ax.get_xlim() == (0, 30)


def test_methods_differ_in_more_than_colour():
    styles = {name: style for name, style in METHOD_STYLE.items() if name != "none"}
    assert len({line for _, line in styles.values()} | {"solid twice"}) >= len(styles) - 1
    assert method_style("a new one")["linestyle"] == "-"


def test_theme_is_undone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with themed():
        assert mpl.rcParams["font.size"] == 11
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("against", "places"), [("steps", [2, 4]), ("seconds", [1.0, 2.0]), ("flops", [4.0, 8.0])]
)
def test_evaluations_stand_where_they_were_made(ax, against, places):
    steps = [replace(each, evaluations={"validation_loss": 5.0 - each.step}) for each in run()]
    some = replace(run(), steps=(run().steps[0], steps[1], run().steps[2], steps[3]))
    plot_evaluations(ax, {"steered": some, "full depth": some}, "validation_loss", against=against)
    first, second = ax.get_lines()
    assert first.get_xdata().tolist() == pytest.approx(places)
    assert first.get_ydata().tolist() == [4.0, 2.0]
    assert first.get_marker() != second.get_marker()
    assert ax.get_ylabel() == "validation loss (nats/token)"
    with pytest.raises(ValueError, match="against='step'"):
        plot_evaluations(ax, {}, "validation_loss", against="step")
