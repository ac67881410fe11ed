"""Progressive layer dropping: deeper layers are dropped more, and more as training goes on."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from torch import nn

from ..dropping.allocation import allocate
from ..dropping.schedules import pld_theta
from ..dropping.skipping import attach
from ..errors import check_range, unknown_name
from .base import LayerDropping, check_saving

FIRST_INDEX = (0, 1)


def pld(
    model: nn.Module,
    *,
    saving: float | None = None,
    theta_bar: float = 0.5,
    gamma: float = 100.0,
    first_index: int = 0,
    seed: int = 0,
    mode: str = "bernoulli",
) -> LayerDropping:
    """keep_l(t) = 1 - (l + first_index) / L * (1 - theta(t)), theta(t) falling from 1 to theta_bar.

    Args:
        saving: mean drop over the run; where given, theta_bar is solved from it [O].
        theta_bar: the limit of theta, in (0, 1]; the paper's default 0.5.
        gamma: decay rate over the whole run, > 0; the paper's 100.
        first_index: 0 gives l / L, so that layer 0 always runs (default); 1 gives (l + 1) / L. Both
            are in use under this name.

    Raises:
        ValueError: a saving that no theta_bar >= 0 reaches; both numbers are named.

    Source: Zhang & He 2020, arXiv 2010.13369, equations 5 and 6 [S].
    """
    if first_index not in FIRST_INDEX:
        raise unknown_name("first_index", first_index, map(str, FIRST_INDEX))
    num_layers = attach(model).num_layers
    depth = (np.arange(num_layers) + first_index) / num_layers
    if saving is not None:
        theta_bar = _theta_bar_for(check_saving(saving), float(depth.mean()), gamma)
    theta = pld_theta(theta_bar, gamma=gamma)
    return LayerDropping(
        "pld",
        model,
        schedule=lambda progress: 1 - float(depth.mean()) * (1 - theta(progress)),
        allocation=partial(allocate, weights=depth, drop_max=0.999),
        seed=seed,
        mode=mode,
        settings={"theta_bar": theta_bar, "gamma": gamma, "first_index": first_index},
    )


def _theta_bar_for(saving: float, mean_depth: float, gamma: float) -> float:
    """The theta_bar whose mean drop over layers and time is the saving."""
    check_range("gamma", gamma, 0, math.inf, low_open=True, high_open=True)
    most = mean_depth * (1 - (1 - math.exp(-gamma)) / gamma)  # mean drop at theta_bar = 0
    if saving >= most:
        raise ValueError(
            f"saving={saving:g} is not below {most:.4g}, the most that PLD can drop here"
        )
    return 1 - saving / most
