"""A number that is not finite stops the run before the weights are touched, and says where."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
    losses: Sequence[float],
    gradient_norm: float,
    forward: Callable[[int], Any],
) -> None:
    """Raise NotFiniteError naming step, quantity, value and the layer at fault.

    Args:
        losses: one a micro-batch.
        gradient_norm: of the gradients as they are, not yet clipped.
        forward: runs the forward pass of a micro-batch again.
    """
    bad = next((i for i, value in enumerate(losses) if not math.isfinite(value)), None)
    if bad is not None:
        which = f" of micro-batch {bad}" if len(losses) > 1 else ""
        where = _first_bad_output(model, skipping, lambda: forward(bad))
        raise NotFiniteError(f"step {step}: the loss{which} is {losses[bad]}, {where}")
    if not math.isfinite(gradient_norm):
        where = _last_bad_gradient(model, skipping)
        raise NotFiniteError(f"step {step}: the gradient's norm is {gradient_norm}, {where}")


def _last_bad_gradient(model: nn.Module, skipping: Skipping | None) -> str:
    """The backward pass goes from the last layer to the first, and carries what is bad along."""
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not _is_finite(parameter.grad):
            return f"met first, going back, at {name}, {_layer_of(name, skipping)}"
    return "though each gradient is finite: their sum overflows"


def _first_bad_output(
    model: nn.Module, skipping: Skipping | None, forward: Callable[[], Any]
) -> str:
    for name, parameter in model.named_parameters():
        if not _is_finite(parameter):
            return f"the weight {name} is not finite already, {_layer_of(name, skipping)}"
    if skipping is None:
        return "all weights are finite"
    outputs: dict[int, Any] = {}
    skipping.recorded = outputs
    try:
        forward()
    finally:
        skipping.recorded = None
    for layer in sorted(outputs):
        output = outputs[layer]
        activation = output[0] if isinstance(output, tuple) else output
        if isinstance(activation, Tensor) and not _is_finite(activation):
            return f"first at the output of layer {layer} ({skipping.blocks[layer].name})"
    return "outside the blocks: all their outputs are finite"


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _layer_of(name: str, skipping: Skipping | None) -> str:
    blocks = skipping.blocks if skipping is not None else ()
    for layer, block in enumerate(blocks):
        if name.startswith(f"{block.name}."):
            return f"layer {layer}"
    return "outside the blocks"
