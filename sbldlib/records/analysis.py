"""What is measured before dropping: sensitivities, lists, pilots."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import (
    check_finite,
    check_kind,
    check_layers,
    check_positive_int,
    check_range,
    check_seeds,
    items,
    shown,
)
from .base import Record


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
        checked: dict[str, Any] = {
            "values": check_finite("values", self.values),
            "standard_errors": check_finite("standard_errors", self.standard_errors),
            "method": check_kind("method", self.method, str, "an estimator's name"),
            "unit": check_kind("unit", self.unit, str, "text, such as 'nats per token'"),
            "num_batches": check_positive_int("num_batches", self.num_batches, minimum=0),
        }
        if self.iteration is not None:
            checked["iteration"] = check_positive_int("iteration", self.iteration, minimum=0)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if not self.values:
            raise ValueError("values=() holds no layer; at least one is needed")
        if len(self.values) != len(self.standard_errors):
            raise ValueError(
                f"standard_errors has {len(self.standard_errors)} entries, values has "
                f"{len(self.values)}"
            )
        object.__setattr__(self, "samples", self._checked_samples())

    def _checked_samples(self) -> tuple[tuple[float, ...], ...]:
        rows = check_rows("samples", self.samples)
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
        parts = {name: tuple(items(name, getattr(self, name))) for name in ("block", "allow")}
        num_layers = sum(map(len, parts.values()))
        for name, part in parts.items():
            object.__setattr__(self, name, check_layers(name, part, num_layers))
        check_layers("block + allow", self.block + self.allow, num_layers)
        check_kind("rule", self.rule, str, "text")

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
        for name in ("baseline_losses", "dropping_losses"):
            object.__setattr__(self, name, check_rows(name, getattr(self, name)))
        object.__setattr__(self, "seeds", tuple(items("seeds", self.seeds)))
        pairs = len(self.baseline_losses)
        if pairs == 0 or len(self.dropping_losses) != pairs or len(self.seeds) != pairs:
            raise ValueError(
                f"baseline_losses has {pairs} runs, dropping_losses {len(self.dropping_losses)}, "
                f"seeds {len(self.seeds)}; each pair needs one of each"
            )
        object.__setattr__(self, "seeds", check_seeds("seeds", self.seeds))
        amounts = {"mean_keep": check_range("mean_keep", self.mean_keep, 0, 1, low_open=True)}
        for name in ("seconds", "flops"):
            amounts[name] = check_range(name, getattr(self, name), 0, math.inf, high_open=True)
        for name, value in amounts.items():
            object.__setattr__(self, name, value)
        lengths = {len(run) for run in self.baseline_losses + self.dropping_losses}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"pilot runs must be of one length, not {sorted(lengths)}")

    @property
    def num_iterations(self) -> int:
        """Training iterations of each run."""
        return len(self.baseline_losses[0])

    @property
    def num_steps(self) -> int:
        """Training steps of all runs together: what the pilot cost, in steps."""
        return 2 * len(self.seeds) * self.num_iterations


def check_rows(field: str, rows: Any) -> tuple[tuple[float, ...], ...]:
    """Return lists of numbers as tuples, or raise ValueError naming what is not one."""
    found = []
    for place, row in enumerate(items(field, rows)):
        if isinstance(row, (str, bytes)) or not hasattr(row, "__iter__"):
            raise ValueError(f"{field}={shown(rows)} must be a list of lists of numbers")
        found.append(check_finite(f"{field}[{place}]", row))
    return tuple(found)


def check_num_layers(field: str, found: int, expected: int) -> None:
    """Raise ValueError where a record was made for a model of another depth."""
    if check_positive_int(field, found) != expected:
        raise ValueError(f"{field} is for {found} layers, the model has {expected}")
