from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from sbldlib import StepRecord
from sbldlib.plots.steering import (
    excess_loss,
    excess_without,
    plot_excess_loss,
    plot_paired_gaps,
    plot_step_seconds,
)

NUM_LAYERS = 3


def steps(layers_run, losses=None) -> list[StepRecord]:
    return [
        StepRecord(
            step=number,
            progress=0.0,
            loss_nats=2.0 if losses is None else losses[number],
            learning_rate=1e-3,
            gradient_norm=1.0,
            seconds=0.010 + 0.020 * len(layers),
            tokens=8,
            flops=1.0,
            flops_full=1.0,
            layers_run=layers,
        )
        for number, layers in enumerate(layers_run)
    ]


@pytest.fixture
def ax():
    return Figure().subplots()


def test_step_seconds_show_every_step_the_medians_and_the_line(ax):
    run = steps([(0, 1, 2)] * 4 + [(0,)] * 6)
    assert plot_step_seconds(ax, run, NUM_LAYERS, (0.010, 0.020)) is ax
    points = ax.collections[0].get_offsets()
    medians, line = ax.get_lines()
    assert len(points) == 10
    assert list(medians.get_xdata()) == [1, 3] and np.allclose(medians.get_ydata(), [30, 70])
    assert np.allclose(line.get_xydata(), [[0, 10], [3, 70]])
    assert line.get_label() == "10.0 ms + 20.00 ms a layer"


def test_excess_is_above_the_median_of_the_steps_around():
    losses = [2.0] * 20
    losses[10] = 5.0
    excess = excess_loss(steps([(0,)] * 20, losses))
    assert excess[10] == 3 and np.count_nonzero(excess) == 1


def test_excess_is_told_by_the_layer_that_was_skipped(ax):
    layers_run = [(0, 1, 2)] * 10 + [(1, 2)] + [(0, 1, 2)] * 10 + [(0, 1)]
    losses = [2.0] * 10 + [4.0] + [2.0] * 10 + [2.5]
    run = steps(layers_run, losses)
    assert [list(values) for values in excess_without(run, NUM_LAYERS)] == [[2.0], [], [0.5]]
    plot_excess_loss(ax, run, NUM_LAYERS)
    assert [text.get_text() for text in ax.texts] == ["1", "0", "1"]
    assert "nats/token" in ax.get_ylabel()


def test_paired_gaps_show_each_pair_and_the_mean_with_its_interval(ax):
    plot_paired_gaps(ax, {"early": [0.1, 0.3], "late": [-0.1, 0.1]}, {"early": 0.5, "late": 0.2})
    assert [label.get_text() for label in ax.get_yticklabels()] == ["early", "late"]
    pairs = ax.get_lines()[0]
    assert list(pairs.get_xdata()) == [0.1, 0.3]
    spans = [bar.get_segments()[0][:, 0] for bar in ax.collections]
    assert np.allclose(spans, [[-0.3, 0.7], [-0.2, 0.2]])
