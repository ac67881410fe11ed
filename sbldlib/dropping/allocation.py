"""From the whole model's mean keep probability to one keep probability a layer, its mean exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import check_range, unknown_name
from ..records import LayerLists, SensitivityData, check_num_layers
from .lists import create_block_allow_lists

DROP_MAX = 0.9  # cap of one layer's drop probability [O]


def weight_by_rank(values: np.ndarray) -> np.ndarray:
    """1 - rank / n, rank 0 the least sensitive: 1 down to 1 / n; equal values share a rank [O]."""
    below = (values[:, None] > values[None, :]).sum(axis=1)
    equal = (values[:, None] == values[None, :]).sum(axis=1) - 1
    return 1 - (below + equal / 2) / len(values)


def weight_by_value(values: np.ndarray) -> np.ndarray:
    """1 - normalised value: the least sensitive layer weighs 1, the most sensitive 0 [O]."""
    spread = values.max() - values.min()
    return np.ones(len(values)) if spread == 0 else 1 - (values - values.min()) / spread


def weight_equally(values: np.ndarray) -> np.ndarray:
    """Every layer on the allow list weighs the same: the lists alone decide [O]."""
    return np.ones(len(values))


WEIGHTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rank": weight_by_rank,
    "value": weight_by_value,
    "equal": weight_equally,
}


def update_keep_probability(
    sensitivity_data: SensitivityData,
    optimal_keep_probability: float,
    *,
    lists: LayerLists | None = None,
    weight: str = "rank",
    drop_max: float = DROP_MAX,
) -> tuple[float, ...]:
    """The keep-probability list of one iteration; its mean is the asked mean, exactly.

    That sensitivity and the whole model's keep probability are combined at every iteration is the
    paper's [P]; how is ours [O]: 1 on the block list; on the allow list the drop probability is
    proportional to a weight that falls with sensitivity, capped at `drop_max`, and what passes the
    cap is shared out over the others.

    Args:
        sensitivity_data: one value a layer.
        optimal_keep_probability: mean over all layers, in (0, 1].
        lists: block and allow lists; the default is `create_block_allow_lists(sensitivity_data)`.
        weight: "rank", "value" or "equal".
        drop_max: the most that one layer may be dropped, in (0, 1).

    Returns:
        L probabilities in (0, 1], by layer.

    Raises:
        ValueError: the allow list cannot hold that much dropping (both numbers are named), or a
            value is out of range.
    """
    lists = lists or create_block_allow_lists(sensitivity_data)
    check_num_layers("lists", lists.num_layers, sensitivity_data.num_layers)
    check_range("optimal_keep_probability", optimal_keep_probability, 0, 1, low_open=True)
    if weight not in WEIGHTS:
        raise unknown_name("weight", weight, WEIGHTS)
    allow = list(lists.allow)
    weights = np.zeros(sensitivity_data.num_layers)
    weights[allow] = WEIGHTS[weight](np.asarray(sensitivity_data.values)[allow])
    may_drop = np.zeros(sensitivity_data.num_layers, dtype=bool)
    may_drop[allow] = True
    return allocate(optimal_keep_probability, weights, may_drop=may_drop, drop_max=drop_max)


def allocate(
    mean_keep: float,
    weights: Sequence[float] | np.ndarray,
    *,
    may_drop: Sequence[bool] | np.ndarray | None = None,
    drop_max: float = DROP_MAX,
) -> tuple[float, ...]:
    """Share dropping out over layers in proportion to weights, under a cap, the mean exact.

    Args:
        mean_keep: mean over all layers, in (0, 1].
        weights: one a layer, >= 0; larger is dropped more.
        may_drop: False for layers that always run; default all may be dropped.
        drop_max: cap of one layer's drop probability, in (0, 1).

    Raises:
        ValueError: the layers cannot hold that much dropping (both numbers are named), or a value
            is out of range.
    """
    mean_keep = check_range("mean_keep", mean_keep, 0, 1, low_open=True)
    drop_max = check_range("drop_max", drop_max, 0, 1, low_open=True, high_open=True)
    weight = np.array(
        [
            check_range(f"weights[{i}]", w, 0, math.inf, high_open=True)
            for i, w in enumerate(weights)
        ]
    )
    droppable = np.ones(len(weight), bool) if may_drop is None else np.asarray(may_drop, bool)
    if len(weight) == 0 or len(droppable) != len(weight):
        raise ValueError(f"may_drop is for {len(droppable)} layers, weights for {len(weight)}")
    total, room = (1 - mean_keep) * len(weight), drop_max * int(droppable.sum())
    if total > room * (1 + 1e-12):
        enough = math.ceil(1e4 * (1 - room / len(weight))) / 1e4
        raise ValueError(
            f"mean_keep={mean_keep:g} asks for {total:.4g} dropped layers an iteration; the "
            f"{int(droppable.sum())} layers that may be dropped hold {room:.4g} at "
            f"drop_max={drop_max:g}. Raise mean_keep to {enough:g} or more, or block fewer layers"
        )
    drop = np.zeros(len(weight))
    drop[droppable] = _water_fill(total, weight[droppable], drop_max)
    return tuple(float(keep) for keep in 1 - drop)


def _water_fill(total: float, weight: np.ndarray, cap: float) -> np.ndarray:
    """Values in proportion to weight, none above cap, that sum to total."""
    filled = np.zeros(len(weight))
    is_open = np.ones(len(weight), dtype=bool)
    while is_open.any() and (left := total - filled.sum()) > 0:
        # Where only layers of weight 0 are left, they share alike.
        share = np.where(is_open, weight, 0.0)
        share = share if share.any() else is_open.astype(float)
        share = share / share.max()  # neither the largest nor the smallest numbers overflow
        trial = np.where(is_open, left * (share / share.sum()), filled)
        if trial.max() <= cap:
            return trial
        full = is_open & (trial >= cap)
        filled[full], is_open[full] = cap, False
    return filled


def lowest_mean_keep(lists: LayerLists, *, drop_max: float = DROP_MAX) -> float:
    """The least mean keep probability that these lists can hold, in (0, 1)."""
    check_range("drop_max", drop_max, 0, 1, low_open=True, high_open=True)
    return 1 - drop_max * len(lists.allow) / lists.num_layers


def mean_keep_of(keep_probability: Sequence[float]) -> float:
    """Mean keep probability K of a list, in (0, 1]."""
    return math.fsum(keep_probability) / len(keep_probability)
