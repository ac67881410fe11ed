"""A number that is not finite stops the run before the weights are touched, and says where."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..dropping.skipping import Skipping


class NotFiniteError(ArithmeticError):
    """A loss, gradient or weight was NaN or infinite; no weight was touched since it was seen.

    Attributes:
        step: in which it was seen.
        layer: at fault; None where that is not known, or outside the blocks.
        checkpoint: the last good one, where there is one; the message ends with it.
    """

    def __init__(
        self,
        message: str,
        *,
        step: int | None = None,
        layer: int | None = None,
        checkpoint: str | None = None,
    ):
        super().__init__(message)
        self.step, self.layer, self.checkpoint = step, layer, checkpoint

    def __str__(self) -> str:
        message = super().__str__()
        if self.checkpoint is None:
            return message
        return f"{message}; the last good checkpoint is {self.checkpoint}"


def check_weights(
    model: nn.Module, skipping: Skipping | None, weights: Sequence[Tensor], *, step: int
) -> None:
    """Raise NotFiniteError naming step, weight and layer where one of the weights is not finite.

    Args:
        weights: those that training moves.
    """
    if math.isfinite(_sum_of_norms([local(weight) for weight in weights])):
        return
    # Of weights that are finite, only huge ones have a norm that is not.
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for weight in weights:
        if not is_finite(weight):
            name = names.get(id(weight), "of the optimizer that the model does not hold")
            where, layer = _layer_of(name, skipping)
            raise NotFiniteError(
                f"step {step}: the weight {name} is not finite, {where}", step=step, layer=layer
            )


def check_loss(
    model: nn.Module,
    skipping: Skipping | None,
    value: float,
    *,
    step: int,
    name: str,
    forward: Callable[[], Any] | None,
) -> None:
    """Raise NotFiniteError naming step, loss, value and the layer at fault.

    Args:
        value: of the loss.
        forward: runs the forward pass that gave it again; None where that cannot be done.
    """
    if not math.isfinite(value):
        where, layer = _first_bad_output(model, skipping, forward)
        raise NotFiniteError(f"step {step}: {name} is {value}, {where}", step=step, layer=layer)


def check_gradient(model: nn.Module, skipping: Skipping | None, norm: float, *, step: int) -> None:
    """Raise NotFiniteError naming step, norm and the layer where the backward pass met it first.

    Args:
        norm: of the gradients as they are, not yet clipped.
    """
    if not math.isfinite(norm):
        where, layer = _last_bad_gradient(model, skipping)
        message = f"step {step}: the gradient's norm is {norm}, {where}"
        raise NotFiniteError(message, step=step, layer=layer)


def local(tensor: Tensor) -> Tensor:
    """The part of a sharded tensor that is here; any other tensor itself."""
    get: Any = getattr(tensor, "to_local", None)
    return tensor if get is None else get()


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers of a tensor, or of the part of it that is here, are finite."""
    return bool(torch.isfinite(local(tensor)).all())


@torch.no_grad()
def _sum_of_norms(tensors: list[Tensor]) -> float:
    """In one pass over the numbers, and one wait for each device."""
    foreach_norm: Any = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage]
    by_device: dict[torch.device, list[Tensor]] = {}
    for norm in foreach_norm(tensors) if tensors else ():
        by_device.setdefault(norm.device, []).append(norm)
    return sum(float(torch.stack(norms).sum()) for norms in by_device.values())


def _last_bad_gradient(model: nn.Module, skipping: Skipping | None) -> tuple[str, int | None]:
    """The backward pass goes from the last layer to the first, and carries what is bad along."""
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not is_finite(parameter.grad):
            where, layer = _layer_of(name, skipping)
            return f"met first, going back, at {name}, {where}", layer
    return "though each gradient is finite: their sum overflows", None


def _first_bad_output(
    model: nn.Module, skipping: Skipping | None, forward: Callable[[], Any] | None
) -> tuple[str, int | None]:
    for name, parameter in model.named_parameters():
        if not is_finite(parameter):
            where, layer = _layer_of(name, skipping)
            return f"the weight {name} is not finite already, {where}", layer
    if skipping is None or forward is None:
        return "all weights are finite", None
    outputs: dict[int, Any] = {}
    skipping.recorded = outputs
    try:
        forward()
    finally:
        skipping.recorded = None
    for layer in sorted(outputs):
        output = outputs[layer]
        activation = output[0] if isinstance(output, tuple) else output
        if isinstance(activation, Tensor) and not is_finite(activation):
            return f"first at the output of layer {layer} ({skipping.blocks[layer].name})", layer
    return "outside the blocks: all their outputs are finite", None


def _layer_of(name: str, skipping: Skipping | None) -> tuple[str, int | None]:
    blocks = skipping.blocks if skipping is not None else ()
    for layer, block in enumerate(blocks):
        if name.startswith(f"{block.name}."):
            return f"layer {layer}", layer
    return "outside the blocks", None
