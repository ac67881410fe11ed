"""Estimators from gradients: of the loss with respect to the weights, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .measurement import (
    BlockCall,
    Measurement,
    activation_of,
    at_full_depth,
    in_place_of_blocks,
    is_residual,
    squared_norms,
    trained_parameters,
    with_activation,
)


def gradient_norm(measurement: Measurement) -> list[list[float]]:
    """Squared norm of the loss's gradient with respect to a layer's weights, [layer][batch].

    Its mean over batches is the trace of the layer's empirical Fisher matrix, each batch taken as
    one example. Weights that take no gradient count as 0.

    Source: a usual measure of a layer's importance, as in Molchanov et al. 2019, arXiv 1906.10771
        (single weights) [S]; summed over a layer's weights [O].
    """
    parameters = trained_parameters(measurement.model)
    place = {id(parameter): i for i, parameter in enumerate(parameters)}
    blocks = [measurement.skipping.blocks[layer].module for layer in measurement.layers]
    members = [[place[id(p)] for p in b.parameters() if id(p) in place] for b in blocks]
    norms: list[list[float]] = [[] for _ in blocks]
    with torch.enable_grad():
        for number, batch in measurement.batches:
            loss = measurement.loss_of(batch, at_full_depth(number))
            squared = squared_norms(torch.autograd.grad(loss, parameters, allow_unused=True))
            scores = [float(squared[chosen].sum()) for chosen in members]
            for place in reversed(range(len(scores))):  # the way that a gradient goes
                layer = measurement.layers[place]
                measurement.finite_score(scores[place], layer, at_full_depth(number))
            for found, score in zip(norms, scores, strict=True):
                found.append(score)
    return norms


def dropbp(measurement: Measurement) -> list[list[float]]:
    """What skipping a layer's backward does to the norms of all gradients, [layer][batch].

    The sum over parameters of (||g|| - ||g without l||)^2, where "without l" means that the
    gradient passes the layer along the residual alone; the forward is that of full depth. One
    forward and L + 1 backwards a batch.

    Source: Woo et al. 2024 (DropBP), arXiv 2402.17812 [S].
    """
    parameters = trained_parameters(measurement.model)
    changes: list[list[float]] = [[] for _ in measurement.layers]
    off: set[int] = set()
    gate = _gated(measurement, off)
    with torch.enable_grad(), in_place_of_blocks(measurement.skipping, gate):
        for number, batch in measurement.batches:
            off.clear()
            loss = measurement.loss_of(batch, at_full_depth(number))
            full = _norms(loss, parameters)
            if not bool(torch.isfinite(full).all()):
                raise ValueError(
                    f"the gradient is not finite {at_full_depth(number)}, though its loss is; "
                    "no layer's part of it can be told"
                )
            for place, layer in enumerate(measurement.layers):
                off.clear()
                off.add(layer)
                difference = full - _norms(loss, parameters)
                score = float(difference.square().sum())
                where = f"without its backward, on batch {number}"
                changes[place].append(measurement.finite_score(score, layer, where))
    return changes


def _norms(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return squared_norms(gradients).sqrt()


def _gated(measurement: Measurement, off: set[int]) -> Callable[..., Any]:
    """Blocks that run as ever, and whose backward is left out while their layer is in `off`."""

    def run_gated(layer: int, run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        output = run(*args, **kwargs)
        call = BlockCall(measurement.skipping.blocks[layer].module, run, args, kwargs)
        activation = activation_of(output)
        if not is_residual(call.given, activation):
            raise ValueError(
                f"{measurement.name(layer)} does not turn its first input into one output of the "
                "same shape: no gradient can pass it along the residual"
            )
        return with_activation(output, _Gate.apply(call.given, activation, layer, off))

    return run_gated


class _Gate(torch.autograd.Function):
    """A block's output, whose gradient goes to the block, or past it to the block's input."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, output: Tensor, layer: int, off: set[int]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.layer, ctx.off = layer, off
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if ctx.layer in ctx.off:
            return gradient, None, None, None
        return None, gradient, None, None
