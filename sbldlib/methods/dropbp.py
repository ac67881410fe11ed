"""DropBP: every layer runs forward; the backward pass of some is left out."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from torch import nn

from ..dropping.allocation import DROP_MAX, Allocation, weighted_allocation
from ..dropping.lists import check_sensitivity_data
from ..dropping.schedules import constant
from ..dropping.skipping import attach
from ..errors import check_finite, check_range
from ..records import SensitivityData, check_num_layers
from .base import LayerDropping, check_saving

STEP = 0.1  # what one round of the allocation adds to a drop probability
_NEARLY = 1e-9


def dropbp(
    model: nn.Module,
    *,
    sensitivity_data: SensitivityData | None = None,
    saving: float = 0.2,
    **draws: Any,
) -> LayerDropping:
    """Every layer runs forward; a dropped one passes the gradient along its residual and no more.

    Args:
        sensitivity_data: one value a layer; where given, `greedy_drop` shares the dropping out, so
            that sensitive layers keep their backward passes. Without it all are dropped alike.
        saving: mean share of the layers' backward passes that are skipped, in [0, 0.9]. Forward
            passes are not saved: at equal cost of all layers, and backward at twice forward, a
            saving of s skips 2 s / 3 of the blocks' operations.
        draws: seed and mode, as in `LayerDropping`.

    Raises:
        ValueError: sensitivities of another depth, or a saving above 0.9; both numbers are named.

    Source: Woo et al. 2024, arXiv 2402.17812, and its code, WooSunghyeon/dropbp [S]. It drops
        attention and MLP by themselves and weighs layers by their operations; here a layer is a
        whole block, and all count alike.
    """
    num_layers, saving = attach(model).num_layers, check_saving(saving)
    allocation = weighted_allocation([1.0] * num_layers)
    if sensitivity_data is not None:
        measured = check_sensitivity_data(sensitivity_data).num_layers
        check_num_layers("sensitivity_data", measured, num_layers)
        allocation = _greedy(sensitivity_data.values)
    return LayerDropping(
        "dropbp",
        model,
        schedule=constant(1 - saving),
        allocation=allocation,
        effect="skip_backward",
        settings={
            "saving": saving,
            "allocation": "uniform" if sensitivity_data is None else "greedy",
        },
        **draws,
    )


def greedy_drop(sensitivities: Sequence[float], mean_drop: float) -> tuple[float, ...]:
    """Drop probabilities, raised by 0.1 at a time where that costs least, to a mean.

    Raising layer l's probability to p costs sensitivity * p, so that the costs of a layer grow as
    it is dropped more, and those of an insensitive one grow slowly.

    Args:
        sensitivities: one a layer; below 0 counts as 0.
        mean_drop: over the layers, in [0, 0.9].

    Returns:
        One a layer, whole tenths up to 0.9 but for one layer, which takes what is left of the
        mean, so that the mean is exact [O]; the published rule stops above it.

    Raises:
        ValueError: a value that is not finite, or more dropping than all layers hold at 0.9.

    Source: WooSunghyeon/dropbp, dropbp/cpp_extention/allocate_p.cc, at min_rate 0 [S].
    """
    costs = [max(0.0, value) for value in check_finite("sensitivities", sensitivities)]
    if check_range("mean_drop", mean_drop, 0, 1) > DROP_MAX + _NEARLY:
        raise ValueError(
            f"mean_drop={mean_drop:g} is above {DROP_MAX:g}, the most that a layer is dropped"
        )
    left = mean_drop * len(costs)
    num_steps = [0] * len(costs)
    rest = [0.0] * len(costs)
    # Of equal costs the later layer comes first, as in the published queue.
    queue = [(STEP * cost, -layer) for layer, cost in enumerate(costs)]
    heapq.heapify(queue)
    while left > _NEARLY and queue:
        cost, minus_layer = heapq.heappop(queue)
        layer = -minus_layer
        if left < STEP - _NEARLY:
            rest[layer], left = left, 0.0
            break
        num_steps[layer], left = num_steps[layer] + 1, left - STEP
        if (num_steps[layer] + 1) * STEP <= DROP_MAX + _NEARLY:
            heapq.heappush(queue, (cost + STEP * costs[layer], minus_layer))
    return tuple(STEP * steps + more for steps, more in zip(num_steps, rest, strict=True))


def _greedy(sensitivities: Sequence[float]) -> Allocation:
    check_finite("sensitivities", sensitivities)

    @lru_cache(maxsize=256)
    def allocation(mean_keep: float) -> tuple[float, ...]:
        check_range("mean_keep", mean_keep, 0, 1, low_open=True)
        if 1 - mean_keep > DROP_MAX + _NEARLY:
            raise ValueError(
                f"mean_keep={mean_keep:g} skips more backward passes than {DROP_MAX:g}, the most "
                "that a layer is dropped"
            )
        return tuple(1 - drop for drop in greedy_drop(sensitivities, 1 - mean_keep))

    return allocation
