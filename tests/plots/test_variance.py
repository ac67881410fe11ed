from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from sbldlib.dropping.variance import create_variance_based_scheduler, variance_curve
from sbldlib.plots.variance import plot_schedule, plot_variance_fit
from sbldlib.records import PilotData


@pytest.fixture
def pilot():
    rng = np.random.default_rng(0)
    progress = np.linspace(0, 1, 80)
    base = 4 - 2 * progress
    gap = 0.6 * progress * np.exp(-3 * progress)
    drops = [tuple(base + gap * (1 + 0.1 * rng.standard_normal(80))) for _ in range(3)]
    return PilotData(
        baseline_losses=(tuple(base),) * 3, dropping_losses=tuple(drops), seeds=(0, 1, 2),
        mean_keep=0.8, seconds=1.0,
    )  # fmt: skip


def test_measured_curve_and_fit_are_drawn(pilot):
    scheduler = create_variance_based_scheduler(pilot, saving=0.2)
    ax = Figure().subplots()
    plot_variance_fit(ax, scheduler.curve, scheduler.fit)
    measured, fitted = ax.get_lines()
    assert np.allclose(measured.get_ydata(), scheduler.curve.variance)
    assert np.allclose(fitted.get_ydata(), scheduler.fit(np.asarray(scheduler.curve.progress)))
    assert len(ax.collections) == 1  # the bootstrap band
    assert "(nats/token)²" in ax.get_ylabel()


def test_one_pair_has_no_band(pilot):
    one = PilotData(
        baseline_losses=pilot.baseline_losses[:1], dropping_losses=pilot.dropping_losses[:1],
        seeds=(0,), mean_keep=0.8, seconds=1.0,
    )  # fmt: skip
    scheduler = create_variance_based_scheduler(variance_curve(one), saving=0.2)
    ax = Figure().subplots()
    assert not plot_variance_fit(ax, scheduler.curve, scheduler.fit).collections


def test_schedule_is_drawn_over_the_whole_run():
    ax = Figure().subplots()
    plot_schedule(ax, lambda progress: 1 - progress / 2)
    (line,) = ax.get_lines()
    assert line.get_ydata()[0] == 1 and line.get_ydata()[-1] == 0.5
    assert line.get_xdata()[-1] == 1
