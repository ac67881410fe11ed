"""A number that is not finite stops the run before the weights are touched, and says where."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..dropping.skipping import Skipping


class NotFiniteError(ArithmeticError):
    """A loss or gradient was NaN or infinite; the weights are those of the step before."""


def check_finite_step(
    model: nn.Module,
    skipping: Skipping | None,
    *,
    step: int,
    loss_nats: float,
    gradient_norm: float,
    batch: Any,
    loss: Any,
) -> None:
    """Raise NotFiniteError naming step, quantity, value and the first layer at fault."""
    if math.isfinite(loss_nats) and math.isfinite(gradient_norm):
        return
    if math.isfinite(loss_nats):
        where = _first_bad_gradient(model, skipping)
        raise NotFiniteError(f"step {step}: the gradient's norm is {gradient_norm}, {where}")
    where = _first_bad_output(model, skipping, batch, loss)
    raise NotFiniteError(f"step {step}: the loss is {loss_nats}, {where}")


def _first_bad_gradient(model: nn.Module, skipping: Skipping | None) -> str:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return f"first at {name}, {_layer_of(name, skipping)}"
    return "though each gradient is finite: their sum overflows"


def _first_bad_output(model: nn.Module, skipping: Skipping | None, batch: Any, loss: Any) -> str:
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"the weight {name} is not finite already, {_layer_of(name, skipping)}"
    if skipping is None:
        return "all weights are finite"
    outputs: dict[int, Any] = {}
    skipping.recorded = outputs
    try:
        with torch.no_grad():
            loss(model, batch)
    finally:
        skipping.recorded = None
    for layer in sorted(outputs):
        output = outputs[layer]
        activation = output[0] if isinstance(output, tuple) else output
        if isinstance(activation, Tensor) and not bool(torch.isfinite(activation).all()):
            return f"first at the output of layer {layer} ({skipping.blocks[layer].name})"
    return "outside the blocks: all their outputs are finite"


def _layer_of(name: str, skipping: Skipping | None) -> str:
    blocks = skipping.blocks if skipping is not None else ()
    for layer, block in enumerate(blocks):
        if name.startswith(f"{block.name}."):
            return f"layer {layer}"
    return "outside the blocks"
