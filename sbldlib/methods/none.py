"""Full depth: the baseline, on the same interface, so that it is measured the same way."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..dropping.schedules import constant
from ..dropping.skipping import attach
from .base import LayerDropping


def none(model: nn.Module, **draws: Any) -> LayerDropping:
    """Drop nothing, whatever the draws are."""
    num_layers = attach(model).num_layers
    return LayerDropping(
        "none",
        model,
        schedule=constant(1.0),
        allocation=lambda mean_keep: (1.0,) * num_layers,
        **draws,
    )
