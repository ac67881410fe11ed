"""Block and allow lists: the most sensitive layers are never dropped, the rest may be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from ..errors import check_flag, check_kind, check_positive_int, check_range, shown
from ..records import LayerLists, SensitivityData

DEFAULT_FRACTION = 0.25  # of the layers are blocked where no rule is given [O]


def create_block_allow_lists(
    sensitivity_data: SensitivityData,
    *,
    fraction: float | None = None,
    count: int | None = None,
    threshold: float | None = None,
    largest_gap: bool = False,
    top_group: float | None = None,
) -> LayerLists:
    """Sort the layers by sensitivity and cut: the most sensitive go on the block list.

    The sorting and the two lists are the paper's [P]; where to cut is not known, so the size is
    chosen here, by one of five rules [O]. Both lists are sorted, most sensitive first.

    Args:
        sensitivity_data: one value a layer.
        fraction: share of the layers to block, in (0, 1); rounded, at least one. The default rule,
            with 0.25.
        count: number of layers to block, 0..L-1.
        threshold: block every layer whose value is above this.
        largest_gap: True cuts where two neighbours in the sorted values lie farthest apart.
        top_group: block every layer whose interval, of this many standard errors to either side
            (>= 0, 2 for about 95 %), reaches the interval of the most sensitive layer.

    Raises:
        ValueError: more than one rule, a value out of range, or a rule that leaves no layer to
            drop.
    """
    check_sensitivity_data(sensitivity_data)
    asked = {
        "fraction": fraction,
        "count": count,
        "threshold": threshold,
        "largest_gap": check_flag("largest_gap", largest_gap) or None,
        "top_group": top_group,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if len(given) > 1:
        asked_for = " and ".join(f"{name}={shown(value)}" for name, value in given.items())
        raise ValueError(f"{asked_for} were both given; one rule decides the size")
    ((name, value),) = given.items() or {"fraction": DEFAULT_FRACTION}.items()
    ranking = sensitivity_data.ranking()
    size, rule = RULES[name](sensitivity_data, value)
    if size >= len(ranking):
        raise ValueError(
            f"{name}={shown(value)} blocks {size} of {len(ranking)} layers; at least one must be "
            "left to drop"
        )
    return LayerLists(block=ranking[:size], allow=ranking[size:], rule=rule)


def check_sensitivity_data(data: SensitivityData) -> SensitivityData:
    """The data, or ValueError where they are no SensitivityData."""
    right = "a SensitivityData, as calculate_sensitivities returns it"
    return check_kind("sensitivity_data", data, SensitivityData, right)


def check_lists(lists: LayerLists) -> LayerLists:
    """The lists, or ValueError where they are no LayerLists."""
    return check_kind(
        "lists", lists, LayerLists, "a LayerLists, as create_block_allow_lists returns it"
    )


def _fraction(data: SensitivityData, share: float) -> tuple[int, str]:
    share = check_range("fraction", share, 0, 1, low_open=True, high_open=True)
    return max(1, round(share * data.num_layers)), f"fraction {share:g}"


def _count(_: SensitivityData, count: int) -> tuple[int, str]:
    size = check_positive_int("count", count, minimum=0)
    return size, f"count {size}"


def _threshold(data: SensitivityData, threshold: float) -> tuple[int, str]:
    threshold = check_range("threshold", threshold, -math.inf, math.inf)
    size = sum(value > threshold for value in data.values)
    return size, f"threshold {threshold:g} {data.unit}"


def _largest_gap(data: SensitivityData, _: bool) -> tuple[int, str]:
    values = [data.values[layer] for layer in data.ranking()]
    gaps = [above - below for above, below in itertools.pairwise(values)]
    if max(gaps, default=0.0) == 0:
        raise ValueError(
            f"largest_gap: all {data.num_layers} values are {values[0]:g} {data.unit}; there is no "
            "gap to cut at"
        )
    widest = max(gaps)  # the first of equal ones: the shortest block list
    return gaps.index(widest) + 1, f"largest gap {widest:.3g} {data.unit}"


def _top_group(data: SensitivityData, reach: float) -> tuple[int, str]:
    reach = check_range("top_group", reach, 0, math.inf, high_open=True)
    errors, top = data.standard_errors, data.ranking()[0]
    lowest = data.values[top] - reach * errors[top]
    # In sorted order up to the first that does not reach: a longer interval below it is no reason.
    size = 0
    for layer in data.ranking():
        if data.values[layer] + reach * errors[layer] < lowest:
            break
        size += 1
    return size, f"top group within {reach:g} standard errors"


RULES: dict[str, Callable[[SensitivityData, float], tuple[int, str]]] = {
    "fraction": _fraction,
    "count": _count,  # pyright: ignore[reportAssignmentType]
    "threshold": _threshold,
    "largest_gap": _largest_gap,  # pyright: ignore[reportAssignmentType]
    "top_group": _top_group,
}
