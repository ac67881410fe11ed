"""Schedules by name, all with one mean drop over the run, for a hand that changes them.

A schedule that comes in when a run is half-way is read from where the run is: the mean over the
whole run is then no longer the asked one. The ledger says what was dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..dropping.schedules import Schedule, constant, front_loaded, linear, progress_grid
from ..errors import check_choice
from ..methods.shaped import ShapedSchedule

PLD_GAMMA = 10.0  # of the shape alone: at the paper's 100 it cannot be told from a constant
_GRID = 1001


class PWEGDSchedule:
    """K(t) of a PWEGD that is set by hand: dropped least where the density is high [O].

    Args:
        saving: mean drop over the run.
        mean_keep_min: the lowest mean keep probability, in (0, 1].
        coefficients, shape, scale: a_0..a_m, q and b, see `sbldlib.dropping.pwegd.PWEGD`; x is
            the run's progress.
    """

    def __init__(
        self,
        saving: float,
        mean_keep_min: float,
        *,
        coefficients: tuple[float, ...],
        shape: float,
        scale: float,
    ):
        # scipy's: not for those who never ask
        from ..dropping.pwegd import log_kernel
        from ..dropping.variance import LEAST_WHERE_HIGH, spread_saving

        self._spread = partial(spread_saving, direction=LEAST_WHERE_HIGH)
        self._saving, self._mean_keep_min = saving, mean_keep_min
        self._log_density = partial(log_kernel, coefficients=coefficients, shape=shape, scale=scale)
        self._grid = self.tabulate(_GRID)

    def __call__(self, progress: float) -> float:
        """Mean keep probability at this progress, between points of a fine grid."""
        return float(np.interp(progress, progress_grid(_GRID), self._grid))

    def tabulate(self, num_iterations: int) -> np.ndarray:
        """Mean keep probability at every iteration; its mean is 1 - saving."""
        log_density_T = self._log_density(progress_grid(num_iterations))
        return self._spread(
            np.exp(log_density_T - log_density_T.max()),
            saving=self._saving,
            mean_keep_min=self._mean_keep_min,
        )


def _linear_more(saving: float, lowest: float, _: Mapping[str, Any]) -> Schedule:
    return linear(1.0, 1 - 2 * saving)


def _linear_less(saving: float, lowest: float, _: Mapping[str, Any]) -> Schedule:
    return linear(1 - 2 * saving, 1.0)


def _pld(saving: float, lowest: float, _: Mapping[str, Any]) -> Schedule:
    return ShapedSchedule(
        lambda progress: -math.expm1(-PLD_GAMMA * progress),
        factor=0.0,
        saving=saving,
        most=1 - lowest,
    )


def _pwegd(saving: float, lowest: float, values: Mapping[str, Any]) -> Schedule:
    return PWEGDSchedule(
        saving,
        lowest,
        coefficients=(1.0, values["pwegd_a1"], values["pwegd_a2"]),
        shape=values["pwegd_shape"],
        scale=values["pwegd_scale"],
    )


SCHEDULES: dict[str, Callable[[float, float, Mapping[str, Any]], Schedule]] = {
    "constant": lambda saving, lowest, _: constant(1 - saving),
    "linear_more": _linear_more,
    "linear_less": _linear_less,
    "front": lambda saving, lowest, _: front_loaded(saving, lowest),
    "pld": _pld,
    "pwegd": _pwegd,
}


def make_schedule(
    name: str, saving: float, *, lowest: float, values: Mapping[str, Any]
) -> Schedule:
    """A schedule of this mean drop over the run.

    Args:
        name: "constant"; "linear_more" or "linear_less", dropping ever more or ever less;
            "front", all of it at the start; "pld", the shape of progressive layer dropping [S];
            "pwegd" [O].
        saving: mean drop over the run, in [0, 1).
        lowest: the least mean keep probability that the layers can hold.
        values: has pwegd_shape, pwegd_scale, pwegd_a1 and pwegd_a2 for "pwegd".

    Raises:
        ValueError: an unknown name, or a saving that it cannot hold.
    """
    return SCHEDULES[check_choice("schedule", name, SCHEDULES)](saving, lowest, values)
