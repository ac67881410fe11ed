"""The costliest estimator: what training without a layer, from one checkpoint, ends with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..dropping.skipping import attach, skip_layers
from ..errors import check_seeds
from ..losses import next_token_loss
from ..records import SensitivityData
from .estimate import data_from_samples
from .measurement import Loss, mean_loss


def convergence_sensitivities(
    model: nn.Module,
    train_briefly: Callable[[nn.Module, int], object],
    *,
    batches: Sequence[Any],
    seeds: Sequence[int],
    loss: Loss = next_token_loss,
    iteration: int | None = None,
) -> SensitivityData:
    """What training goes on to without each layer: the loss gap after n short runs of each.

    From the model's weights, each seed trains one copy at full depth and one without each layer,
    which stays off throughout, and compares their losses at the end. That is (L + 1) * n runs.

    Args:
        model: the checkpoint; only copies of it are trained.
        train_briefly: trains the model it is given, in place, by any loop; from the same seed with
            the same batches in the same order. torch's random state is set to the seed before.
        batches: held out, for the losses at the end.
        seeds: at least two different ones, one a set of paired runs.
        loss: mean loss of one batch.
        iteration: training iteration of these weights, to be recorded.

    Returns:
        The gaps' means, with standard errors over seeds; its samples are [layer][seed].

    Raises:
        ValueError: fewer than two seeds, one named twice, or a loss that is not finite.

    Source: reconstruction, METHOD section 1 [O].
    """
    seeds = check_seeds("seeds", seeds, minimum=2)
    num_layers = attach(model).num_layers

    def end_loss(seed: int, layers_off: set[int]) -> float:
        trained = copy.deepcopy(model)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            skip_layers(trained, layers_off)
            train_briefly(trained, seed)
        skip_layers(trained, layers_off)  # whatever the loop left behind
        where = f"after training without {sorted(layers_off)} from seed {seed}"
        return mean_loss(trained, batches, loss, where)

    gaps: list[list[float]] = [[] for _ in range(num_layers)]
    for seed in seeds:
        full = end_loss(seed, set())
        for layer, found in enumerate(gaps):
            found.append(end_loss(seed, {layer}) - full)
    return data_from_samples(
        gaps, method="convergence", unit="nats per token after training", iteration=iteration
    )
