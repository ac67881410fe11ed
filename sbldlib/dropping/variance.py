"""The variance-based scheduler: from paired pilot runs to the model's mean keep probability.

Legend: T iterations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import check_choice, check_kind, check_range
from ..records import PilotData
from .allocation import allocate
from .curves import VarianceCurve, variance_curve
from .fits import PWEGDFit
from .pwegd_fit import fit_pwegd
from .schedules import progress_grid

LEAST_WHERE_HIGH = "drop_least_where_variance_is_high"
MOST_WHERE_HIGH = "drop_most_where_variance_is_high"
DIRECTIONS = (LEAST_WHERE_HIGH, MOST_WHERE_HIGH)
FITTED = "fitted"
CONSTANT = "constant: fit no better than a constant"
_GRID = 1001  # points between which a call interpolates
_FLAT = 1e-9  # a relative variance closer than this to the extreme is at the extreme


@dataclass(frozen=True, kw_only=True)
class VarianceScheduler:
    """A schedule, progress in [0, 1] to mean keep probability, with the evidence behind it.

    Attributes:
        saving: d, the mean drop over training, in [0, 1 - mean_keep_min].
        mean_keep_min: the lowest mean keep probability, in (0, 1].
        direction: one of `DIRECTIONS`.
        fit: the fitted variance; read only where `reason` is "fitted".
        curve: what was fitted.
        reason: "fitted", or why the schedule is a constant.
    """

    saving: float
    mean_keep_min: float
    direction: str
    fit: PWEGDFit
    curve: VarianceCurve
    reason: str

    def __call__(self, progress: float) -> float:
        """Mean keep probability at `progress` in [0, 1], between points of a fine grid."""
        return float(np.interp(progress, progress_grid(_GRID), self._grid))

    def tabulate(self, num_iterations: int) -> np.ndarray:
        """Mean keep probability at every iteration, [num_iterations]; its mean is 1 - saving."""
        progress_T = progress_grid(num_iterations)
        if self.reason != FITTED:
            return np.full(len(progress_T), max(1 - self.saving, self.mean_keep_min))
        # outside the measured curve its end is held: a fit is not extrapolated
        variance_T = self.fit(progress_T.clip(self.curve.progress[0], self.curve.progress[-1]))
        return spread_saving(
            variance_T,
            saving=self.saving,
            mean_keep_min=self.mean_keep_min,
            direction=self.direction,
        )

    @cached_property
    def _grid(self) -> np.ndarray:
        return self.tabulate(_GRID)

    def summary(self) -> str:
        """The schedule, the curve and the fit, in a few lines of text."""
        return (
            f"mean keep {self._grid.min():.3f} to {self._grid.max():.3f}, "
            f"mean drop {self.saving:g}, {self.direction} ({self.reason})\n"
            f"{self.curve.summary()}\n{self.fit.summary()}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The scheduler as plain JSON types."""
        return {
            "saving": self.saving,
            "mean_keep_min": self.mean_keep_min,
            "direction": self.direction,
            "reason": self.reason,
            "fit": self.fit.to_dict(),
            "curve": self.curve.to_dict(),
        }


def create_variance_based_scheduler(
    training_data: PilotData | VarianceCurve,
    *,
    saving: float = 0.2,
    mean_keep_min: float = 0.1,
    degree: int = 2,
    window: float = 0.05,
    direction: str = LEAST_WHERE_HIGH,
    num_starts: int = 8,
    seed: int = 0,
) -> VarianceScheduler:
    """A schedule that places dropping over training by the variance that dropping causes.

    Fits the PWEGD to the variance between paired runs, then K(t) = 1 - d (1 - f / max f) /
    mean(1 - f / max f): dropping is least where the variance is highest, and d on average.

    Args:
        training_data: the pilot's paired losses, or a variance curve made from them.
        saving: d, the mean drop over training, in [0, 1 - mean_keep_min].
        mean_keep_min: the lowest mean keep probability, in (0, 1]; what would pass it is spread
            over the rest of the run.
        degree: of the PWEGD's polynomial, >= 0.
        window: smoothing as a share of the run, in [0, 1]; a VarianceCurve carries its own.
        direction: one of `DIRECTIONS`; the inverse is there so that the choice can be tested.
        num_starts: starts of the fit, >= 1.
        seed: of the fit's starts and of the bootstrap, >= 0.

    Returns:
        The scheduler with its fit; constant, and saying so, where the fit carries no signal.

    Raises:
        ValueError: an argument is outside its range, or the curve is degenerate.

    Source: a keep probability over iterations from a fitted PWEGD [P]: Zeng et al., AAAI 2023,
        doi 10.1609/aaai.v37i9.26321; K(t), the smoothing and the signal rule [O].
    """
    _check_saving(saving, mean_keep_min, direction)
    kinds = (PilotData, VarianceCurve)
    check_kind("training_data", training_data, kinds, "a PilotData or a VarianceCurve")
    if isinstance(training_data, PilotData):
        curve = variance_curve(training_data, window=window, seed=seed)
    else:
        curve = training_data
    fit = fit_pwegd(
        curve.progress,
        curve.variance,
        degree=degree,
        window=curve.window,
        num_starts=num_starts,
        seed=seed,
    )
    return VarianceScheduler(
        saving=float(saving),
        mean_keep_min=float(mean_keep_min),
        direction=direction,
        fit=fit,
        curve=curve,
        reason=FITTED if fit.carries_signal else CONSTANT,
    )


def spread_saving(
    variance_T: np.ndarray, *, saving: float, mean_keep_min: float, direction: str
) -> np.ndarray:
    """K(t) for a variance at every iteration: the mean is 1 - saving, clipped mass spread again.

    Args:
        variance_T: T finite values >= 0.
        saving, mean_keep_min, direction: as in `create_variance_based_scheduler`.

    Returns:
        T values in [mean_keep_min, 1]. Drops are proportional to 1 - f / max f (or to f / max f
        the other way) up to 1 - mean_keep_min; what passes it is spread over the rest in
        proportion, and over the extreme, where that is 0, once all others are full.

    Source: reconstruction [O].
    """
    _check_saving(saving, mean_keep_min, direction)
    top = variance_T.max()
    relative_T = variance_T / top if top > 0 else np.ones_like(variance_T)
    if saving == 0:
        return np.ones_like(variance_T)
    demand_T = 1 - relative_T if direction == LEAST_WHERE_HIGH else relative_T
    # rounding in a flat curve must not become a schedule
    demand_T = np.where(demand_T < _FLAT, 0.0, demand_T)
    keep_T = allocate(1 - saving, demand_T, drop_max=1 - mean_keep_min)
    return np.clip(keep_T, mean_keep_min, 1.0)


def _check_saving(saving: float, mean_keep_min: float, direction: str) -> None:
    check_range("mean_keep_min", mean_keep_min, 0, 1, low_open=True)
    check_range("saving", saving, 0, 1)
    if saving > 1 - mean_keep_min + 1e-12:
        raise ValueError(
            f"saving={saving!r} is outside [0, {1 - mean_keep_min:g}], "
            f"which mean_keep_min={mean_keep_min!r} leaves"
        )
    check_choice("direction", direction, DIRECTIONS)
