"""Full depth: the baseline, on the same interface, so that it is measured the same way."""

from __future__ import annotations

from torch import nn

from ..dropping.schedules import constant
from ..dropping.skipping import attach
from .base import LayerDropping


def none(model: nn.Module, *, seed: int = 0) -> LayerDropping:
    """Drop nothing."""
    num_layers = attach(model).num_layers
    return LayerDropping(
        "none",
        model,
        schedule=constant(1.0),
        allocation=lambda mean_keep: (1.0,) * num_layers,
        seed=seed,
    )
