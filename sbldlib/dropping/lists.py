"""Block and allow lists: the most sensitive layers are never dropped, the rest may be."""

from __future__ import annotations

import math

from ..errors import check_positive_int, check_range
from ..records import LayerLists, SensitivityData


def create_block_allow_lists(
    sensitivity_data: SensitivityData,
    *,
    fraction: float | None = None,
    count: int | None = None,
    threshold: float | None = None,
) -> LayerLists:
    """Sort the layers by sensitivity and cut: the most sensitive go on the block list.

    The sorting and the two lists are the paper's [P]; where to cut is not known, so the size is
    chosen here, by one of three rules [O]. Both lists are sorted, most sensitive first.

    Args:
        sensitivity_data: one value a layer.
        fraction: share of the layers to block, in (0, 1); rounded, at least one. The default rule,
            with 0.25.
        count: number of layers to block, 0..L-1.
        threshold: block every layer whose value is above this.

    Raises:
        ValueError: more than one rule, a value out of range, or a rule that leaves no layer to
            drop.
    """
    asked = {"fraction": fraction, "count": count, "threshold": threshold}
    given = {name: value for name, value in asked.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} were both given; one rule decides the size")
    ranking = sensitivity_data.ranking()
    if count is not None:
        size = check_positive_int("count", count, minimum=0)
        rule = f"count {size}"
    elif threshold is not None:
        threshold = check_range("threshold", threshold, -math.inf, math.inf)
        size = sum(value > threshold for value in sensitivity_data.values)
        rule = f"threshold {threshold:g} {sensitivity_data.unit}"
    else:
        share = 0.25 if fraction is None else fraction
        share = check_range("fraction", share, 0, 1, low_open=True, high_open=True)
        size, rule = max(1, round(share * len(ranking))), f"fraction {share:g}"
    if size >= len(ranking):
        raise ValueError(
            f"{rule} blocks {size} of {len(ranking)} layers; at least one must be left to drop"
        )
    return LayerLists(block=ranking[:size], allow=ranking[size:], rule=rule)
