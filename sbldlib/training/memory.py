"""A step that does not fit into memory is done again in parts: fewer rows of a batch at a time."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..losses import IGNORE
from ..measure import first_tensor

T = TypeVar("T")
_SIGNS = ("DefaultCPUAllocator", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc")


class StepTooLargeError(MemoryError):
    """A step does not fit into memory, and cannot be done in smaller parts."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of any device, ran out."""
    if isinstance(error, StepTooLargeError):
        return False
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some rows of a micro-batch, that are run by themselves.

    Attributes:
        batch: those rows.
        start, end: which ones, `end` not included.
        num_rows: of the micro-batch.
        share: of the micro-batch's loss that is these rows', in [0, 1].
    """

    batch: Any
    start: int
    end: int
    num_rows: int
    share: float = 1.0

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the micro-batch."""
        return self.end - self.start == self.num_rows


def cut(batch: Any, parts: int) -> list[Piece]:
    """A micro-batch in so many pieces of about as many rows, or one a row where it has fewer.

    The loss is taken to be a mean over targets that are not -100: those of a batch (inputs,
    targets), or of its "labels", without their first column: a causal model predicts from the
    second on, and a masked one has its mark there. Without targets each row counts alike. A model
    that looks from row to row, as batch norm does, sees each piece by itself.
    """
    num_rows = len(first_tensor(batch))
    if parts == 1:
        return [Piece(batch=batch, start=0, end=num_rows, num_rows=num_rows)]
    bounds = [num_rows * part // parts for part in range(parts + 1)]
    spans = [(start, end) for start, end in pairwise(bounds) if start < end]
    counts = _targets_by_row(batch, num_rows)
    if sum(counts) == 0:  # the loss is 0 / 0, in pieces as in one
        counts = [1] * num_rows
    pieces = []
    for start, end in spans:
        rows = _rows(batch, start, end, num_rows)
        count = sum(counts[start:end])
        pieces.append(
            Piece(
                batch=rows if count else _with_a_target(rows),
                start=start,
                end=end,
                num_rows=num_rows,
                share=count / sum(counts),
            )
        )
    return pieces


class Retry:
    """Does a piece of work again, in twice as many parts, until it fits into memory.

    Attributes:
        parts: how many parts each micro-batch is run in; what was found holds from then on.
        rows: of the part that runs, and of the micro-batch that it is a part of.
    """

    def __init__(self, parts: int = 1):
        self.parts = parts
        self.rows: tuple[int, int] = (0, 0)

    def until_it_fits(self, step: int, work: Callable[[], T], device: torch.device) -> T:
        """The work's result. The generators are put back to where they were before each try.

        Raises:
            StepTooLargeError: not even one row at a time fits.
        """
        states = _generators(device)
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).strip().split("\n")[0]
            # Past the handler, which holds the frames that hold the tensors.
            self._halve(step, reason)
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            _put_generators(device, states)

    def _halve(self, step: int, reason: str) -> None:
        rows, num_rows = self.rows
        if rows <= 1:
            raise StepTooLargeError(
                f"step {step}: out of memory with one row of the batch's {num_rows} at a time "
                f"({reason}); make the rows shorter, recompute activations, train in bfloat16, or "
                "take a smaller model"
            )
        self.parts *= 2
        fewer = -(-num_rows // self.parts)
        warnings.warn(
            f"step {step}: out of memory with {rows} rows of the batch's {num_rows} at a time; the "
            f"step is done again with {fewer} at a time, and so are the steps after it. Its "
            "gradient is that of the whole batch",
            RuntimeWarning,
            stacklevel=2,
        )


def _rows(batch: Any, start: int, end: int, num_rows: int) -> Any:
    """These rows of every tensor that has so many; others, and what is no tensor, whole."""
    if isinstance(batch, Tensor):
        return batch[start:end] if batch.ndim and len(batch) == num_rows else batch
    if isinstance(batch, dict):
        return {name: _rows(item, start, end, num_rows) for name, item in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(_rows(item, start, end, num_rows) for item in batch)
    return batch


def _targets(batch: Any) -> Any:
    if isinstance(batch, dict):
        return batch.get("labels")
    return batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None


def _targets_by_row(batch: Any, num_rows: int) -> list[int]:
    """How many targets carry loss in each row; 1 where that is not known."""
    targets = _targets(batch)
    if not isinstance(targets, Tensor) or not targets.ndim or len(targets) != num_rows:
        return [1] * num_rows
    if isinstance(batch, dict) and targets.ndim == 2 and targets.shape[1] > 1:
        targets = targets[:, 1:]
    return (targets != IGNORE).reshape(num_rows, -1).sum(1).tolist()


def _with_a_target(batch: Any) -> Any:
    """The batch with one target that carries loss: its mean is then a number, to be weighed 0."""
    targets = _targets(batch).clone(memory_format=torch.contiguous_format)
    targets.view(len(targets), -1)[0, -1] = 0
    if isinstance(batch, dict):
        return {**batch, "labels": targets}
    return batch[0], targets


def _generators(device: torch.device) -> tuple[Tensor, Tensor | None]:
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), cuda


def _put_generators(device: torch.device, states: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1], device)
