"""The record of a live session: enough to replay it bit for bit, and to draw it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..records import RunRecord, SensitivityData
from ..records.base import FORMAT, Record
from ..training.controls import LogEntry

LIVE = "live.json"  # in a session's folder


@dataclass(frozen=True, kw_only=True)
class LiveRecord(Record):
    """One or two runs, and all that steered them.

    Attributes:
        start: the values in force at the first step.
        against: the rival's method, or None where there is no race.
        seed: of the draws.
        names: of the arms, the lead's first.
        runs: one an arm; the lead's `controls_log` holds every change.
        samples: for each arm, number of steps done -> what the model wrote then.
        sensitivity_data: what sbld went by.
        recipe: the `PretrainConfig` that model, data and optimiser were made from, as plain
            values; None where they were made by hand.
    """

    start: dict[str, Any]
    against: str | None
    seed: int
    names: tuple[str, ...]
    runs: tuple[RunRecord, ...]
    samples: tuple[dict[str, str], ...] = ()
    sensitivity_data: SensitivityData | None = None
    recipe: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LiveRecord:
        """The record read from `to_dict`'s form."""
        of_runs = {"kind": "RunRecord", "format": FORMAT}
        runs = tuple(RunRecord.from_dict({**of_runs, **run}) for run in values.get("runs", ()))
        data = values.get("sensitivity_data")
        if data is not None:
            of_data = {"kind": "SensitivityData", "format": FORMAT}
            data = SensitivityData.from_dict({**of_data, **data})
        return super().from_dict({**values, "runs": runs, "sensitivity_data": data})

    @property
    def lead(self) -> RunRecord:
        """The run that was steered."""
        return self.runs[0]

    @property
    def log(self) -> tuple[LogEntry, ...]:
        """(step, name, old, new) of every change."""
        return tuple((entry[0], entry[1], entry[2], entry[3]) for entry in self.lead.controls_log)
