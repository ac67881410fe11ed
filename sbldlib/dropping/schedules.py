"""Schedules: progress in [0, 1] to mean keep probability, for the whole model at one iteration.

The direction in time is contested in the field: PLD drops more as training goes on, others less.
The kit shows both and measures them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import check_callable, check_positive_int, check_range

Schedule = Callable[[float], float]
MAX_ITERATIONS = 10**7  # of a table: minutes to fill, and far beyond any run's steps
_GRID = 1001  # points that a mean over the run is reckoned from where its length is not known


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


@dataclass(frozen=True, kw_only=True)
class FullDepthAtEnds:
    """A schedule with full depth at the ends of the run; see `with_full_depth`.

    Attributes:
        schedule: what holds in between, its dropping scaled.
        start, end: shares of the run at full depth.
    """

    schedule: Schedule
    start: float
    end: float

    @property
    def saving(self) -> float | None:
        """The wrapped schedule's mean drop over the run, where it names one."""
        return getattr(self.schedule, "saving", None)

    def __call__(self, progress: float) -> float:
        """Mean keep probability at `progress` in [0, 1]."""
        if not self.start <= progress <= 1 - self.end:
            return 1.0
        return 1 - self._factor * (1 - self.schedule(progress))

    def tabulate(self, num_iterations: int) -> np.ndarray:
        """Mean keep probability at every iteration; its mean is the wrapped schedule's table's."""
        drop_T = 1 - tabulate(self.schedule, num_iterations)
        progress_T = progress_grid(num_iterations)
        between_T = (self.start <= progress_T) & (progress_T <= 1 - self.end)
        drop_between_T = np.where(between_T, drop_T, 0.0)
        return 1 - self._scale(drop_T, drop_between_T) * drop_between_T

    @cached_property
    def _factor(self) -> float:
        progress_T = progress_grid(_GRID)
        between_T = (self.start <= progress_T) & (progress_T <= 1 - self.end)
        drop_T = 1 - np.array([self.schedule(progress) for progress in progress_T])
        return self._scale(drop_T, np.where(between_T, drop_T, 0.0))

    def _scale(self, drop_T: np.ndarray, drop_between_T: np.ndarray) -> float:
        """What the dropping in between is multiplied by."""
        total, left, most = drop_T.sum(), drop_between_T.sum(), drop_between_T.max()
        if total == 0:
            return 1.0
        if left <= 0 or most * total / left >= 1:
            raise ValueError(
                f"full depth for the first {self.start:g} and the last {self.end:g} of the run "
                f"leaves {left:.4g} of {total:.4g} iterations' dropping: the rest cannot make up "
                "for it; spare less of the run, or drop less"
            )
        return float(total / left)


def with_full_depth(schedule: Schedule, *, start: float = 0.0, end: float = 0.0) -> Schedule:
    """The schedule with full depth in the first and last share of the run, the mean unchanged.

    In between, what is dropped is multiplied by one number, so that the mean drop over the run is
    the wrapped schedule's.

    Args:
        schedule: progress in [0, 1] to mean keep probability.
        start, end: shares of the run, in [0, 1); together less than 1.

    Raises:
        ValueError: a share out of range; or, when it is first read, the rest of the run cannot drop
            so much.

    Source: full depth at the end of a run, for what is trained is then what is used, is a practice
        of the field; this form of it is ours [O].
    """
    check_schedule("schedule", schedule)
    start = check_range("start", start, 0, 1, high_open=True)
    end = check_range("end", end, 0, 1, high_open=True)
    if start + end >= 1:
        raise ValueError(f"start={start:g} and end={end:g} leave nothing of the run to drop in")
    return FullDepthAtEnds(schedule=schedule, start=start, end=end)


@dataclass(frozen=True, kw_only=True)
class FrontLoaded:
    """As much dropping as `mean_keep_min` allows from the start, full depth once it is spent.

    Attributes:
        saving: mean drop over the run, in [0, 1 - mean_keep_min].
        mean_keep_min: the lowest mean keep probability, in (0, 1).
    """

    saving: float
    mean_keep_min: float

    def __call__(self, progress: float) -> float:
        """Mean keep probability at `progress` in [0, 1]."""
        return self.mean_keep_min if progress < self.saving / (1 - self.mean_keep_min) else 1.0

    def tabulate(self, num_iterations: int) -> np.ndarray:
        """Mean keep probability at every iteration; its mean is 1 - saving."""
        most = 1 - self.mean_keep_min
        # What is left for the iteration in which the dropping runs out lies in between.
        left_T = self.saving * num_iterations - most * np.arange(len(progress_grid(num_iterations)))
        return 1 - left_T.clip(0, most)


def front_loaded(saving: float, mean_keep_min: float) -> FrontLoaded:
    """All of the dropping at the start of the run, as densely as the layers can hold it.

    Args:
        saving: mean drop over the run, in [0, 1 - mean_keep_min].
        mean_keep_min: the lowest mean keep probability, in (0, 1), such as `lowest_mean_keep`'s.

    Source: training that begins shallow and ends at full depth is the field's (progressive
        stacking, Gong et al. 2019; RaPTr, Panigrahi et al. 2024, arXiv 2402.05913) [S]; this form
        of it is ours [O].
    """
    low = check_range("mean_keep_min", mean_keep_min, 0, 1, low_open=True, high_open=True)
    saving = check_range("saving", saving, 0, 1)
    if saving > 1 - low + 1e-12:
        raise ValueError(
            f"saving={saving:g} is above {1 - low:g}, the most that mean_keep_min={low:g} allows"
        )
    return FrontLoaded(saving=saving, mean_keep_min=low)


@dataclass(frozen=True)
class Tabulated:
    """A schedule that is known by its values at equal distances over the run.

    Attributes:
        values: mean keep probabilities, each in (0, 1]; at least one.
    """

    values: tuple[float, ...]

    def __call__(self, progress: float) -> float:
        """In a straight line between the two nearest."""
        return float(np.interp(progress, progress_grid(len(self.values)), self.values))

    def tabulate(self, num_iterations: int) -> np.ndarray:
        """At every iteration; where there is one value for each, exactly these."""
        if num_iterations == len(self.values):
            return np.array(self.values)
        return np.array([self(float(progress)) for progress in progress_grid(num_iterations)])


def progress_grid(num_iterations: int) -> np.ndarray:
    """Progress t / (T - 1) of every iteration; a run of one iteration is at 0.

    Raises:
        ValueError: fewer than one iteration, or more than ten million.
    """
    num = check_positive_int("num_iterations", num_iterations, maximum=MAX_ITERATIONS)
    return np.linspace(0.0, 1.0, num)


def check_schedule(field: str, schedule: Schedule) -> Schedule:
    """The schedule, or ValueError where it is none: it must give keep probabilities, all (0, 1]."""
    right = "a function of progress, such as constant(0.8) or linear(1.0, 0.7)"
    check_callable(field, schedule, right)
    for progress in (0.0, 0.5, 1.0):
        check_range(f"{field}({progress:g})", schedule(progress), 0, 1, low_open=True)
    return schedule


def tabulate(schedule: Schedule, num_iterations: int) -> np.ndarray:
    """The schedule at every iteration of a run, [num_iterations].

    A schedule with its own `tabulate` is asked for it: there the mean over the run is exact.
    """
    own = getattr(schedule, "tabulate", None)
    if own is not None:
        return own(num_iterations)
    return np.array([schedule(progress) for progress in progress_grid(num_iterations)])
