"""What `make faults` found, as a file and as a table; the faults themselves are in tests/faults."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sbldlib.comparison.tables import markdown_cell
from sbldlib.records import Record

from .results import FOLDER, machine

FILE = FOLDER / "faults.json"
HEADER = ("fault", "promise", "tried", "kept")


@dataclass(frozen=True, kw_only=True)
class FaultResults(Record):
    """The newest outcome of every fault.

    Attributes:
        machine: what they ran on, as `machine` gives it.
        outcomes: each with its name, count, seed and date, in the order of the table.
    """

    machine: dict[str, Any]
    outcomes: tuple[dict[str, Any], ...] = ()

    def with_outcomes(
        self, name: str, outcomes: Sequence[dict[str, Any]], *, count: int, seed: int
    ) -> FaultResults:
        """These in the places of the earlier ones of this name."""
        known = {"name": name, "count": count, "seed": seed, "date": time.strftime("%Y-%m-%d")}
        fresh = tuple({**known, **outcome} for outcome in outcomes)
        others = tuple(outcome for outcome in self.outcomes if outcome["name"] != name)
        return replace(self, machine=machine(), outcomes=others + fresh)

    def in_order(self, names: Sequence[str]) -> FaultResults:
        """The same, sorted as the names are; what is none of them falls away."""
        kept = [outcome for outcome in self.outcomes if outcome["name"] in names]
        kept.sort(key=lambda outcome: names.index(outcome["name"]))
        return replace(self, outcomes=tuple(kept))

    @property
    def all_kept(self) -> bool:
        """Whether no promise was broken."""
        return all(outcome["kept"] == outcome["tried"] for outcome in self.outcomes)


def load_faults(path: Path = FILE) -> FaultResults:
    """What was found so far; nothing where there is no file."""
    return FaultResults.load(path) if path.exists() else FaultResults(machine=machine())


def rows(results: FaultResults) -> list[tuple[str, ...]]:
    """The table's lines, its header first."""
    lines = [
        (o["fault"], o["promise"], f"{o['tried']:,}", f"{o['kept']:,}") for o in results.outcomes
    ]
    return [HEADER, *lines]


def faults_section(results: FaultResults) -> str:
    """The table for the README, with where and when it was measured."""
    head, *body = ["| " + " | ".join(map(markdown_cell, line)) + " |" for line in rows(results)]
    dates = sorted({outcome["date"] for outcome in results.outcomes})
    minutes = sum(outcome["seconds"] for outcome in results.outcomes) / 60
    known = results.machine
    where = (
        f"{minutes:.0f} minutes in all; {' to '.join(sorted({dates[0], dates[-1]}))}, "
        f"{known['device']}, {known['processor_cores']} cores, Python {known['python']}, "
        f"torch {known['packages']['torch']}."
    )
    return "\n".join([head, "|---|---|---|---|", *body, "", where])
