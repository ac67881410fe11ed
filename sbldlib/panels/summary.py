"""What a live run has come to so far, in numbers and in one line of text."""

from __future__ import annotations

import statistics
from collections import deque

import numpy as np

from ..records import StepRecord

WARM_STEPS = 3  # the first steps also pay for memory and kernels
MIN_STEPS_A_DEPTH = 5
TIMES_A_DEPTH = 200  # the newest ones, so that memory stays flat


class RunSummary:
    """Sums over the steps of a run, renewed with each record.

    Attributes:
        last: the newest record, or None.
        num_layers: residual blocks of the model.
        num_steps: steps of the whole run where the budget says so, else None.
    """

    def __init__(self, num_layers: int, num_steps: int | None):
        self.num_layers, self.num_steps = num_layers, num_steps
        self.last: StepRecord | None = None
        self._steps, self._layers_run = 0, 0
        self._flops, self._flops_full, self._seconds = 0.0, 0.0, 0.0
        self._seconds_by_depth: dict[int, deque[float]] = {}

    def add(self, record: StepRecord) -> None:
        """Take one more step in."""
        depth = len(record.layers_run)
        self.last = record
        self._steps += 1
        self._layers_run += depth
        self._flops += record.flops
        self._flops_full += record.flops_full
        self._seconds += record.seconds
        if self._steps > WARM_STEPS:
            times = self._seconds_by_depth.setdefault(depth, deque(maxlen=TIMES_A_DEPTH))
            times.append(record.seconds)

    @property
    def flops_saved(self) -> float:
        """Share of full depth's operations that were not run: the ceiling of the time saved."""
        return 1 - self._flops / self._flops_full if self._flops_full else 0.0

    @property
    def price(self) -> tuple[float, float] | None:
        """Seconds of a step outside the layers, and of one layer; None where this run cannot say.

        A straight line through this run's own step times against the layers that ran: through the
        median of each depth, weighted by its steps [O].
        """
        times = {
            depth: seconds
            for depth, seconds in self._seconds_by_depth.items()
            if len(seconds) >= MIN_STEPS_A_DEPTH
        }
        if len(times) < 2:
            return None
        medians = [statistics.median(seconds) for seconds in times.values()]
        weights = [len(seconds) ** 0.5 for seconds in times.values()]
        layer, outside = np.polyfit(list(times), medians, 1, w=weights)
        return float(outside), float(layer)

    @property
    def seconds_saved(self) -> float | None:
        """Seconds that full depth would have taken more, by `price`; an estimate, or None."""
        price = self.price
        if price is None:
            return None
        return price[1] * (self.num_layers * self._steps - self._layers_run)

    @property
    def time_saved(self) -> float | None:
        """`seconds_saved` as a share of what full depth would have taken, or None."""
        saved = self.seconds_saved
        return None if saved is None else saved / (saved + self._seconds)

    def line(self) -> str:
        """The numbers in words, for the eye and for a screen reader."""
        record = self.last
        if record is None:
            return "No step yet."
        of_all = f" of {self.num_steps}" if self.num_steps else ""
        parts = [f"step {record.step + 1}{of_all}", f"loss {record.loss_nats:.3f} nats/token"]
        if self.num_layers:
            parts.append(f"layers run {len(record.layers_run)} of {self.num_layers}")
        if record.keep_probability:
            parts.append(f"mean keep {statistics.fmean(record.keep_probability):.2f}")
        parts.append(f"so far: FLOPs saved {self.flops_saved:.0%}")
        share, seconds = self.time_saved, self.seconds_saved
        if share is not None and seconds is not None:
            parts.append(f"time saved about {share:.0%} ({seconds:.1f} s)")
        return " · ".join(parts)
