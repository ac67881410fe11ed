"""Estimators from one forward: how little a block turns its activation.

Legend: B batch, T tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .measurement import (
    BlockCall,
    Measurement,
    activation_of,
    at_full_depth,
    in_place_of_blocks,
    is_residual,
)


def block_influence(measurement: Measurement) -> list[list[float]]:
    """1 - mean cosine between a block's input and output, [layer][batch], in [0, 2].

    The mean is over all tokens of a batch, those without a target among them.

    Source: Men et al. 2024 (ShortGPT), arXiv 2403.03853 [S].
    """
    return _by_layer(measurement, lambda cosine: 1 - cosine.mean())


def angular_distance(measurement: Measurement) -> list[list[float]]:
    """Mean angle between a block's input and output over pi, [layer][batch], in [0, 1].

    Source: Gromov et al. 2024, arXiv 2403.17887, for one layer [S]; theirs is taken at
        the last token, here the mean is over all tokens [O].
    """
    return _by_layer(measurement, lambda cosine: (cosine.acos() / math.pi).mean())


def _by_layer(measurement: Measurement, score: Callable[[Tensor], Tensor]) -> list[list[float]]:
    """Each block's score of the cosines [B, T] between its input and output, one a batch."""
    scores: dict[int, list[float]] = {layer: [] for layer in measurement.layers}

    def watch(layer: int, run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        output = run(*args, **kwargs)
        if layer in scores:
            call = BlockCall(measurement.skipping.blocks[layer].module, run, args, kwargs)
            given, activation = call.given, activation_of(output)
            if not is_residual(given, activation):
                raise ValueError(
                    f"{measurement.name(layer)} does not turn its first input into one output of "
                    "the same shape: it has no angle between the two"
                )
            # Single precision cannot tell an angle of 0.0003 from none.
            cosine = F.cosine_similarity(given.double(), activation.double(), dim=-1).clamp(-1, 1)
            where = at_full_depth(len(scores[layer]))
            scores[layer].append(measurement.finite_score(float(score(cosine)), layer, where))
        return output

    with torch.no_grad(), in_place_of_blocks(measurement.skipping, watch):
        for number, batch in measurement.batches:
            measurement.loss_of(batch, at_full_depth(number))
    return [scores[layer] for layer in measurement.layers]
