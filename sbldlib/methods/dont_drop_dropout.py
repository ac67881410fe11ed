"""Don't Drop Dropout: deeper layers are dropped more, and all of them less as training goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ..dropping.allocation import weighted_allocation
from ..dropping.skipping import attach
from ..errors import check_range
from .base import LayerDropping
from .shaped import ShapedSchedule

P_MAX = 0.99  # cap of one layer's drop probability; the highest that the paper trains with


def dont_drop_dropout(
    model: nn.Module, *, saving: float | None = None, p_max: float = 0.8, **draws: Any
) -> LayerDropping:
    """p_l(t) = p_max * l / (L-1) * (1 - t / (T-1)): from most at the start to full depth.

    Args:
        saving: mean drop over layers and time, p_max / 4 in the published form; where given, p_max
            is solved from it [O]. Above 0.2475, where p_max would pass 0.99, the last layers stay
            at 0.99 and the others take the rest [O]; layer 0 is never dropped.
        p_max: drop probability of the last layer at the start, in [0, 0.99].
        draws: seed, mode, scope and rescale, as in `LayerDropping`. The defaults here are the
            paper's: scope="per_sequence" and rescale="train_inverse". It multiplies attention and
            MLP by 1/k each; here the block's residual is multiplied once, and by 5 at most.

    Raises:
        ValueError: a saving that the layers cannot hold; both numbers are named.

    Source: Elhoushi et al. 2026, ICML, arXiv 2609.05275, its equations 8 and 9 [S, read
        second-hand].
    """
    num_layers = attach(model).num_layers
    depth = np.arange(num_layers) / (num_layers - 1)
    mean_depth = float(depth.mean())
    course = ShapedSchedule(
        lambda progress: 1 - progress,
        factor=check_range("p_max", p_max, 0, P_MAX) * mean_depth,
        saving=saving,
        most=P_MAX * (num_layers - 1) / num_layers,
    )
    return LayerDropping(
        "dont_drop_dropout",
        model,
        schedule=course,
        allocation=weighted_allocation(depth, may_drop=depth > 0, drop_max=P_MAX),
        settings={"saving": course.saving, "p_max": course.factor / mean_depth},
        **{"scope": "per_sequence", "rescale": "train_inverse", **draws},
    )
