"""A method's steps without any training."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from sbldlib.methods import LayerDropping
from sbldlib.training.callbacks import StepContext

NUM_ROWS = 4


def contexts(model: nn.Module, num_steps: int) -> Iterator[StepContext]:
    """The context of every step of a run of known length."""
    for step in range(num_steps):
        yield StepContext(
            step=step,
            num_steps=num_steps,
            progress=step / max(1, num_steps - 1),
            model=model,
            num_rows=NUM_ROWS,
        )


def steps_of(method: LayerDropping, model: nn.Module, num_steps: int) -> list[tuple[float, ...]]:
    """The keep probabilities of every step."""
    kept = []
    for context in contexts(model, num_steps):
        method.before_step(context)
        kept.append(context.keep_probability)
    return kept


def mean_drop(kept: list[tuple[float, ...]]) -> float:
    """Mean drop probability over layers and steps."""
    return 1 - math.fsum(math.fsum(keep) for keep in kept) / (len(kept) * len(kept[0]))
