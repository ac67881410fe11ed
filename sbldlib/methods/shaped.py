"""A mean drop that moves over the run as a given shape, its mean or its peak as asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..dropping.schedules import progress_grid
from .base import check_saving

_MIDPOINTS = (np.arange(2000) + 0.5) / 2000


class ShapedSchedule:
    """Mean keep probability 1 - factor * shape(progress).

    Args:
        shape: progress in [0, 1] to a number >= 0, of which only the course matters.
        factor: where no saving is given.
        saving: mean drop over the run, in [0, 1): the factor is solved from it, for a run of known
            length from its own iterations, so that the mean is exact.
        most: the largest mean drop that the layers can hold at one iteration, in (0, 1).

    Raises:
        ValueError: the layers cannot hold what is asked where the shape is highest; both numbers
            are named. A run of few iterations may hold less, and says so at its first.
    """

    def __init__(
        self,
        shape: Callable[[float], float],
        *,
        factor: float,
        saving: float | None,
        most: float,
    ) -> None:
        self.saving = None if saving is None else check_saving(saving)
        self._shape, self._most, self._factor = shape, most, factor
        self.factor = self._factor_for(_MIDPOINTS)

    def __call__(self, progress: float) -> float:
        """Mean keep probability at this progress."""
        return 1 - self.factor * self._shape(progress)

    def tabulate(self, num_iterations: int) -> np.ndarray:
        """Mean keep probability at every iteration; given a saving, the mean drop is exactly it."""
        progress_T = progress_grid(num_iterations)
        return 1 - self._factor_for(progress_T) * self._shapes(progress_T)

    def _shapes(self, progress: np.ndarray) -> np.ndarray:
        return np.array([self._shape(each) for each in progress.tolist()])

    def _factor_for(self, progress: np.ndarray) -> float:
        if not self.saving:
            return self._factor if self.saving is None else 0.0
        shapes = self._shapes(progress)
        mean, highest = float(shapes.mean()), float(shapes.max())
        if self.saving * highest >= self._most * mean:
            peak = f"{self.saving * highest / mean:.4g}" if mean > 0 else "more than any"
            raise ValueError(
                f"saving={self.saving:g} asks for a mean drop of {peak} where this schedule drops "
                f"most, and the layers can hold {self._most:.4g}; ask for a smaller saving"
            )
        return self.saving / mean
