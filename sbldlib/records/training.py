"""What training did: steps and runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .base import FORMAT, Record


@dataclass(frozen=True, kw_only=True)
class StepRecord(Record):
    """One training step as it was applied.

    Attributes:
        step: iteration t, from 0.
        progress: t / (T - 1), or reckoned from the budget where T is not known; in [0, 1].
        loss_nats: training loss, nats per token, at the depth that ran.
        learning_rate: of the first parameter group.
        gradient_norm: before clipping.
        seconds: wall-clock of the step without evaluation.
        tokens: input tokens of the step.
        flops: floating-point operations run, forward and backward.
        flops_full: what full depth would have run.
        keep_probability: one a layer, in (0, 1]; empty where no method is attached.
        layers_run: layers whose blocks were seen to run.
        forward_share: share of the batch's rows for which each layer ran forward; () where it is
            1 for layers_run and 0 for the others.
        backward_share: the same of backward; () where it is as forward.
        evaluations: results measured after the step, at full depth.
        controls: values that the live controls held during the step.
        micro_batches: forward and backward passes that made up the step; more than were asked for
            where memory ran out and each was run in parts.
    """

    step: int
    progress: float
    loss_nats: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    tokens: int
    flops: float
    flops_full: float
    keep_probability: tuple[float, ...] = ()
    layers_run: tuple[int, ...] = ()
    forward_share: tuple[float, ...] = ()
    backward_share: tuple[float, ...] = ()
    evaluations: dict[str, float] = field(default_factory=dict)
    controls: dict[str, Any] = field(default_factory=dict)
    micro_batches: int = 1

    @property
    def num_layers_forward(self) -> float:
        """Layers that ran forward, a layer that ran for part of the rows counting as that part."""
        return math.fsum(self.forward_share) if self.forward_share else len(self.layers_run)

    @property
    def num_layers_backward(self) -> float:
        """Layers that ran backward, counted like `num_layers_forward`."""
        return math.fsum(self.backward_share) if self.backward_share else self.num_layers_forward


@dataclass(frozen=True, kw_only=True)
class RunRecord(Record):
    """One training run, whole: what was asked, on what machine, and every step.

    Attributes:
        name: what the run is called in tables.
        configuration: the training configuration, as plain values.
        environment: versions and machine.
        num_layers: residual blocks of the model.
        num_parameters: weights trained.
        steps: one record a step.
        controls_log: (step, name, old, new) of every live change.
        seconds: training time without evaluation.
        outcome: "completed", "stopped" by its controls, or "interrupted" by a signal.
        resumes: where it was taken up from its folder: the step, whether it went on exactly as it
            would have, and what else was different where not.
    """

    name: str
    configuration: dict[str, Any]
    environment: dict[str, Any]
    num_layers: int
    num_parameters: int
    steps: tuple[StepRecord, ...]
    controls_log: tuple[tuple[Any, ...], ...] = ()
    seconds: float = 0.0
    outcome: str = "completed"
    resumes: tuple[dict[str, Any], ...] = ()

    def __iter__(self) -> Iterator[StepRecord]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunRecord:
        """The run read from `to_dict`'s form."""
        steps = tuple(
            StepRecord.from_dict({"kind": "StepRecord", "format": FORMAT, **step})
            for step in values.get("steps", ())
        )
        return super().from_dict({**values, "steps": steps})

    @property
    def losses(self) -> tuple[float, ...]:
        """Training loss of every step, nats per token."""
        return tuple(step.loss_nats for step in self.steps)

    @property
    def final(self) -> dict[str, float]:
        """The last evaluations, by name."""
        return next((dict(s.evaluations) for s in reversed(self.steps) if s.evaluations), {})

    @property
    def realised_drop(self) -> float:
        """Share of layer runs that were skipped, over the whole run."""
        return self._drop([step.num_layers_forward for step in self.steps])

    @property
    def realised_backward_drop(self) -> float:
        """Share of the layers' backward runs that were skipped, over the whole run."""
        return self._drop([step.num_layers_backward for step in self.steps])

    def _drop(self, layers_per_step: list[float]) -> float:
        full = self.num_layers * len(self.steps)
        return 1 - math.fsum(layers_per_step) / full if full else 0.0

    @property
    def flops_saved(self) -> float:
        """Share of full depth's floating-point operations that were not run."""
        full = sum(step.flops_full for step in self.steps)
        return 1 - sum(step.flops for step in self.steps) / full if full else 0.0

    def columns(self) -> dict[str, list[Any]]:
        """The steps as columns, ready for `pandas.DataFrame(run.columns())`."""
        names = ["step", "progress", "loss_nats", "learning_rate", "gradient_norm", "seconds"]
        names += ["tokens", "flops", "flops_full"]
        table = {name: [getattr(step, name) for step in self.steps] for name in names}
        table["num_layers_run"] = [len(step.layers_run) for step in self.steps]
        return table
