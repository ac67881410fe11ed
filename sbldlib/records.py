"""The frozen records that pass between rooms, with JSON in and out.

Every record says what was applied, not what was asked.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

from .errors import check_finite, check_layers, check_positive_int, check_range

FORMAT = 1  # raised whenever a field changes its meaning


@dataclass(frozen=True, kw_only=True)
class Record:
    """What all records share: JSON text, and files that are whole or absent."""

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON types, with its kind and format number."""
        body = dataclasses.asdict(self)
        return {"kind": type(self).__name__, "format": FORMAT, **body}

    def to_json(self) -> str:
        """The record as JSON text; a number that is not finite is written as null."""
        return json.dumps(_finite(self.to_dict()), indent=1, allow_nan=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]):
        """The record read from `to_dict`'s form.

        Raises:
            ValueError: another kind, another format, or fields that do not match.
        """
        body = dict(values)
        kind, version = body.pop("kind", None), body.pop("format", None)
        if kind != cls.__name__:
            raise ValueError(f"kind={kind!r} in this file, {cls.__name__!r} was asked for")
        if version != FORMAT:
            raise ValueError(f"format={version!r} of {kind} is not this version's {FORMAT}")
        fields = dataclasses.fields(cls)
        names = {f.name for f in fields}
        # A file from before a field was added holds its default.
        needed = {f.name for f in fields if f.default is MISSING and f.default_factory is MISSING}
        if odd := sorted((body.keys() - names) | (needed - body.keys())):
            raise ValueError(f"{kind}: fields {odd} are missing or unknown")
        return cls(**{name: _tuples(value) for name, value in body.items()})

    @classmethod
    def from_json(cls, text: str):
        """The record read from `to_json`'s text."""
        return cls.from_dict(json.loads(text))

    def save(self, path: str | Path) -> Path:
        """Write the record as JSON; the file appears whole or not at all."""
        return write_atomically(path, self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path):
        """Read a record that `save` wrote."""
        return cls.from_json(Path(path).read_text())


def write_atomically(path: str | Path, content: bytes) -> Path:
    """Write `content` under a temporary name, sync it to disk, then give it its name."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


@dataclass(frozen=True, kw_only=True)
class SensitivityData(Record):
    """How much each layer matters: one value a layer, larger is more sensitive.

    Attributes:
        values: one per layer, in `unit`.
        standard_errors: one per layer, in `unit`, over paired batches.
        method: the estimator's name, as in `sbldlib.sensitivity.ESTIMATORS`.
        unit: "nats per token" for loss differences.
        num_batches: batches that the values are means over.
        iteration: training iteration of the measured model, where known.
        samples: [layer][batch], what the values are means of; empty where it was not kept.
    """

    values: tuple[float, ...]
    standard_errors: tuple[float, ...]
    method: str = "loss_delta"
    unit: str = "nats per token"
    num_batches: int = 0
    iteration: int | None = None
    samples: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", check_finite("values", self.values))
        errors = check_finite("standard_errors", self.standard_errors)
        object.__setattr__(self, "standard_errors", errors)
        if not self.values:
            raise ValueError("values=() holds no layer; at least one is needed")
        if len(self.values) != len(errors):
            raise ValueError(
                f"standard_errors has {len(errors)} entries, values has {len(self.values)}"
            )
        object.__setattr__(self, "samples", self._checked_samples())

    def _checked_samples(self) -> tuple[tuple[float, ...], ...]:
        rows = tuple(check_finite(f"samples[{i}]", row) for i, row in enumerate(self.samples))
        sizes = {len(row) for row in rows}
        if rows and (len(rows) != len(self.values) or sizes != {self.num_batches}):
            raise ValueError(
                f"samples is {len(rows)} x {sorted(sizes)}; it must be num_layers x num_batches = "
                f"{len(self.values)} x {self.num_batches}, or empty"
            )
        return rows

    @property
    def num_layers(self) -> int:
        """Number of layers measured."""
        return len(self.values)

    def ranking(self) -> tuple[int, ...]:
        """Layers from the most to the least sensitive; ties keep layer order."""
        return tuple(sorted(range(self.num_layers), key=lambda layer: -self.values[layer]))


@dataclass(frozen=True, kw_only=True)
class LayerLists(Record):
    """The block list, never dropped, and the allow list, which may be; both most sensitive first.

    Attributes:
        block, allow: layers; together every layer once.
        rule: how the size of the block list was chosen.
    """

    block: tuple[int, ...]
    allow: tuple[int, ...]
    rule: str

    def __post_init__(self) -> None:
        both = tuple(self.block) + tuple(self.allow)
        check_layers("block + allow", both, len(both))

    @property
    def num_layers(self) -> int:
        """Layers in both lists together."""
        return len(self.block) + len(self.allow)


@dataclass(frozen=True, kw_only=True)
class PilotData(Record):
    """Training losses of paired runs: baseline and layer dropping from one seed, data and weights.

    Attributes:
        baseline_losses, dropping_losses: [num_pairs][num_iterations], nats per token.
        seeds: one a pair.
        mean_keep: the mean keep probability that the dropping runs applied.
        seconds: what all these runs cost, in wall-clock; to be charged to what uses the pilot.
        flops: the same in floating-point operations run; 0 where they were not counted.
    """

    baseline_losses: tuple[tuple[float, ...], ...]
    dropping_losses: tuple[tuple[float, ...], ...]
    seeds: tuple[int, ...]
    mean_keep: float
    seconds: float
    flops: float = 0.0

    def __post_init__(self) -> None:
        pairs = len(self.baseline_losses)
        if pairs == 0 or len(self.dropping_losses) != pairs or len(self.seeds) != pairs:
            raise ValueError(
                f"baseline_losses has {pairs} runs, dropping_losses {len(self.dropping_losses)}, "
                f"seeds {len(self.seeds)}; each pair needs one of each"
            )
        check_range("mean_keep", self.mean_keep, 0, 1, low_open=True)
        for name in ("seconds", "flops"):
            check_range(name, getattr(self, name), 0, math.inf, high_open=True)
        lengths = {len(run) for run in self.baseline_losses + self.dropping_losses}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"pilot runs must be of one length, not {sorted(lengths)}")
        for name in ("baseline_losses", "dropping_losses"):
            for pair, run in enumerate(getattr(self, name)):
                check_finite(f"{name}[{pair}]", run)

    @property
    def num_iterations(self) -> int:
        """Training iterations of each run."""
        return len(self.baseline_losses[0])

    @property
    def num_steps(self) -> int:
        """Training steps of all runs together: what the pilot cost, in steps."""
        return 2 * len(self.seeds) * self.num_iterations


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
        outcome: "completed" or "stopped".
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


def check_num_layers(field: str, found: int, expected: int) -> None:
    """Raise ValueError where a record was made for a model of another depth."""
    if check_positive_int(field, found) != expected:
        raise ValueError(f"{field} is for {found} layers, the model has {expected}")


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, so that a record read back equals the one written."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
