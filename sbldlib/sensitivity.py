"""How sensitive each layer is: what skipping it, and nothing else, does to the loss.

[P] SBLD measures in a pre-analysis, after a few training iterations, how each layer changes the
training loss. The estimator is ours [O], METHOD section 1.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from .dropping.skipping import Skipping, attach
from .errors import check_layers, unknown_name
from .losses import evaluation_mode, next_token_loss, to_device
from .records import SensitivityData

Loss = Callable[[nn.Module, Any], torch.Tensor]


class LayerSensitivity(NamedTuple):
    """One layer's sensitivity.

    Attributes:
        value: nats per token for "loss_delta"; larger is more sensitive.
        standard_error: of the mean over paired batches, in the same unit.
    """

    value: float
    standard_error: float


def calculate_sensitivity(
    model: nn.Module,
    layer: int,
    *,
    batches: Sequence[Any],
    method: str = "loss_delta",
    loss: Loss = next_token_loss,
) -> LayerSensitivity:
    """One layer's sensitivity: loss(model without it) - loss(model), on the same batches.

    Args:
        model: a model whose residual blocks are found; measured in evaluation mode at its present
            weights.
        layer: in 0..L-1.
        batches: at least two, each as `loss` takes it.
        method: a name in `ESTIMATORS`.
        loss: mean loss of one batch.

    Raises:
        ValueError: a layer out of range, fewer than two batches, an unknown method, or a loss that
            is not finite.

    Source: reconstruction, METHOD section 1 [O].
    """
    return _measure(model, batches, method, loss, layers=[layer])[0]


def calculate_sensitivities(
    model: nn.Module,
    *,
    batches: Sequence[Any],
    method: str = "loss_delta",
    loss: Loss = next_token_loss,
    iteration: int | None = None,
) -> SensitivityData:
    """Every layer's sensitivity, at about half of what L + 1 passes cost.

    What comes before the skipped layer is the same with and without it, so those activations are
    computed once a batch and replayed.

    Args:
        model, batches, method, loss: as for `calculate_sensitivity`.
        iteration: training iteration of these weights, to be recorded.

    Raises:
        ValueError: as `calculate_sensitivity`.
    """
    results = _measure(model, batches, method, loss, layers=None)
    return SensitivityData(
        values=tuple(r.value for r in results),
        standard_errors=tuple(r.standard_error for r in results),
        method=method,
        num_batches=len(batches),
        iteration=iteration,
    )


def loss_delta(
    model: nn.Module,
    skipping: Skipping,
    batches: Sequence[Any],
    loss: Loss,
    layers: Sequence[int],
) -> list[list[float]]:
    """loss without a layer minus loss at full depth, [layer][batch], nats per token [O]."""
    deltas: list[list[float]] = [[] for _ in layers]
    with torch.no_grad():
        for batch in batches:
            batch = to_device(batch, model)
            outputs: dict[int, Any] = {}
            full = _loss_with(skipping, model, batch, loss, record=outputs)
            for place, layer in enumerate(layers):
                before = {earlier: outputs[earlier] for earlier in range(layer)}
                without = _loss_with(skipping, model, batch, loss, replay=before, without={layer})
                deltas[place].append(without - full)
    return deltas


ESTIMATORS: dict[str, Callable[..., list[list[float]]]] = {"loss_delta": loss_delta}


def _loss_with(
    skipping: Skipping,
    model: nn.Module,
    batch: Any,
    loss: Loss,
    *,
    replay: dict[int, Any] | None = None,
    without: set[int] | None = None,
    record: dict[int, Any] | None = None,
) -> float:
    """Loss of one batch with some layers skipped and those before them replayed."""
    skipping.replay, skipping.recorded = replay or {}, record
    skipping.set_skipped(without or ())
    try:
        value = float(loss(model, batch))
    finally:
        skipping.replay, skipping.recorded, skipping.skipped = {}, None, frozenset()
    if not math.isfinite(value):
        depth = f"without layer {min(without)}" if without else "at full depth"
        raise ValueError(f"loss={value!r} {depth}; it must be finite")
    return value


def _measure(
    model: nn.Module, batches: Sequence[Any], method: str, loss: Loss, layers: list[int] | None
) -> list[LayerSensitivity]:
    """Check what was given, then estimate in evaluation mode; the model is left as it was."""
    if method not in ESTIMATORS:
        raise unknown_name("method", method, ESTIMATORS)
    if len(batches) < 2:
        raise ValueError(f"batches holds {len(batches)}; a standard error needs at least 2")
    skipping = attach(model)
    asked = range(skipping.num_layers) if layers is None else layers
    asked = check_layers("layer", asked, skipping.num_layers)
    with evaluation_mode(model), skipping.full_depth():
        deltas = ESTIMATORS[method](model, skipping, batches, loss, asked)
    return [_summary(delta) for delta in deltas]


def _summary(deltas: list[float]) -> LayerSensitivity:
    return LayerSensitivity(
        statistics.fmean(deltas), statistics.stdev(deltas) / math.sqrt(len(deltas))
    )
