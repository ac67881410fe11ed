"""LayerDrop: every layer is dropped alike, all the way."""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import nn

from ..dropping.allocation import allocate
from ..dropping.schedules import constant
from ..dropping.skipping import attach
from .base import LayerDropping, check_saving


def uniform(
    model: nn.Module, *, saving: float = 0.2, seed: int = 0, mode: str = "bernoulli"
) -> LayerDropping:
    """p_l = saving for every layer.

    Args:
        saving: drop probability of each layer, and so the mean drop, in [0, 0.9].

    Source: Fan, Grave & Joulin 2019, arXiv 1909.11556 [S].
    """
    return LayerDropping(
        "uniform",
        model,
        schedule=constant(1 - check_saving(saving)),
        allocation=partial(allocate, weights=np.ones(attach(model).num_layers)),
        seed=seed,
        mode=mode,
        settings={"saving": saving},
    )
