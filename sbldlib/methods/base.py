"""What every dropping method is: a schedule for the whole model, an allocation over its layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch import nn

from ..dropping.allocation import Allocation
from ..dropping.blocks import check_model
from ..dropping.plan import MODES, draw_active_layers, draw_active_rows
from ..dropping.schedules import (
    Schedule,
    Tabulated,
    check_schedule,
    constant,
    progress_grid,
    tabulate,
)
from ..dropping.skipping import attach
from ..errors import check_choice, check_range, check_seed, unknown_name
from ..records import StepRecord
from ..training.callbacks import Callback, StepContext
from .planned import PlanMismatchError, Planned

__all__ = ["Allocation", "LayerDropping", "PlanMismatchError", "adjust_probability", "check_saving"]

SCOPES = ("per_batch", "per_sequence")
RESCALES = ("none", "train_inverse", "eval_scale")
EFFECTS = ("skip", "skip_backward", "freeze")
DIGEST = "keep_probabilities_sha256"
_PLAN_POINTS = 101  # of a run at which two methods' keep probabilities are compared
RESCALE_MAX = 5.0  # most that a residual is multiplied by: reached at keep 0.2 [O]


class LayerDropping(Callback):
    """A dropping method on one model: before each step it draws the layers that run.

    Rescaling makes up for what is dropped. With x a block's input and k its keep probability:
    "train_inverse" makes the residual of a block that runs min(1/k, 5) times as large, so that, for
    k >= 0.2, the block's mean output over draws is its full-depth output given the same x.
    "eval_scale" makes the residual k times as large in evaluation mode, which is the mean training
    output given the same x. Over several blocks neither is exact, for the next block is not linear
    in its input. The evaluation scale is that of the last step and stays on the model.

    Attributes:
        name: as in `METHODS`.
        allocation: mean keep probability to one a layer.
        seed: of the draws.
        mode: "bernoulli" or "fixed_count", see `draw_active_layers` and `draw_active_rows`.
        scope: "per_batch": a layer is dropped for all rows; "per_sequence": for each row by
            itself. The micro-batches of a step share one draw.
        rescale: one of `RESCALES`.
        effect: what happens to a dropped layer: "skip" (it runs neither forward nor backward),
            "skip_backward" (forward alone; the gradient passes along the residual), "freeze"
            (forward alone; no gradient passes below it).
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
        scope: str = "per_batch",
        rescale: str = "none",
        effect: str = "skip",
        settings: dict[str, Any] | None = None,
        **unknown: Any,
    ):
        self._settings = dict(settings or {})
        for option in unknown:
            raise unknown_name("option", option, [*DRAWS, *self._settings])
        self.name, self.seed = name, check_seed("seed", seed)
        self.mode, self.scope, self.rescale, self.effect = mode, scope, rescale, effect
        self._check_choices()
        self.allocation = allocation
        self.schedule = schedule
        self._model, self._skipping = ref(model), attach(model)
        _check_all_run(model, self._skipping.num_layers)
        self._planned = Planned()
        self._progress, self._num_steps = 0.0, None
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

    @property
    def model(self) -> nn.Module:
        """The model that it drops layers of."""
        model = self._model()
        if model is None:
            raise ReferenceError(f"the model of {self.name} is gone; a method does not keep it")
        return model

    @property
    def planned(self) -> Planned:
        """What the last `before_step` drew."""
        return self._planned

    def draw(self, keep: Sequence[float], step: int) -> Iterable[int]:
        """The layers that are active in this step; a pure function of its arguments."""
        return draw_active_layers(keep, seed=self.seed, iteration=step, mode=self.mode)

    def draw_rows(
        self, keep: Sequence[float], step: int, num_rows: int
    ) -> Sequence[tuple[int, ...]]:
        """For each layer the rows for which it is active; a pure function of its arguments."""
        return draw_active_rows(keep, num_rows, seed=self.seed, iteration=step, mode=self.mode)

    def before_step(self, context: StepContext) -> None:
        """Draw this step's layers and set them on the model."""
        self._progress, self._num_steps = context.progress, context.num_steps
        _ON_MODEL[context.model] = self  # of several methods made, the one at work is adjusted
        keep = self.allocation(self._mean_keep(context))
        self._skipping.clear_draw()
        if self.scope == "per_sequence":
            self._planned = self._plan_rows(keep, context)
        else:
            active = set(self.draw(keep, context.step))
            dropped = [layer for layer in range(len(keep)) if layer not in active]
            self._planned = Planned.of_layers(len(keep), dropped, effect=self.effect)
        self._planned.set_on(self._skipping)
        self._set_scale(keep)
        context.keep_probability = keep

    def after_step(self, record: StepRecord) -> None:
        """Fail the run where what the blocks were counted to do differs from the plan."""
        self._planned.check(record, self._skipping.skipped)

    def describe(self) -> dict[str, Any]:
        """Name and settings, as plain values."""
        return {
            "method": self.name,
            **{name: getattr(self, name) for name in (*DRAWS, "effect")},
            **self._settings,
        }

    def identity(self) -> dict[str, Any]:
        """`describe`, and a digest of the keep probabilities: two schedules, or two sets of
        sensitivities, may share a description."""
        table = [self.keep_probability(float(at)) for at in progress_grid(_PLAN_POINTS)]
        digest = hashlib.sha256(json.dumps(table).encode()).hexdigest()
        return {**self.describe(), DIGEST: digest}

    def state_dict(self) -> dict[str, Any]:
        """Where it is, the schedule in force at every iteration, and what evaluation scales by."""
        return {
            "progress": self._progress,
            "schedule": torch.from_numpy(tabulate(self.schedule, self._num_steps or _PLAN_POINTS)),
            "num_steps": self._num_steps,
            "evaluation_scale": self._skipping.evaluation_scale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave.

        A schedule that was put in while training is taken up as its table: exactly where the
        run's length is known, else by interpolation of its points.
        """
        table = state["schedule"].numpy()
        if not np.array_equal(tabulate(self.schedule, len(table)), table):
            self.schedule = Tabulated(tuple(table.tolist()))
        self._progress, self._num_steps = float(state["progress"]), state["num_steps"]
        self._skipping.set_evaluation_scale(state["evaluation_scale"])

    def _check_choices(self) -> None:
        choices = {"mode": MODES, "scope": SCOPES, "rescale": RESCALES, "effect": EFFECTS}
        for field, known in choices.items():
            check_choice(field, getattr(self, field), known)
        # Where forward runs whole there are no rows to drop and nothing to make up for.
        for field in ("scope", "rescale"):
            value, default = getattr(self, field), choices[field][0]
            if self.effect != "skip" and value != default:
                raise ValueError(
                    f"{field}={value!r} is for layers that are skipped; {self.name} has "
                    f"effect={self.effect!r}, in which every layer runs forward: use "
                    f"{field}={default!r}"
                )

    def _set_scale(self, keep: Sequence[float]) -> None:
        if self.rescale == "train_inverse":
            factors = {layer: min(1 / k, RESCALE_MAX) for layer, k in enumerate(keep) if k < 1}
            self._skipping.set_residual_scale(factors)
        if self.rescale == "eval_scale":
            scale = {layer: k for layer, k in enumerate(keep) if k < 1}
            self._skipping.set_evaluation_scale(scale)
        elif self._skipping.evaluation_scale:  # another method's, that is no longer at work
            self._skipping.set_evaluation_scale({})

    def _plan_rows(self, keep: Sequence[float], context: StepContext) -> Planned:
        if context.num_rows is None:
            raise ValueError("scope='per_sequence' needs context.num_rows, the rows of the batch")
        rows = self.draw_rows(keep, context.step, context.num_rows)
        return Planned.of_rows(rows, context.num_rows)

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


DRAWS = ("seed", "mode", "scope", "rescale")  # what every method's factory passes on
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
    method = _ON_MODEL.get(check_model(model))
    if method is None:
        raise ValueError(
            f"model={type(model).__name__} has no dropping method; make one first, such as "
            "sbld(model, sensitivity_data)"
        )
    at = method.progress if progress is None else check_range("progress", progress, 0, 1)
    if callable(scheduler):
        schedule = check_schedule("scheduler", scheduler)
    else:
        schedule = constant(check_range("scheduler", scheduler, 0, 1, low_open=True))
    keep_probability = method.allocation(float(schedule(at)))
    method.schedule = schedule  # the last thing: what is refused above or here changes nothing
    return keep_probability


def _check_all_run(model: nn.Module, num_layers: int) -> None:
    """Refuse a model of which some layers take no part yet: a plan would name them."""
    num_running = len(getattr(model, "running_blocks", range(num_layers)))
    if num_running < num_layers:
        raise ValueError(
            f"model={type(model).__name__} runs {num_running} of its {num_layers} layers as yet; a "
            "dropping method plans for all of them. Grow it to its last stage first, or let it "
            "grow by growth='diverge', in which all places run from the first stage on"
        )


def check_saving(saving: float) -> float:
    """The mean drop probability asked for over a run, in [0, 1), or ValueError."""
    return check_range("saving", saving, 0, 1, high_open=True)
