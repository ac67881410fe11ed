"""What a picture keeps of a run: a fixed number of columns, however many steps there are.

Legend: C columns, L layers.
"""

from __future__ import annotations

import math

import numpy as np

from ..records import StepRecord

MAX_COLUMNS = 512  # about as many as the picture has pixels
WINDOW = 20  # steps of the running mean
_LAST = ("steps", "flops", "seconds", "progress", "mean_loss", "mean_keep")
_FULL = np.iinfo(np.uint8).max


class ThinnedRun:
    """The steps of one run in columns of `stride` steps each.

    Where all columns are full, each two become one, and the stride doubles: so adding a step and
    reading the columns take as long, and as much memory, at step 10,000 as at step 10.

    Attributes:
        num_steps: steps added.
        first_step: the first one's number.
        stride: steps in a column; the newest may hold fewer.
    """

    def __init__(self, num_layers: int):
        """
        Args:
            num_layers: whose runs are kept; 0 keeps the losses alone.
        """
        self._last_C = {name: np.zeros(MAX_COLUMNS) for name in _LAST}
        self._extremes_2C = np.full((2, MAX_COLUMNS), np.nan)
        self._ran_LC = np.zeros((num_layers, MAX_COLUMNS), np.uint8)
        self.clear()

    def clear(self) -> None:
        """Forget every step."""
        self.num_steps, self.first_step, self.stride = 0, 0, 1
        self._flops = self._seconds = 0.0
        self._window = np.full(WINDOW, np.nan)
        self._ran_L = np.zeros(len(self._ran_LC))  # of the newest column, in steps

    def add(self, record: StepRecord) -> None:
        """Take in the next step."""
        if self.num_steps == 0:
            self.first_step = record.step
        if self.num_steps == MAX_COLUMNS * self.stride:
            self._join_pairs()
        column, place = divmod(self.num_steps, self.stride)
        loss = record.loss_nats if math.isfinite(record.loss_nats) else math.nan
        self._window[self.num_steps % WINDOW] = loss
        self._flops += record.flops
        self._seconds += record.seconds
        self.num_steps += 1
        values = (record.step + 1, self._flops, self._seconds, record.progress)
        values += (_mean(self._window), mean_keep(record, len(self._ran_LC)))
        for name, value in zip(_LAST, values, strict=True):
            self._last_C[name][column] = value
        if place == 0:
            self._extremes_2C[:, column] = np.nan
            self._ran_L[:] = 0
        extremes_2 = self._extremes_2C[:, column]
        extremes_2[:] = np.fmin(extremes_2[0], loss), np.fmax(extremes_2[1], loss)
        if len(self._ran_L):
            self._add_layers(record, column, place + 1)

    @property
    def num_columns(self) -> int:
        """Columns in use, at most `MAX_COLUMNS`."""
        return -(-self.num_steps // self.stride)

    def last(self, name: str) -> np.ndarray:
        """At the end of each column, [C].

        Args:
            name: "steps", "flops" or "seconds", each the sum so far; "progress"; "mean_loss", of
                the last 20 steps; "mean_keep".
        """
        return self._last_C[name][: self.num_columns]

    @property
    def extremes(self) -> np.ndarray:
        """Lowest and highest loss within each column, [2, C]; not a number where none is finite."""
        return self._extremes_2C[:, : self.num_columns]

    @property
    def ran(self) -> np.ndarray:
        """Share of a column's steps in which each layer ran, [L, C]; 255 for all of them."""
        return self._ran_LC[:, : self.num_columns]

    def at_step(self, step: float, name: str) -> float:
        """`last` at the start of a step, which may lie within a column."""
        steps = np.concatenate([[self.first_step], self.last("steps")])
        return float(np.interp(step, steps, np.concatenate([[0.0], self.last(name)])))

    def _add_layers(self, record: StepRecord, column: int, num_steps: int) -> None:
        if record.forward_share:
            self._ran_L += record.forward_share
        else:
            self._ran_L[list(record.layers_run)] += 1
        self._ran_LC[:, column] = np.round(self._ran_L * (_FULL / num_steps))

    def _join_pairs(self) -> None:
        half = MAX_COLUMNS // 2
        for values_C in self._last_C.values():
            values_C[:half] = values_C[1::2]
        low_C, high_C = self._extremes_2C
        low_C[:half] = np.fmin(low_C[::2], low_C[1::2])
        high_C[:half] = np.fmax(high_C[::2], high_C[1::2])
        pairs_LC = self._ran_LC.reshape(len(self._ran_LC), half, 2)
        self._ran_LC[:, :half] = np.round(pairs_LC.mean(axis=2))
        self.stride *= 2


def mean_keep(record: StepRecord, num_layers: int) -> float:
    """Mean keep probability of a step; where no method is attached, the share of layers that ran.

    Args:
        num_layers: of the model; 0 where it is not asked for.
    """
    if record.keep_probability:
        return math.fsum(record.keep_probability) / len(record.keep_probability)
    return record.num_layers_forward / num_layers if num_layers else math.nan


def _mean(values: np.ndarray) -> float:
    """Mean of what is a number, or not a number."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan
