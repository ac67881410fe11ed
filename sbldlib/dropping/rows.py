"""Which rows of a batch run a layer, and how much of the batch each layer was seen to run.

Legend: B rows of the batch, K rows that run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from .partial import Part


class RowIndex:
    """The rows of every layer as index tensors, copied to a device once.

    Args:
        rows: layer -> its rows, in order.
        num_rows: of the batch that they were drawn for; None where that is not known.

    Attributes:
        rows: the layers that have some.
        empty: the layers that have none.
    """

    def __init__(self, rows: dict[int, tuple[int, ...]], num_rows: int | None = None) -> None:
        for layer, some in rows.items():
            _check_rows(f"rows[{layer}]", some, num_rows)
        self.rows = {layer: some for layer, some in rows.items() if some}
        self.empty = frozenset(rows.keys() - self.rows.keys())
        self.num_rows = num_rows
        self._on: dict[torch.device, dict[int, Tensor]] = {}

    def of(self, layer: int, given: Tensor, name: str) -> Tensor | None:
        """The layer's rows as a tensor [K] beside the input; None where that is all rows.

        Raises:
            ValueError: the batch is not the one that the rows were drawn for.
        """
        rows = self.rows[layer]
        self._check_fits(layer, len(given), f"the first dimension of the input of {name}")
        return None if len(rows) == len(given) else self._on_device(given.device)[layer]

    def window(self, start: int, end: int, num_rows: int) -> RowIndex:
        """The same for the rows from `start` to before `end` alone, which count from 0 there.

        Raises:
            ValueError: a batch of `num_rows` is not the one that the rows were drawn for.
        """
        if not (self.rows or self.empty):
            return self
        kept: dict[int, tuple[int, ...]] = dict.fromkeys(self.empty, ())
        for layer, some in self.rows.items():
            self._check_fits(layer, num_rows, "the number of rows of the batch")
            kept[layer] = tuple(row - start for row in some if start <= row < end)
        return RowIndex(kept, end - start)

    def _check_fits(self, layer: int, num_rows: int, what: str) -> None:
        last = self.rows[layer][-1]
        if self.num_rows not in (None, num_rows) or last >= num_rows:
            drawn = last + 1 if self.num_rows is None else self.num_rows
            raise ValueError(f"rows were drawn for a batch of {drawn}, and {what} is {num_rows}")

    def _on_device(self, device: torch.device) -> dict[int, Tensor]:
        if device not in self._on:
            flat = torch.tensor([row for rows in self.rows.values() for row in rows])
            split = flat.to(device).split([len(rows) for rows in self.rows.values()])
            self._on[device] = dict(zip(self.rows, split, strict=True))
        return self._on[device]


NO_ROWS = RowIndex({})


def _check_rows(field: str, rows: tuple[int, ...], num_rows: int | None) -> None:
    """Raise ValueError unless these are whole numbers >= 0 in order, each once."""
    end = num_rows if num_rows is not None else math.inf
    last = -1
    for row in rows:
        if not isinstance(row, int) or not last < row < end:
            among = "" if num_rows is None else f" of {num_rows}"
            raise ValueError(f"{field}={rows} must be rows{among}, in order and each once")
        last = row


class _Window(NamedTuple):
    """What was counted in one window: shares of its rows, one a layer."""

    num_rows: int
    forward: list[Fraction]
    backward: list[Fraction]
    has_forward_only: bool


class PartCounts:
    """How much of their calls blocks ran, where it was not all.

    Kept as fractions: a batch that runs in windows has the very shares that it has in one go.
    """

    def __init__(self, num_layers: int) -> None:
        self._num_layers = num_layers
        self._ended: list[_Window] = []
        self._begin_window([0] * num_layers)

    def count(self, layer: int, part: Part) -> None:
        """Note one call."""
        if part.rows is not None:
            self._missing[layer] += 1 - Fraction(len(part.rows), len(part.given))
        if part.gradient is not None:
            self._forward_only[layer] += 1
        if part.gradient == "none":
            self._closed.add(layer)

    def end_window(self, calls: Sequence[int], num_rows: int) -> None:
        """What was noted since the last window was of so many rows of the batch.

        Args:
            calls: of each layer, so far.
        """
        self._ended.append(self._window(num_rows, calls))
        self._begin_window(calls)

    def shares(self, calls: Sequence[int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Share of rows run forward and backward, one a layer; empty where calls were whole."""
        if not (self._ended or any(self._missing) or any(self._forward_only)):
            return (), ()
        windows = self._ended or [self._window(1, calls)]
        nums = [window.num_rows for window in windows]
        forward = _mean(nums, [window.forward for window in windows])
        has_forward_only = any(window.has_forward_only for window in windows)
        return (
            () if all(share in (0, 1) for share in forward) else forward,
            _mean(nums, [window.backward for window in windows]) if has_forward_only else (),
        )

    def _begin_window(self, calls: Sequence[int]) -> None:
        self._calls_before = list(calls)
        self._missing = [Fraction()] * self._num_layers  # shares of rows not run, over calls
        self._forward_only = [0] * self._num_layers  # calls without a backward
        self._closed: set[int] = set()  # layers that let no gradient pass

    def _window(self, num_rows: int, calls: Sequence[int]) -> _Window:
        """What was noted since the last window."""
        nums = [so_far - before for so_far, before in zip(calls, self._calls_before, strict=True)]
        forward = [
            1 - missing / num if num else Fraction()
            for num, missing in zip(nums, self._missing, strict=True)
        ]
        lowest = max(self._closed, default=-1)
        backward = [
            share * (1 - Fraction(self._forward_only[layer], nums[layer]))
            if share and layer > lowest
            else Fraction()
            for layer, share in enumerate(forward)
        ]
        return _Window(num_rows, forward, backward, any(self._forward_only))


def _mean(nums: list[int], shares: list[list[Fraction]]) -> tuple[float, ...]:
    """Of each layer, over windows of so many rows."""
    total, layers = sum(nums), zip(*shares, strict=True)
    return tuple(
        float(sum((n * share for n, share in zip(nums, layer, strict=True)), Fraction()) / total)
        for layer in layers
    )
