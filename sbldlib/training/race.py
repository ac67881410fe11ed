"""Several runs in turn, one step each, so that a machine's drift meets all of them alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..records import StepRecord


def race(runs: Mapping[str, Iterator[StepRecord]]) -> Iterator[tuple[str, StepRecord]]:
    """Yield (name, record), a step of each run around and around, until all have ended.

    Args:
        runs: name -> `train_steps(...)` of a model and optimiser of its own.
    """
    going = dict(runs)
    while going:
        for name, steps in list(going.items()):
            record = next(steps, None)
            if record is None:
                del going[name]
            else:
                yield name, record
