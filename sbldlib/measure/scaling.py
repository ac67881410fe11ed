"""How work and span grow with length, and what they say about time on many processors.

Legend: B batch, T tokens.

Source: [S] the bounds from Brent, "The Parallel Evaluation of General Arithmetic Expressions",
JACM 21(2), 1974, doi 10.1145/321812.321815.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check_kind, check_positive_int, check_range
from ..losses import check_loss, next_token_loss, to_device
from ..models.recurrent import SequenceConfig, SequenceModel
from ..models.recurrent_config import RECURRENT
from .graph import Parallelism, measure_parallelism

LAW_LENGTHS = (4, 8)  # two points of a straight line


def count_parallelism(config: SequenceConfig, rows: int = 2) -> Parallelism:
    """Work and span of a sequence model on sequences of its whole context.

    Every count of a recurrent model is a straight line over the number of tokens: it is counted at
    two short lengths, which takes no longer for a long context. The others are run as they are. No
    model is counted twice.

    Args:
        config: of any kind; context_length is the number of tokens.
        rows: B, >= 1.
    """
    config = check_kind("config", config, SequenceConfig, "a SequenceConfig")
    rows = check_positive_int("rows", rows)
    num_tokens = config.context_length
    if config.kind not in RECURRENT or num_tokens <= max(LAW_LENGTHS):
        return _counted(config, rows)
    low, high = (_counted(replace(config, context_length=each), rows) for each in LAW_LENGTHS)

    def at_length(first: int, second: int) -> int:
        slope, rest = divmod(second - first, LAW_LENGTHS[1] - LAW_LENGTHS[0])
        assert rest == 0, "a count of a recurrent model grows by the same number each token"
        return first + slope * (num_tokens - LAW_LENGTHS[0])

    names = {**low.operations, **high.operations}
    return Parallelism(
        longest_path=at_length(low.longest_path, high.longest_path),
        num_nodes=at_length(low.num_nodes, high.num_nodes),
        num_operations=at_length(low.num_operations, high.num_operations),
        flops=at_length(low.flops, high.flops),
        operations={
            name: at_length(low.operations.get(name, 0), high.operations.get(name, 0))
            for name in names
        },
    )


def time_bounds(work: float, span: float, processors: float) -> tuple[float, float]:
    """Least time that p processors can take, and most that they need if none waits without cause.

    Args:
        work: time that one processor takes for everything, > 0.
        span: time of the longest chain, >= 0.
        processors: p, >= 1.

    Returns:
        max(work / p, span) and work / p + span, in the unit of work and span.
    """
    work = check_range("work", work, 0, math.inf, low_open=True, high_open=True)
    span = check_range("span", span, 0, math.inf, high_open=True)
    shared = work / check_range("processors", processors, 1, math.inf, high_open=True)
    return max(shared, span), shared + span


def count_kept_bytes(
    model: nn.Module,
    batch: Any,
    *,
    loss: Callable[[nn.Module, Any], Tensor] = next_token_loss,
) -> int:
    """Bytes that a forward pass with its loss keeps for backward: each storage once, no weights.

    Args:
        model: any; its mode is its own.
        batch: what the loss takes; it is moved to the model's device.
        loss: gives a tensor of one number.
    """
    batch = to_device(batch, model)
    known = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}  # held, so that no address is used again

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept.setdefault(storage.data_ptr(), (storage.nbytes(), tensor))
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
        value = check_loss(loss(model, batch))
    del value
    return sum(size for address, (size, _) in kept.items() if address not in known)


@lru_cache(maxsize=1024)
def _counted(config: SequenceConfig, rows: int) -> Parallelism:
    tokens_BT = torch.zeros(rows, config.context_length, dtype=torch.long)
    return measure_parallelism(SequenceModel(config), (tokens_BT, tokens_BT))
