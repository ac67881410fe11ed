"""What a live run has come to so far, in numbers and in one line of text."""

from __future__ import annotations

import statistics
from collections import deque

import numpy as np

from ..measure import SavedBytes
from ..records import StepRecord
from .course import Course

WARM_STEPS = 3  # the first steps also pay for memory and kernels
MIN_STEPS_A_DEPTH = 5
SHARES = ("accuracy",)  # evaluations that are a share of all problems
TIMES_A_DEPTH = 200  # the newest ones, so that memory stays flat


class RunSummary:
    """Sums over the steps of a run, renewed with each record.

    Attributes:
        last: the newest record, or None.
        num_layers: residual blocks of the model.
        num_steps: steps of the whole run where the budget says so, else None.
        course: what was spent at each step.
    """

    def __init__(
        self, num_layers: int, num_steps: int | None, *, saved_bytes: SavedBytes | None = None
    ):
        """
        Args:
            saved_bytes: what a step at full depth keeps for its backward pass.
        """
        self.num_layers, self.num_steps = num_layers, num_steps
        self.last: StepRecord | None = None
        self.course = Course()
        self._layers_run, self._flops_full, self._evaluations = 0, 0.0, {}
        self._saved_bytes, self._bytes = saved_bytes, 0.0
        self._seconds_by_depth: dict[int, deque[float]] = {}

    def add(self, record: StepRecord) -> None:
        """Take one more step in."""
        depth = len(record.layers_run)
        self.last = record
        self.course.add(record)
        self._layers_run += depth
        self._flops_full += record.flops_full
        self._evaluations = record.evaluations or self._evaluations
        if self._saved_bytes is not None:
            self._bytes += self._saved_bytes.of(record.layers_run)
        if len(self.course) > WARM_STEPS:
            times = self._seconds_by_depth.setdefault(depth, deque(maxlen=TIMES_A_DEPTH))
            times.append(record.seconds)

    @property
    def flops_saved(self) -> float:
        """Share of full depth's operations that were not run: the ceiling of the time saved."""
        return 1 - self.course.spent("flops") / self._flops_full if self._flops_full else 0.0

    @property
    def realised_drop(self) -> float:
        """Share of the layer runs that were left out."""
        full = self.num_layers * len(self.course)
        return 1 - self._layers_run / full if full else 0.0

    @property
    def memory_saved(self) -> float | None:
        """Share of what full depth keeps for its backward passes that was not kept, on average.

        None where it was not counted. The most that a run takes at once is full depth's, in the
        first step that drops nothing.
        """
        if self._saved_bytes is None or not len(self.course) or not self._saved_bytes.full:
            return None
        return 1 - self._bytes / (self._saved_bytes.full * len(self.course))

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
        return price[1] * (self.num_layers * len(self.course) - self._layers_run)

    @property
    def time_saved(self) -> float | None:
        """`seconds_saved` as a share of what full depth would have taken, or None."""
        saved = self.seconds_saved
        return None if saved is None else saved / (saved + self.course.spent("seconds"))

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
        return " · ".join(parts)

    def savings(self, *, measured: float | None = None) -> str:
        """What was saved so far, in words.

        Args:
            measured: share of the time that a full-depth run beside this one took more; else it is
                estimated, see `price`.
        """
        parts = [f"layers left out {percent(self.realised_drop)}"]
        parts.append(f"FLOPs saved {percent(self.flops_saved)}, the ceiling of the time saved")
        share, seconds = self.time_saved, self.seconds_saved
        if measured is not None:
            parts.append(f"time saved {percent(measured)}, measured beside full depth")
        elif share is not None and seconds is not None:
            parts.append(f"time saved about {percent(share)} ({round(seconds, 1) + 0:.1f} s)")
        if self.memory_saved is not None:
            parts.append(
                f"memory for backward passes saved {percent(self.memory_saved)}, on average"
            )
        return " · ".join(parts)

    def results(self, *, but: str = "") -> str:
        """The newest evaluations in words; empty where there is none.

        Args:
            but: the name of one that is said elsewhere.
        """
        return " · ".join(
            f"{name.replace('_', ' ')} {shown_result(name, value)}"
            for name, value in self._evaluations.items()
            if name != but
        )


def percent(share: float) -> str:
    """A share in whole percent, never "-0%"."""
    return f"{round(share, 2) + 0:.0%}"


def shown_result(name: str, value: float) -> str:
    """An evaluation's value: a share as percent, anything else with three digits."""
    return f"{value:.1%}" if name in SHARES else f"{value:.3f}"
