"""From the whole model's mean keep probability to one keep probability a layer, its mean exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from ..errors import check_choice, check_range
from ..records import LayerLists, SensitivityData, check_num_layers
from .lists import check_lists, check_sensitivity_data, create_block_allow_lists

Allocation = Callable[[float], tuple[float, ...]]  # mean keep probability -> one a layer
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
    share = sensitivity_allocation(sensitivity_data, lists=lists, weight=weight, drop_max=drop_max)
    return share(optimal_keep_probability)


def sensitivity_allocation(
    sensitivity_data: SensitivityData,
    *,
    lists: LayerLists | None = None,
    weight: str = "rank",
    drop_max: float = DROP_MAX,
) -> Allocation:
    """`update_keep_probability` with all but the mean settled once, as a run needs it."""
    check_sensitivity_data(sensitivity_data)
    lists = create_block_allow_lists(sensitivity_data) if lists is None else check_lists(lists)
    check_num_layers("lists", lists.num_layers, sensitivity_data.num_layers)
    check_choice("weight", weight, WEIGHTS)
    allow = list(lists.allow)
    weights = np.zeros(sensitivity_data.num_layers)
    weights[allow] = WEIGHTS[weight](np.asarray(sensitivity_data.values)[allow])
    may_drop = np.zeros(sensitivity_data.num_layers, dtype=bool)
    may_drop[allow] = True
    return weighted_allocation(
        weights, may_drop=may_drop, drop_max=drop_max, field="optimal_keep_probability"
    )


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
    return weighted_allocation(weights, may_drop=may_drop, drop_max=drop_max)(mean_keep)


def weighted_allocation(
    weights: Sequence[float] | np.ndarray,
    *,
    may_drop: Sequence[bool] | np.ndarray | None = None,
    drop_max: float = DROP_MAX,
    field: str = "mean_keep",
) -> Allocation:
    """`allocate` with all but the mean settled once: mean keep probability to one a layer.

    Args:
        weights, may_drop, drop_max: as for `allocate`.
        field: what the mean is called where it is out of range.

    Raises:
        ValueError: as for `allocate`, what concerns the mean when it is given.
    """
    drop_max = check_range("drop_max", drop_max, 0, 1, low_open=True, high_open=True)
    weight_L = np.array(
        [
            check_range(f"weights[{i}]", w, 0, math.inf, high_open=True)
            for i, w in enumerate(weights)
        ]
    )
    droppable = np.ones(len(weight_L), bool) if may_drop is None else np.asarray(may_drop, bool)
    if len(weight_L) == 0 or len(droppable) != len(weight_L):
        raise ValueError(f"may_drop is for {len(droppable)} layers, weights for {len(weight_L)}")
    num_layers, num_droppable = len(weight_L), int(droppable.sum())
    room, weights_of_droppable = drop_max * num_droppable, weight_L[droppable]

    @lru_cache(maxsize=256)
    def share_out(mean_keep: float) -> tuple[float, ...]:
        total = (1 - mean_keep) * num_layers
        if total > room * (1 + 1e-12):
            enough = math.ceil(1e4 * (1 - room / num_layers)) / 1e4
            raise ValueError(
                f"mean_keep={mean_keep:g} asks for {total:.4g} dropped layers an iteration; the "
                f"{num_droppable} layers that may be dropped hold {room:.4g} at "
                f"drop_max={drop_max:g}. Raise mean_keep to {enough:g} or more, or block fewer "
                "layers"
            )
        drop_L = np.zeros(num_layers)
        drop_L[droppable] = _water_fill(total, weights_of_droppable, drop_max)
        return tuple((1 - drop_L).tolist())

    return lambda mean_keep: share_out(check_range(field, mean_keep, 0, 1, low_open=True))


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
