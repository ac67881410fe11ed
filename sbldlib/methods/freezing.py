"""Layer freezing from the bottom up: lower layers stop training before the higher ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from ..dropping.allocation import Allocation
from ..dropping.skipping import attach
from ..errors import check_choice, check_positive_int, check_range
from .base import LayerDropping, check_saving

FREEZE_TIMES = {"linear": 1, "cubic": 3}  # the power that spaces the times


def freezing(
    model: nn.Module,
    *,
    saving: float | None = None,
    t_0: float = 0.8,
    freeze_times: str = "cubic",
    **draws: Any,
) -> LayerDropping:
    """Layer l is frozen from t_l on: t_l = t_0 + (1 - t_0) l / L, or the third power of that.

    What is frozen is always a prefix of the layers: they run forward, and no gradient passes below
    the highest of them. So the embeddings under it get none either, but for the part that a tied
    head gives them. Nothing is drawn: a layer freezes at the iteration nearest to its time, and
    its keep probability, the share of an iteration for which it trains, is 0 from then on.

    Args:
        saving: mean share of the layers' backward passes that are skipped, over the run; where
            given, t_0 is solved from it [O]. Forward passes are not saved.
        t_0: when layer 0 is frozen, as progress in [0, 1] before the power; 0.8 as published.
        freeze_times: "cubic" (default, as published) or "linear".
        draws: of what `LayerDropping` takes; seed and mode change nothing here.

    Raises:
        ValueError: a saving above what t_0 = 0 gives; both numbers are named.

    Source: Brock et al. 2017, FreezeOut, arXiv 1706.04983, the times as in ajbrock/FreezeOut's
        densenet.py, where the head has the index L and is never frozen [S]. Its learning rates,
        annealed to 0 at each layer's own time, are not taken: the run's schedule holds for all.
    """
    num_layers = attach(model).num_layers
    course = FreezeSchedule(num_layers, t_0=t_0, freeze_times=freeze_times, saving=saving)
    return Freezing(
        "freezing",
        model,
        schedule=course,
        allocation=_prefix(num_layers),
        effect="freeze",
        settings={"saving": course.saving, "t_0": course.t_0, "freeze_times": freeze_times},
        **draws,
    )


class Freezing(LayerDropping):
    """A dropping method without a draw: what is kept for less than half a step is frozen."""

    def draw(self, keep: Sequence[float], step: int) -> tuple[int, ...]:
        """The layers that train in this step."""
        return tuple(layer for layer, share in enumerate(keep) if share >= 0.5)


class FreezeSchedule:
    """Mean share of the layers that train, from each layer's freezing time.

    Args:
        num_layers: L.
        t_0, freeze_times, saving: as in `freezing`.

    Attributes:
        times_L: progress in [0, 1] from which each layer is frozen.
    """

    def __init__(
        self, num_layers: int, *, t_0: float, freeze_times: str, saving: float | None
    ) -> None:
        check_choice("freeze_times", freeze_times, FREEZE_TIMES)
        self._depth_L, self._power = np.arange(num_layers) / num_layers, FREEZE_TIMES[freeze_times]
        self.saving = None if saving is None else check_saving(saving)
        self.t_0 = check_range("t_0", t_0, 0, 1)
        if self.saving is not None:
            self.t_0 = self._start()
        self.times_L = self._times(self.t_0)

    def __call__(self, progress: float) -> float:
        """Share of the layers that train at this progress."""
        return 1 - float((self.times_L < progress).mean())

    def tabulate(self, num_iterations: int) -> np.ndarray:
        """Share of the layers that train in every iteration, which is 1/T of the run long.

        The mean over the run is 1 - mean over layers of (1 - t_l), exactly.
        """
        ends_T1 = np.arange(1, check_positive_int("num_iterations", num_iterations) + 1)[:, None]
        frozen_TL = np.clip(ends_T1 - self.times_L * num_iterations, 0, 1)
        return 1 - frozen_TL.mean(axis=1)

    def _times(self, t_0: float) -> np.ndarray:
        return (t_0 + (1 - t_0) * self._depth_L) ** self._power

    def _start(self) -> float:
        """The t_0 of a saving, by bisection: the later the first layer, the less is saved."""
        assert self.saving is not None
        most = 1 - float(self._times(0.0).mean())
        if self.saving > most:
            raise ValueError(
                f"saving={self.saving:g} is above {most:.4g}, the most that freezing can save with "
                "these freeze_times, where layer 0 is never trained (t_0 = 0)"
            )
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            saves_enough = 1 - self._times(middle).mean() >= self.saving
            low, high = (middle, high) if saves_enough else (low, middle)
        return low if self.saving > 0 else 1.0


def _prefix(num_layers: int) -> Allocation:
    """All the freezing at the bottom, the highest frozen layer for the part that is left over."""

    def allocation(mean_keep: float) -> tuple[float, ...]:
        mean_keep = check_range("mean_keep", mean_keep, 0, 1)
        frozen = round((1 - mean_keep) * num_layers, 12)  # no rest by rounding alone
        return tuple(np.clip(np.arange(1, num_layers + 1) - frozen, 0, 1).tolist())

    return allocation
