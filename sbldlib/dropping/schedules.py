"""Schedules: progress in [0, 1] to mean keep probability, for the whole model at one iteration.

The direction in time is contested in the field: PLD drops more as training goes on, others less.
The kit shows both and measures them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..errors import check_positive_int, check_range

Schedule = Callable[[float], float]


def constant(mean_keep: float) -> Schedule:
    """The same mean keep probability, in (0, 1], all the way."""
    mean_keep = check_range("mean_keep", mean_keep, 0, 1, low_open=True)
    return lambda progress: mean_keep


def linear(start: float, end: float) -> Schedule:
    """From `start` to `end` in a straight line; both in (0, 1]."""
    start = check_range("start", start, 0, 1, low_open=True)
    end = check_range("end", end, 0, 1, low_open=True)
    return lambda progress: start + (end - start) * progress


def pld_theta(theta_bar: float = 0.5, *, gamma: float = 100.0) -> Schedule:
    """Progressive layer dropping's theta: from 1 towards `theta_bar`, exponentially.

    Args:
        theta_bar: the limit, in (0, 1].
        gamma: decay rate over the whole run, > 0; the paper sets 100 (gamma = 100 / T a step).

    Source: Zhang & He 2020, arXiv 2010.13369, equation 6 [S].
    """
    theta_bar = check_range("theta_bar", theta_bar, 0, 1, low_open=True)
    gamma = check_range("gamma", gamma, 0, math.inf, low_open=True, high_open=True)
    return lambda progress: (1 - theta_bar) * math.exp(-gamma * progress) + theta_bar


def progress_grid(num_iterations: int) -> np.ndarray:
    """Progress t / (T - 1) of every iteration; a run of one iteration is at 0."""
    return np.linspace(0.0, 1.0, check_positive_int("num_iterations", num_iterations))


def tabulate(schedule: Schedule, num_iterations: int) -> np.ndarray:
    """The schedule at every iteration of a run, [num_iterations].

    A schedule with its own `tabulate` is asked for it: there the mean over the run is exact.
    """
    own = getattr(schedule, "tabulate", None)
    if own is not None:
        return own(num_iterations)
    return np.array([schedule(progress) for progress in progress_grid(num_iterations)])
