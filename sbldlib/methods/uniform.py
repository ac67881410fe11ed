"""LayerDrop: every layer is dropped alike, all the way."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ..dropping.allocation import weighted_allocation
from ..dropping.schedules import constant
from ..dropping.skipping import attach
from .base import LayerDropping, check_saving


def uniform(model: nn.Module, *, saving: float = 0.2, **draws: Any) -> LayerDropping:
    """p_l = saving for every layer.

    Args:
        saving: drop probability of each layer, and so the mean drop, in [0, 0.9].
        draws: seed, mode, scope and rescale, as in `LayerDropping`.

    Source: Fan, Grave & Joulin 2019, arXiv 1909.11556 [S].
    """
    saving = check_saving(saving)
    return LayerDropping(
        "uniform",
        model,
        schedule=constant(1 - saving),
        allocation=weighted_allocation(np.ones(attach(model).num_layers)),
        settings={"saving": saving},
        **draws,
    )
