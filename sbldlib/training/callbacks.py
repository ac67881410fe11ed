"""What takes part in a step: two events, before it and after it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..records import StepRecord


@dataclass
class StepContext:
    """What is known before a step runs; a callback may set the last two.

    Attributes:
        step: iteration t, from 0.
        num_steps: steps of the whole run, where the budget says so; else None.
        progress: t / (T - 1) in [0, 1]; where T is not known, as it is at the pace so far.
        model: the model in training.
        controls: live values in force.
        num_rows: of the step's first batch, where known; what a draw by row is made for.
        keep_probability: what the dropping method applies in this step; empty without one.
        model_changed: set where a callback gave the model other weights, or other ones to train:
            its operations are then counted again.
    """

    step: int
    num_steps: int | None
    progress: float
    model: nn.Module
    controls: dict[str, Any] = field(default_factory=dict)
    num_rows: int | None = None
    keep_probability: tuple[float, ...] = ()
    model_changed: bool = False


class Callback:
    """Takes part in training. Dropping methods are callbacks; so is anything that watches."""

    def before_step(self, context: StepContext) -> None:
        """Called before the first forward of a step."""

    def after_step(self, record: StepRecord) -> None:
        """Called with what the step applied, before its evaluations."""

    def describe(self) -> dict[str, Any]:
        """What this is and with which settings, as plain values for the run's record."""
        return {"callback": type(self).__name__}

    def identity(self) -> dict[str, Any]:
        """`describe`, and whatever else must be equal for a run to go on where it was."""
        return self.describe()

    def state_dict(self) -> dict[str, Any]:
        """What changed since this was made, for a checkpoint: plain values and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
