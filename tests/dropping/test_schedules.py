"""Schedules: progress to mean keep probability, at its ends, by hand, and in a table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.dropping.schedules import constant, linear, pld_theta, progress_grid, tabulate

probabilities = st.floats(min_value=0.001, max_value=1)
progresses = st.floats(min_value=0, max_value=1)


@given(probabilities, progresses)
def test_constant_is_the_same_all_the_way(mean_keep, progress):
    assert constant(mean_keep)(progress) == mean_keep


@given(probabilities, probabilities, progresses)
def test_linear_goes_straight_from_start_to_end(start, end, progress):
    schedule = linear(start, end)
    assert schedule(0.0) == start
    assert schedule(1.0) == pytest.approx(end, abs=1e-15)
    assert schedule(0.5) == pytest.approx((start + end) / 2, abs=1e-15)
    assert min(start, end) - 1e-15 <= schedule(progress) <= max(start, end) <= 1


@pytest.mark.parametrize(
    "theta_bar, gamma, progress, expected",
    [
        # theta = (1 - theta_bar) exp(-gamma progress) + theta_bar, worked by hand
        (0.5, 100.0, 0.0, 1.0),
        (0.5, 100.0, 0.01, 0.5 * math.exp(-1) + 0.5),
        (0.5, 100.0, 0.01, 0.6839397),
        (0.5, 100.0, 1.0, 0.5),
        (0.9, 4.0, 0.25, 0.1 * 0.36787944 + 0.9),
        (0.2, math.log(2), 1.0, 0.6),
        (1.0, 5.0, 0.3, 1.0),
    ],
)
def test_pld_theta_worked_by_hand(theta_bar, gamma, progress, expected):
    assert pld_theta(theta_bar, gamma=gamma)(progress) == pytest.approx(expected, abs=1e-7)


@given(probabilities, st.floats(min_value=0.01, max_value=500))
def test_pld_theta_falls_from_1_towards_its_limit(theta_bar, gamma):
    values = tabulate(pld_theta(theta_bar, gamma=gamma), 50)
    assert values[0] == 1
    assert (np.diff(values) <= 0).all()
    assert (values >= theta_bar).all()


def test_pld_thetas_defaults_are_the_papers():
    assert pld_theta()(0.02) == pld_theta(0.5, gamma=100.0)(0.02)


@pytest.mark.parametrize("num_iterations", [1, 2, 5, 1000])
def test_progress_runs_from_0_to_1_in_equal_steps(num_iterations):
    grid = progress_grid(num_iterations)
    expected = [t / max(1, num_iterations - 1) for t in range(num_iterations)]
    assert grid == pytest.approx(expected, abs=1e-15)
    assert grid[0] == 0 and grid[-1] == (num_iterations > 1)


def test_a_table_is_the_schedule_at_every_iteration():
    table = tabulate(linear(1.0, 0.5), 5)
    assert table == pytest.approx([1, 0.875, 0.75, 0.625, 0.5])
    assert isinstance(table, np.ndarray) and table.dtype == np.float64
    assert tabulate(constant(0.8), 1).tolist() == [0.8]


def test_a_schedule_with_a_table_of_its_own_is_asked_for_it():
    class Own:
        def __call__(self, progress: float) -> float:
            raise AssertionError("read step by step")

        def tabulate(self, num_iterations: int) -> np.ndarray:
            return np.full(num_iterations, 0.7)

    assert tabulate(Own(), 3).tolist() == [0.7, 0.7, 0.7]


@pytest.mark.parametrize(
    "make, problem",
    [
        (lambda: constant(0), r"mean_keep=0 is outside \(0, 1\]"),
        (lambda: constant(1.01), "mean_keep=1.01 is outside"),
        (lambda: constant(math.nan), "mean_keep=nan is outside"),
        (lambda: constant(None), "mean_keep=None must be a number"),
        (lambda: linear(0.0, 0.5), r"start=0.0 is outside \(0, 1\]"),
        (lambda: linear(0.5, 1.5), r"end=1.5 is outside \(0, 1\]"),
        (lambda: pld_theta(0), r"theta_bar=0 is outside \(0, 1\]"),
        (lambda: pld_theta(0.5, gamma=0), r"gamma=0 is outside \(0, inf\)"),
        (lambda: pld_theta(0.5, gamma=math.inf), "gamma=inf is outside"),
        (lambda: progress_grid(0), "num_iterations=0 must be at least 1"),
        (lambda: tabulate(constant(0.5), 2.5), "num_iterations=2.5 must be a whole number"),
    ],
)
def test_what_is_out_of_range_is_named(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()
