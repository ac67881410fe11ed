"""What a trained model loses, at once and without training, when layers are drawn out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..dropping.plan import draw_active_layers
from ..dropping.skipping import attach
from ..errors import check_positive_int
from ..losses import next_token_loss
from .measurement import Loss, mean_loss


def losses_under_dropping(
    model: nn.Module,
    keep_probability: Sequence[float],
    *,
    batches: Sequence[Any],
    num_draws: int,
    seed: int = 0,
    mode: str = "bernoulli",
    loss: Loss = next_token_loss,
) -> tuple[float, ...]:
    """Loss above full depth, one a draw of the layers, in evaluation mode, nats per token.

    Their mean is what the model is expected to lose under this list. It is measured forward only,
    on weights that never met the dropping; weights trained under it suffer less.

    Args:
        model: at its present weights, which stay as they are.
        keep_probability: one a layer, in (0, 1].
        batches: on which every draw is measured; equal draws are measured once.
        num_draws: draws, >= 1; equal seeds give lists that are alike the same draws.
        seed, mode: as for `draw_active_layers`.
        loss: mean loss of one batch.

    Raises:
        ValueError: a list for another number of layers, a value out of range, or a loss that is not
            finite.
    """
    check_positive_int("num_draws", num_draws)
    skipping = attach(model)
    layers = frozenset(range(skipping.num_layers))
    if len(keep_probability) != len(layers):
        raise ValueError(
            f"keep_probability is for {len(keep_probability)} layers, the model has {len(layers)}"
        )
    known: dict[frozenset[int], float] = {}

    def loss_without(off: frozenset[int]) -> float:
        if off not in known:
            skipping.set_skipped(off)
            where = f"without layers {sorted(off)}" if off else "at full depth"
            known[off] = mean_loss(model, batches, loss, where)
        return known[off]

    draws = (
        draw_active_layers(keep_probability, seed=seed, iteration=draw, mode=mode)
        for draw in range(num_draws)
    )
    with torch.no_grad(), skipping.full_depth():
        full = loss_without(frozenset())
        return tuple(loss_without(layers - frozenset(active)) - full for active in draws)
