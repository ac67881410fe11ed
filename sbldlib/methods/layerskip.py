"""LayerSkip's layer dropout: the drop probability grows exponentially with depth."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ..dropping.allocation import DROP_MAX, weighted_allocation
from ..dropping.skipping import attach
from ..errors import check_choice, check_range
from .base import LayerDropping
from .shaped import ShapedSchedule

SCHEDULES = {"constant": lambda progress: 1.0, "exponential": lambda progress: 2**progress - 1}


def layerskip(
    model: nn.Module,
    *,
    saving: float | None = None,
    p_max: float = 0.2,
    schedule: str = "constant",
    **draws: Any,
) -> LayerDropping:
    """p_l(t) = S(t) D(l) p_max, D(l) = 2^(l / (L-1)) - 1: from 0 at layer 0 to 1 at the last.

    Args:
        saving: mean drop over layers and time; where given, p_max is solved from it [O]. Where that
            p_max is above 0.9, the last layers stay at 0.9 and the others take the rest [O].
        p_max: drop probability of the last layer where S is 1, in [0, 0.9]; 0.2 as in torchtune's
            example.
        schedule: "constant", S = 1, the paper's for models that are trained already; "exponential",
            S = 2^progress - 1, the paper's for training from scratch. The default is "constant",
            as in torchtune: S's mean is 0.44, so that "exponential" holds savings up to
            about 0.18 in the published form, and the other up to about 0.4.
        draws: seed, mode, scope and rescale, as in `LayerDropping`. The paper drops for each
            sequence by itself: scope="per_sequence".

    Raises:
        ValueError: a saving that the layers cannot hold; both numbers are named.

    Source: Elhoushi et al. 2024, arXiv 2404.16710, section 4.1 [S]: S and D are written there as
        exp(t ln 2 / (T-1)) - 1 and exp(l ln 2 / (L-1)) - 1. Its early-exit loss is not taken.
    """
    check_choice("schedule", schedule, SCHEDULES)
    num_layers = attach(model).num_layers
    depth = 2 ** (np.arange(num_layers) / (num_layers - 1)) - 1
    mean_depth = float(depth.mean())
    course = ShapedSchedule(
        SCHEDULES[schedule],
        factor=check_range("p_max", p_max, 0, DROP_MAX) * mean_depth,
        saving=saving,
        most=DROP_MAX * (num_layers - 1) / num_layers,
    )
    return LayerDropping(
        "layerskip",
        model,
        schedule=course,
        allocation=weighted_allocation(depth, may_drop=depth > 0),
        settings={
            "saving": course.saving,
            "p_max": course.factor / mean_depth,
            "schedule": schedule,
        },
        **draws,
    )
