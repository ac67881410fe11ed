"""The demonstration's sizes, and what it measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import check_positive_int, check_range, unknown_name
from ..models.gpt import PRESETS
from ..records import Record


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
        if self.preset not in PRESETS:
            raise unknown_name("preset", self.preset, PRESETS)
        check_range("saving", self.saving, 0, 0.4, low_open=True)
        for name in ("warmup_steps", "steps", "num_pilot_pairs", "num_problems", "batch_size"):
            check_positive_int(name, getattr(self, name))
        check_positive_int("pilot_steps", self.pilot_steps, minimum=20)
        check_positive_int("num_validation_batches", self.num_validation_batches, minimum=2)


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
