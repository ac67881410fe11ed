"""Progressive layer dropping: deeper layers are dropped more, and more as training goes on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import nn

from ..dropping.allocation import weighted_allocation
from ..dropping.schedules import pld_theta, progress_grid
from ..dropping.skipping import attach
from ..errors import check_positive_int, check_range
from .base import LayerDropping, check_saving


def pld(
    model: nn.Module,
    *,
    saving: float | None = None,
    theta_bar: float = 0.5,
    gamma: float = 100.0,
    first_index: int = 0,
    **draws: Any,
) -> LayerDropping:
    """keep_l(t) = 1 - (l + first_index) / L * (1 - theta(t)), theta(t) falling from 1 to theta_bar.

    Args:
        saving: mean drop over the run; where given, theta_bar is solved from it [O].
        theta_bar: the limit of theta, in (0, 1]; the paper's default 0.5.
        gamma: decay rate over the whole run, > 0; the paper's 100.
        first_index: 0 gives l / L, so that layer 0 always runs (default), as in DeepSpeedExamples'
            bing_bert; 1 gives (l + 1) / L. Both are in use under this name.
        draws: seed, mode, scope and rescale, as in `LayerDropping`.

    Raises:
        ValueError: a saving that no theta_bar > 0 reaches; both numbers are named. A run of few
            steps reaches less, and says so at its first.

    Source: Zhang & He 2020, arXiv 2010.13369, equations 5 and 6 [S].
    """
    first_index = check_positive_int("first_index", first_index, minimum=0, maximum=1)
    num_layers = attach(model).num_layers
    depth = (np.arange(num_layers) + first_index) / num_layers
    schedule = PLDSchedule(float(depth.mean()), theta_bar=theta_bar, gamma=gamma, saving=saving)
    return LayerDropping(
        "pld",
        model,
        schedule=schedule,
        allocation=weighted_allocation(depth, drop_max=0.999),
        settings={
            "saving": schedule.saving,
            "theta_bar": schedule.theta_bar,
            "gamma": schedule.gamma,
            "first_index": first_index,
        },
        **draws,
    )


class PLDSchedule:
    """Mean keep probability under PLD, 1 - mean_depth * (1 - theta(t)).

    Args:
        mean_depth: mean over layers of what stands before (1 - theta), in [0, 1].
        theta_bar, gamma, saving: as in `pld`.
    """

    def __init__(
        self, mean_depth: float, *, theta_bar: float, gamma: float, saving: float | None
    ) -> None:
        self.gamma = check_range("gamma", gamma, 0, math.inf, low_open=True, high_open=True)
        self.mean_depth = mean_depth
        self.saving = None if saving is None else check_saving(saving)
        mean_fall = 1 + math.expm1(-self.gamma) / self.gamma
        self.theta_bar = check_range("theta_bar", theta_bar, 0, 1, low_open=True)
        if self.saving is not None:
            self.theta_bar = self._limit(self.saving, mean_fall)
        self._theta = pld_theta(self.theta_bar, gamma=self.gamma)

    def __call__(self, progress: float) -> float:
        """Mean keep probability at this progress."""
        return 1 - self.mean_depth * (1 - self._theta(progress))

    def tabulate(self, num_iterations: int) -> np.ndarray:
        """Mean keep probability at every iteration; given a saving, their mean is exact."""
        fall_T = -np.expm1(-self.gamma * progress_grid(num_iterations))
        theta_bar = self.theta_bar
        if self.saving is not None:
            theta_bar = self._limit(self.saving, float(fall_T.mean()))
        return 1 - self.mean_depth * (1 - theta_bar) * fall_T

    def _limit(self, saving: float, mean_fall: float) -> float:
        """The theta_bar of a saving; theta has fallen this share of the way from 1, on average."""
        most = self.mean_depth * mean_fall  # mean drop at theta_bar = 0
        if saving == 0:
            return 1.0
        if saving >= most:
            raise ValueError(
                f"saving={saving:g} is not below {most:.4g}, the most that PLD can drop here"
            )
        return 1 - saving / most
