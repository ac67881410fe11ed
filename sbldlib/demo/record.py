"""The demonstration's sizes, and what it measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..dropping.schedules import MAX_ITERATIONS
from ..errors import check_choice, check_positive_int, check_range, check_seed
from ..models.gpt import PRESETS
from ..records import Record

LEAST = {"pilot_steps": 20, "num_validation_batches": 2, "arithmetic_rows": 0}
LEAST |= dict.fromkeys(
    ("warmup_steps", "steps", "num_pilot_pairs", "num_problems", "batch_size"), 1
)
MOST: dict[str, int] = dict.fromkeys(("warmup_steps", "steps", "pilot_steps"), MAX_ITERATIONS)


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Sizes of the demonstration; the defaults take minutes on two cores.

    Attributes:
        preset: of the model, see `sbldlib.models.gpt.PRESETS`.
        saving: mean drop probability asked of PLD and SBLD, in (0, 0.4].
        warmup_steps: training before the sensitivities are measured.
        pilot_steps, num_pilot_pairs: length and number of the paired pilot runs.
        steps: of each arm.
        batch_size: rows a step; `arithmetic_rows` of them hold arithmetic problems.
        num_validation_batches: for the validation loss, at most what the lesson data holds.
        num_problems: unseen arithmetic problems for the accuracy.
        learning_rate: the base rate of every run.
        seed: of weights, data order and draws.
    """

    preset: str = "tiny"
    saving: float = 0.25
    warmup_steps: int = 150
    pilot_steps: int = 150
    num_pilot_pairs: int = 2
    steps: int = 500
    batch_size: int = 16
    arithmetic_rows: int = 8
    num_validation_batches: int = 64
    num_problems: int = 500
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, PRESETS)
        rate = check_range(
            "learning_rate", self.learning_rate, 0, math.inf, low_open=True, high_open=True
        )
        checked: dict[str, Any] = {
            "saving": check_range("saving", self.saving, 0, 0.4, low_open=True),
            "learning_rate": rate,
            "seed": check_seed("seed", self.seed),
        }
        for name, minimum in LEAST.items():
            value, most = getattr(self, name), MOST.get(name)
            checked[name] = check_positive_int(name, value, minimum=minimum, maximum=most)
        for name, value in checked.items():  # plain numbers, for the record
            object.__setattr__(self, name, value)
        if self.arithmetic_rows >= self.batch_size:
            raise ValueError(
                f"arithmetic_rows={self.arithmetic_rows} leaves no row of text; "
                f"batch_size={self.batch_size} has room for 0..{self.batch_size - 1}"
            )


@dataclass(frozen=True, kw_only=True)
class DemoRecord(Record):
    """What one demonstration measured.

    Attributes:
        settings, environment: what ran; on what and when.
        data: the description of the text and problems.
        sensitivity, lists, pilot, fit: the pre-analysis, as plain values.
        preanalysis_seconds: what each part of it cost.
        table: one row an arm.
        losses: arm -> training loss of every step, nats per token.
        keep_probability: of SBLD, [step][layer].
        layers_run: of SBLD, [step] -> layers.
    """

    settings: dict[str, Any]
    environment: dict[str, Any]
    data: dict[str, Any]
    sensitivity: dict[str, Any]
    lists: dict[str, Any]
    pilot: dict[str, Any]
    fit: dict[str, Any]
    preanalysis_seconds: dict[str, float]
    table: tuple[dict[str, Any], ...]
    losses: dict[str, tuple[float, ...]]
    keep_probability: tuple[tuple[float, ...], ...]
    layers_run: tuple[tuple[int, ...], ...]
