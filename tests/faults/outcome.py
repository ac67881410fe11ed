"""What a fault did to the kit: how often it was tried, and how often the promise held."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SHOWN = 10  # failures kept in words


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One row of the table that `make faults` prints.

    Attributes:
        fault: what was done, as in "kill -9 at a random step".
        promise: what must come of it, as in "the same losses and weights, bit for bit".
        tried, kept: how often it was done, and how often the promise held.
        seconds: wall-clock of all of it.
        failures: the first ones, in words.
        figures: what was measured beside it.
    """

    fault: str
    promise: str
    tried: int
    kept: int
    seconds: float = 0.0
    failures: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, fault: str, promise: str, failures: dict[int, str], tried: int, **more: Any):
        """From the tries that failed, by number."""
        few = tuple(f"try {number}: {words}" for number, words in sorted(failures.items())[:SHOWN])
        return cls(
            fault=fault,
            promise=promise,
            tried=tried,
            kept=tried - len(failures),
            failures=few,
            **more,
        )
