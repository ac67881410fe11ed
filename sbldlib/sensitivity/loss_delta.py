"""The default estimator: what the loss gains when one layer, and nothing else, is skipped."""

from __future__ import annotations

from typing import Any

import torch

from .measurement import (
    Measurement,
    activation_of,
    at_full_depth,
    finite,
    loss_without,
    with_activation,
)
from .side_by_side import CannotStackError, SideBySide


def loss_delta(measurement: Measurement) -> list[list[float]]:
    """loss without a layer minus loss at full depth, [layer][batch], nats per token.

    Side by side where the model allows it, else one layer after another. Either way a block runs
    as often: once a batch for each skipped layer before it, and once for full depth.

    Source: reconstruction, METHOD section 1 [O].
    """
    deltas: list[list[float]] = [[] for _ in measurement.layers]
    side_by_side: SideBySide | None = SideBySide(measurement)
    with torch.no_grad():
        for number, batch in measurement.batches:
            found = None
            if side_by_side is not None:
                try:
                    found = side_by_side.losses(batch, number)
                except CannotStackError:
                    side_by_side = None
            full, without = found or _one_by_one(measurement, batch, number)
            for place, loss in enumerate(without):
                deltas[place].append(loss - full)
    return deltas


def _one_by_one(measurement: Measurement, batch: Any, number: int) -> tuple[float, list[float]]:
    """The loss at full depth, and without each layer; what comes before that one is replayed."""
    skipping, outputs = measurement.skipping, _Copies()
    skipping.recorded = outputs
    try:
        full = finite(measurement.loss(measurement.model, batch), at_full_depth(number))
    finally:
        skipping.recorded = None
    without = []
    for layer in measurement.layers:
        replay = {earlier: _copy(outputs[earlier]) for earlier in range(layer)}
        without.append(loss_without(measurement, layer, replay, batch, number))
    return full, without


class _Copies(dict[int, Any]):
    """Outputs by layer, safe from a model that goes on to change them in place."""

    def __setitem__(self, layer: int, output: Any) -> None:
        super().__setitem__(layer, _copy(output))


def _copy(output: Any) -> Any:
    activation = activation_of(output)
    return with_activation(output, activation.clone()) if torch.is_tensor(activation) else output
