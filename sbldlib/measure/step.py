"""A training step that is only measured: ready at full depth, and no trace of it after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..dropping.blocks import NoBlocksError
from ..dropping.skipping import attach
from ..losses import device_of

# What a count sets is the process's own: a second thread would restore what the first had set.
COUNTING = threading.Lock()


@contextmanager
def full_step(model: nn.Module) -> Iterator[list[nn.Module]]:
    """Ready for a training step at full depth; gives the residual blocks, where there are any.

    Mode, what is skipped, running statistics and random state are as they were after it.
    """
    try:
        skipping = attach(model)
        blocks, depth = [block.module for block in skipping.blocks], skipping.full_depth()
    except NoBlocksError:
        blocks, depth = [], nullcontext()
    device = device_of(model)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), depth, _training_mode(model), torch.enable_grad():
        yield blocks


def peak_memory_bytes(device: torch.device) -> int | None:
    """Most CUDA memory held by tensors since the last reset; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def first_tensor(batch: Any) -> Tensor:
    """The first tensor with rows in a batch: a tensor, or tuples, lists and dicts of them."""
    tensor = next(tensors_in(batch), None)
    if tensor is None:
        raise ValueError(f"batch of type {type(batch).__name__} holds no tensor with rows")
    return tensor


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """Every tensor with rows in there."""
    if isinstance(batch, Tensor):
        if batch.ndim:
            yield batch
    elif isinstance(batch, (dict, tuple, list)):
        for item in batch.values() if isinstance(batch, dict) else batch:
            yield from tensors_in(item)


def first_row(batch: Any, num_rows: int) -> Any:
    """The batch of its first row alone; what has no rows stays whole."""
    if isinstance(batch, Tensor):
        return batch[:1] if batch.ndim and len(batch) == num_rows else batch
    if isinstance(batch, dict):
        return {name: first_row(item, num_rows) for name, item in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(first_row(item, num_rows) for item in batch)
    return batch


@contextmanager
def _training_mode(model: nn.Module) -> Iterator[None]:
    """Training mode, but for running statistics: one row must not move them. Restored after."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = not hasattr(module, "running_mean")
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
