"""Run a block in part: for some rows of the batch, forward alone, or with its residual scaled.

Legend: B rows of the batch, K rows that run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check_layers, check_range

GRADIENTS = ("identity", "none")  # what passes below a block that runs forward alone


@dataclass(frozen=True, kw_only=True)
class Part:
    """One call of a block that does not run as it was called.

    Attributes:
        name: of the block, for messages.
        given: the block's input, [B, ...].
        args, kwargs: what it is to be called with.
        rows: which rows of `given` it runs for, [K]; None for all.
        gathered: those rows of `given`, [K, ...]; `given` itself where it is all.
        factor: what the residual, output minus input, is multiplied by.
        gradient: None where the block runs backward too, else one of `GRADIENTS`.
    """

    name: str
    given: Tensor
    args: tuple
    kwargs: dict[str, Any]
    gathered: Tensor
    rows: Tensor | None = None
    factor: float = 1.0
    gradient: str | None = None

    def grad_mode(self) -> AbstractContextManager[object]:
        """What the block is to be called within."""
        return nullcontext() if self.gradient is None else torch.no_grad()

    def finish(self, output: Any) -> Any:
        """The output of the whole batch, in the form in which the block returned it.

        Raises:
            ValueError: the block changed the shape, worked on its input in place, or returned
                something beside its activation that cannot be put together again.
        """
        first: Any
        first, *others = output if isinstance(output, tuple) and output else (output,)
        self._check(first, others)
        if self.factor != 1:
            first = self.gathered + self.factor * (first - self.gathered)
        if self.gradient == "identity":
            first = _AlongResidual.apply(self.gathered, first)
        if self.rows is not None:
            first = _Scatter.apply(self.given, self.rows, first)
        return (first, *others) if isinstance(output, tuple) else first

    def _check(self, first: Any, others: list[Any]) -> None:
        shape = self.gathered.shape
        if not isinstance(first, Tensor) or first.shape != shape:
            raise ValueError(
                f"{self.name} does not turn its first input into an output of the same shape: it "
                "is no residual block and can only run whole"
            )
        if first is self.gathered and (self.rows is None or self.factor != 1):
            raise ValueError(f"{self.name} changes its input in place: it can only run whole")
        if self.rows is not None and any(other is not None for other in others):
            raise ValueError(
                f"{self.name} returns more than its activation, which rows of the batch cannot be "
                "put together from; ask the model for no attention weights and no cache, or use "
                "scope='per_batch'"
            )
        if any(isinstance(o, Tensor) and o.shape == shape for o in others):
            raise ValueError(f"{self.name} hands a state to the next block: it can only run whole")


class _AlongResidual(torch.autograd.Function):
    """A block's output whose gradient goes to its input as it is, past the block."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, output: Tensor) -> Tensor:
        return output.clone()  # an output handed on as it is could not be changed in place

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


class _Scatter(torch.autograd.Function):
    """The input with some of its rows replaced by the block's output.

    The rows are not saved as tensors are: recomputation would run all of the block to have them.
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, rows_K: Tensor, output: Tensor) -> Tensor:
        ctx.rows_K = rows_K
        dtype = torch.promote_types(given.dtype, output.dtype)
        return given.to(dtype).index_copy(0, rows_K, output.to(dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        past = gradient.index_fill(0, ctx.rows_K, 0)
        return past, None, gradient.index_select(0, ctx.rows_K)


def gather(
    block: nn.Module, name: str, args: tuple, kwargs: dict[str, Any], given: Tensor, rows_K: Tensor
) -> tuple[tuple, dict[str, Any], Tensor]:
    """A block's arguments with the rows of the batch that are to run, and its input's alone.

    Tensors whose first dimension is the batch's size are gathered, in tuples, lists and dicts too;
    those with another first dimension, such as 1 or the number of tokens, are for all rows.

    Raises:
        ValueError: a KV cache, a nested tensor, or a tensor of which the shape does not say
            whether its first dimension is the batch.
    """
    gathered = given.index_select(0, rows_K)

    def pick(value: Any, where: str) -> Any:
        if isinstance(value, Tensor):
            if value is given:
                return gathered
            if value.ndim == 0 or len(value) != len(given):
                return value
            if _is_ambiguous(block, value, given):
                raise ValueError(
                    f"{where} of {name} has shape {tuple(value.shape)}, and {len(given)} is both "
                    "the number of rows and another size of the block: whether it goes by row is "
                    "not known. Use another batch size, or scope='per_batch'"
                )
            return value.index_select(0, rows_K)
        if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
            return type(value)(pick(item, where) for item in value)
        if type(value) is dict:
            return {key: pick(item, where) for key, item in value.items()}
        if value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device)):
            return value
        raise ValueError(
            f"{where} of {name} is a {type(value).__name__}, whose rows cannot be picked; pass "
            "use_cache=False where it is a KV cache, or use scope='per_batch'"
        )

    picked = tuple(pick(value, f"argument {place}") for place, value in enumerate(args))
    named = {key: pick(value, f"argument {key!r}") for key, value in kwargs.items()}
    return picked, named, gathered


def check_can_run_in_part(name: str, given: Any) -> None:
    """Raise ValueError where a block's input is not one plain tensor."""
    if not isinstance(given, Tensor) or given.is_nested:
        kind = "nested tensor" if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(f"the input of {name} is a {kind}: the block can only run whole")


def check_has_rows(block: nn.Module, name: str, given: Tensor) -> None:
    """Raise ValueError where the first dimension of a block's input is not the batch."""
    if given.ndim < 2:
        raise ValueError(f"the input of {name} has shape {tuple(given.shape)}: it has no rows")
    if any(getattr(module, "batch_first", True) is False for module in block.modules()):
        raise ValueError(f"{name} has batch_first=False: its first dimension is not the batch")


def check_factors(field: str, factors: Mapping[int, float], num_layers: int) -> dict[int, float]:
    """Layer -> what its residual is multiplied by, or ValueError where one is not > 0."""
    check_layers(field, factors, num_layers)
    return {
        layer: check_range(f"{field}[{layer}]", factor, 0, math.inf, low_open=True, high_open=True)
        for layer, factor in factors.items()
    }


def _is_ambiguous(block: nn.Module, value: Tensor, given: Tensor) -> bool:
    """Whether a first dimension as long as the batch may be something else."""
    if value.ndim <= 2:  # [T] or [T, T] beside [B, T, D]
        return len(given) in given.shape[1:]
    # [H, T, T] beside [B, T, T]
    is_by_pair = value.ndim == 3 and value.shape[-1] == given.shape[1]
    return is_by_pair and len(given) in _head_counts(block)


_HEADS = ("num_heads", "n_heads", "n_head", "nhead", "num_attention_heads")


def _head_counts(block: nn.Module) -> list[Any]:
    return [getattr(module, name, None) for module in block.modules() for name in _HEADS]
