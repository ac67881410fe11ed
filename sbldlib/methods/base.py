"""What every dropping method is: a schedule for the whole model, an allocation over its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from torch import nn

from ..dropping.plan import MODES, draw_active_layers
from ..dropping.schedules import Schedule, constant, tabulate
from ..dropping.skipping import attach
from ..errors import check_positive_int, check_range, unknown_name
from ..records import StepRecord
from ..training.callbacks import Callback, StepContext

Allocation = Callable[[float], tuple[float, ...]]  # mean keep probability -> one a layer


class PlanMismatchError(RuntimeError):
    """The blocks that were seen to run are not those that the plan named."""


class LayerDropping(Callback):
    """A dropping method on one model: before each step it draws the layers that run.

    Attributes:
        name: as in `METHODS`.
        allocation: mean keep probability to one a layer.
        seed: of the draws.
        mode: "bernoulli" or "fixed_count", see `draw_active_layers`.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        *,
        schedule: Schedule,
        allocation: Allocation,
        seed: int = 0,
        mode: str = "bernoulli",
        settings: dict[str, Any] | None = None,
    ):
        if mode not in MODES:
            raise unknown_name("mode", mode, MODES)
        self.seed = check_positive_int("seed", seed, minimum=0)
        self.name, self.mode = name, mode
        self.allocation = allocation
        self.schedule = schedule
        self._skipping = attach(model)
        self._settings = dict(settings or {})
        self._planned: tuple[int, ...] = ()
        self._progress = 0.0
        _ON_MODEL[model] = self

    @property
    def schedule(self) -> Schedule:
        """Progress in [0, 1] to mean keep probability; may be replaced while training."""
        return self._schedule

    @schedule.setter
    def schedule(self, schedule: Schedule) -> None:
        self._check(tabulate(schedule, 101))
        self._schedule, self._table = schedule, None

    def keep_probability(self, progress: float) -> tuple[float, ...]:
        """One keep probability a layer at this progress, in (0, 1]."""
        check_range("progress", progress, 0, 1)
        return self.allocation(float(self.schedule(progress)))

    @property
    def progress(self) -> float:
        """Where the run is; 0 before its first step."""
        return self._progress

    def before_step(self, context: StepContext) -> None:
        """Draw this step's layers and set them on the model."""
        self._progress = context.progress
        _ON_MODEL[context.model] = self  # of several methods made, the one at work is adjusted
        keep = self.allocation(self._mean_keep(context))
        self._planned = draw_active_layers(
            keep, seed=self.seed, iteration=context.step, mode=self.mode
        )
        self._skipping.set_dropped(set(range(len(keep))) - set(self._planned))
        context.keep_probability = keep

    def after_step(self, record: StepRecord) -> None:
        """Fail the run where the counted block calls differ from the plan."""
        expected = set(self._planned) - self._skipping.skipped
        if set(record.layers_run) != expected:
            raise PlanMismatchError(
                f"step {record.step}: planned layers {sorted(expected)}, seen to run "
                f"{sorted(record.layers_run)}; was the model's forward bypassed?"
            )

    def describe(self) -> dict[str, Any]:
        """Name and settings, as plain values."""
        return {"method": self.name, "seed": self.seed, "mode": self.mode, **self._settings}

    def _mean_keep(self, context: StepContext) -> float:
        if context.num_steps is None:
            return float(self.schedule(context.progress))
        # Tabulated once a run and schedule, so that the mean over the run is exact.
        if self._table is None or len(self._table) != context.num_steps:
            self._table = self._check(tabulate(self.schedule, context.num_steps))
        return float(self._table[context.step])

    def _check(self, table: np.ndarray) -> np.ndarray:
        """Try the extremes first: a budget that cannot be met is refused before any step."""
        for mean_keep in (table.min(), table.max()):
            self.allocation(float(mean_keep))
        return table


_ON_MODEL: WeakKeyDictionary[nn.Module, LayerDropping] = WeakKeyDictionary()


def adjust_probability(
    model: nn.Module, scheduler: Schedule | float, *, progress: float | None = None
) -> tuple[float, ...]:
    """Give the model's dropping method another scheduler, in force from the next step on.

    Args:
        model: a model that a method such as `sbld(model, ...)` was made for.
        scheduler: progress in [0, 1] to mean keep probability, or one number for all of the run.
        progress: where to read the probabilities returned; the default is where the run is now.

    Returns:
        The keep probabilities it applied, one a layer.

    Raises:
        ValueError: no method is on the model, or the schedule asks for more than its layers hold;
            the method then keeps the scheduler it had.
    """
    method = _ON_MODEL.get(model)
    if method is None:
        raise ValueError(
            f"model={type(model).__name__} has no dropping method; make one first, such as "
            "sbld(model, sensitivity_data)"
        )
    method.schedule = scheduler if callable(scheduler) else constant(scheduler)
    return method.keep_probability(method.progress if progress is None else progress)


def check_saving(saving: float) -> float:
    """The mean drop probability asked for over a run, in [0, 1), or ValueError."""
    return check_range("saving", saving, 0, 1, high_open=True)
