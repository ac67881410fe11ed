"""AdamW as for GPT-2: weight decay on matrices alone, the fused kernel where it exists."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check_finite, check_kind, check_range, shown
from ..losses import device_of

FUSED_DEVICES = ("cpu", "cuda")


def make_optimizer(
    model: nn.Module,
    *,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.AdamW:
    """AdamW in two groups: matrices and embeddings decay, biases and norms do not.

    Args:
        learning_rate: the base rate, reached at the end of the warm-up, > 0.
        weight_decay: of weights with two or more dimensions, >= 0.
        betas: decay of the two moments, each in [0, 1).

    Raises:
        ValueError: a value out of range.

    Source: Radford et al. 2019 (GPT-2), Brown et al. 2020 (GPT-3), appendix B.
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    check_range("learning_rate", learning_rate, 0, math.inf, low_open=True, high_open=True)
    check_range("weight_decay", weight_decay, 0, math.inf, high_open=True)
    decays = check_finite("betas", betas)
    if len(decays) != 2 or not all(0 <= decay < 1 for decay in decays):
        raise ValueError(f"betas={shown(betas)} must be two numbers in [0, 1)")
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = device_of(model).type in FUSED_DEVICES
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(decays[0], decays[1]), fused=fused)


def describe_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its class and the settings of each group, as plain values."""
    groups = tuple(
        {name: _plain(value) for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    )
    return {"name": type(optimizer).__name__, "groups": groups}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) else value
