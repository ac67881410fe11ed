"""The course of a run: what it had spent at each step, and what it had come to, as arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..records import StepRecord

SPENT: dict[str, Callable[[StepRecord], float]] = {
    "steps": lambda record: 1.0,
    "flops": lambda record: record.flops,
    "seconds": lambda record: record.seconds,
}
WINDOW = 20  # steps of a mean loss


class Course:
    """Grows by a step at a time, at the same small price however long the run is."""

    def __init__(self) -> None:
        self._num_steps = 0
        self._spent = {against: np.zeros(64) for against in SPENT}
        self._loss_sums = np.zeros(64)
        self._evaluated: dict[str, list[tuple[int, float]]] = {}

    def __len__(self) -> int:
        return self._num_steps

    def add(self, record: StepRecord) -> None:
        """Take one more step in."""
        at = self._num_steps
        if at == len(self._loss_sums):
            self._spent = {name: _doubled(sums) for name, sums in self._spent.items()}
            self._loss_sums = _doubled(self._loss_sums)
        for name, amount in SPENT.items():
            self._spent[name][at] = amount(record) + (self._spent[name][at - 1] if at else 0.0)
        self._loss_sums[at] = record.loss_nats + (self._loss_sums[at - 1] if at else 0.0)
        for name, value in record.evaluations.items():
            self._evaluated.setdefault(name, []).append((at, value))
        self._num_steps += 1

    def spent(self, against: str, num_steps: int | None = None) -> float:
        """Steps, FLOPs or seconds of the first so many steps; of all where none is named."""
        num_steps = self._num_steps if num_steps is None else num_steps
        return float(self._spent[against][num_steps - 1]) if num_steps else 0.0

    def evaluated(self, against: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
        """What was spent at each evaluation of this name, and its results."""
        found = self._evaluated.get(measure, [])
        places = [place for place, _ in found]
        return self._spent[against][places], np.array([value for _, value in found])

    def mean_loss(self, against: str, spent: float) -> float:
        """Mean training loss of the 20 steps up to the one at which this much was spent."""
        reached = self._spent[against][: self._num_steps]
        # Rounding in a sum must not send it one step back.
        last = int(np.searchsorted(reached, spent * (1 + 1e-9), side="right")) - 1
        last = max(last, 0)
        first = max(0, last + 1 - WINDOW)
        before = self._loss_sums[first - 1] if first else 0.0
        return float(self._loss_sums[last] - before) / (last + 1 - first)


def _doubled(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.zeros_like(values)])
