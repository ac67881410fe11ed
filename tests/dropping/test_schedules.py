"""Schedules: progress to mean keep probability, at its ends, by hand, and in a table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.dropping.schedules import (
    check_schedule,
    constant,
    front_loaded,
    linear,
    pld_theta,
    progress_grid,
    tabulate,
    with_full_depth,
)

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


# ---- full depth at the ends


shares = st.floats(min_value=0, max_value=0.4)
ends_of_drop = st.floats(min_value=0.6, max_value=1)


@given(ends_of_drop, ends_of_drop, shares, shares, st.integers(min_value=40, max_value=300))
def test_full_depth_at_the_ends_leaves_the_mean_as_it_was(first, last, start, end, num_iterations):
    plain = linear(first, last)
    expected, grid = tabulate(plain, num_iterations), progress_grid(num_iterations)
    try:
        table = tabulate(with_full_depth(plain, start=start, end=end), num_iterations)
    except ValueError as problem:
        between = (grid >= start) & (grid <= 1 - end)
        drop = np.where(between, 1 - expected, 0)
        assert "cannot make up" in str(problem)
        assert drop.max() * (1 - expected).sum() >= drop.sum()
        return
    assert table.mean() == pytest.approx(expected.mean(), abs=1e-12)
    assert (table[(grid < start) | (grid > 1 - end)] == 1).all()
    assert ((table > 0) & (table <= 1)).all()
    assert (table <= expected + 1e-12)[(grid >= start) & (grid <= 1 - end)].all()


def test_full_depth_at_the_ends_worked_by_hand():
    schedule = with_full_depth(constant(0.75), start=0.2, end=0.3)
    # of ten iterations, at 0/9 to 9/9, two and three are at full depth
    assert tabulate(schedule, 10) == pytest.approx([1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 1, 1, 1])
    assert schedule(0.1) == schedule(0.8) == 1.0
    assert schedule(0.5) == pytest.approx(0.5, abs=2e-3)  # where no length is known


def test_the_course_in_between_is_the_wrapped_ones_scaled():
    falling = linear(1.0, 0.6)
    table = tabulate(with_full_depth(falling, end=0.5), 101)
    ratio = (1 - table[1:51]) / (1 - tabulate(falling, 101)[1:51])
    assert ratio == pytest.approx(np.full(50, ratio[0])) and ratio[0] > 1


def test_without_shares_nothing_changes():
    plain = linear(1.0, 0.5)
    schedule = with_full_depth(plain)
    assert tabulate(schedule, 50) == pytest.approx(tabulate(plain, 50), abs=1e-15)
    assert schedule(0.3) == pytest.approx(plain(0.3))
    assert tabulate(with_full_depth(constant(1.0), start=0.5), 9).tolist() == [1.0] * 9


def test_the_wrapped_schedules_own_table_and_saving_are_read():
    class Own:
        saving = 0.125

        def __call__(self, progress: float) -> float:
            return 0.9

        def tabulate(self, num_iterations: int) -> np.ndarray:
            return np.array([1.0, 0.75] * (num_iterations // 2))

    schedule = with_full_depth(Own(), start=0.5)
    assert tabulate(schedule, 8) == pytest.approx([1, 1, 1, 1, 1, 0.5, 1, 0.5])
    assert schedule.saving == 0.125 and with_full_depth(constant(0.5)).saving is None


@pytest.mark.parametrize(
    "start, end, problem",
    [
        (-0.1, 0.0, r"start=-0.1 is outside \[0, 1\)"),
        (0.0, 1.0, r"end=1.0 is outside \[0, 1\)"),
        (0.5, 0.5, "start=0.5 and end=0.5 leave nothing of the run"),
        (float("nan"), 0.0, "start=nan"),
    ],
)
def test_shares_out_of_range_are_named(start, end, problem):
    with pytest.raises(ValueError, match=problem):
        with_full_depth(constant(0.9), start=start, end=end)


@pytest.mark.parametrize(
    "schedule, problem",
    [
        (constant(0.5), "first 0.5 and the last 0.1 of the run leaves 20 of 50 iterations"),
        (lambda progress: 0.2 if progress < 0.4 else 1.0, "leaves 0 of 32"),
    ],
)
def test_what_the_rest_cannot_make_up_for_is_refused_with_both_numbers(schedule, problem):
    with pytest.raises(ValueError, match=problem):
        tabulate(with_full_depth(schedule, start=0.5, end=0.1), 100)
    with pytest.raises(ValueError, match="cannot make up"):
        with_full_depth(schedule, start=0.5, end=0.1)(0.6)


# ---------------------------------------------------------------- all of it at the front


@given(st.floats(0.05, 0.95), st.floats(0, 1), st.integers(1, 400))
def test_front_loaded_keeps_its_mean_whatever_the_length(mean_keep_min, share, num_iterations):
    saving = share * (1 - mean_keep_min)
    keep_T = tabulate(front_loaded(saving, mean_keep_min), num_iterations)
    assert keep_T.mean() == pytest.approx(1 - saving, abs=1e-12)
    assert keep_T.min() >= mean_keep_min - 1e-12 and keep_T.max() <= 1
    assert (np.diff(keep_T) >= 0).all()  # it drops first, then runs at full depth
    assert ((mean_keep_min + 1e-9 < keep_T) & (keep_T < 1 - 1e-9)).sum() <= 1


def test_front_loaded_is_dense_and_then_done():
    schedule = front_loaded(0.25, 0.5)
    assert tabulate(schedule, 8).tolist() == [0.5] * 4 + [1.0] * 4
    assert [schedule(progress) for progress in (0.0, 0.49, 0.5, 1.0)] == [0.5, 0.5, 1.0, 1.0]


def test_front_loaded_refuses_more_than_the_layers_hold():
    with pytest.raises(ValueError, match=r"saving=0.6 is above 0.5.*mean_keep_min=0.5"):
        front_loaded(0.6, 0.5)
    with pytest.raises(ValueError, match="mean_keep_min=0"):
        front_loaded(0.2, 0.0)


def test_a_table_that_would_fill_the_memory_is_refused():
    with pytest.raises(ValueError, match="num_iterations=1000000000 must be at most 10000000"):
        tabulate(constant(0.8), 10**9)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (0.8, "scheduler=0.8 must be a function of progress"),
        (lambda progress: 1.2, r"scheduler\(0\)=1.2 is outside"),
        (lambda progress: "much", r"scheduler\(0\)='much' must be a number"),
        (lambda progress: 0.5 - progress, r"scheduler\(0.5\)=0.0 is outside"),
    ],
)
def test_what_is_no_schedule_is_named(schedule, words):
    with pytest.raises(ValueError, match=words):
        check_schedule("scheduler", schedule)
    assert check_schedule("scheduler", constant(0.5))(0.3) == 0.5
