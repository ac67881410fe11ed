"""Linear stochastic depth: deeper layers are dropped more, all the way."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ..dropping.allocation import weighted_allocation
from ..dropping.schedules import constant
from ..dropping.skipping import attach
from .base import LayerDropping, check_saving


def linear(model: nn.Module, *, saving: float = 0.2, **draws: Any) -> LayerDropping:
    """p_l = (l + 1) / L * p_max, with p_max chosen so that the mean drop is `saving`.

    Args:
        saving: mean drop probability; p_max = 2 L / (L + 1) * saving, as long as that is <= 0.9
            (above it the last layers stay at 0.9 and the others take the rest).
        draws: seed, mode, scope and rescale, as in `LayerDropping`.

    Source: Huang et al. 2016, arXiv 1603.09382, equation 4 [S]; the parametrisation by saving [O].
    """
    saving = check_saving(saving)
    return LayerDropping(
        "linear",
        model,
        schedule=constant(1 - saving),
        allocation=weighted_allocation(np.arange(1.0, attach(model).num_layers + 1)),
        settings={"saving": saving},
        **draws,
    )
