"""A mean over examples that come in groups, with an interval that knows of the groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import check_seed, items

RESAMPLES = 2000


class GroupedMean(NamedTuple):
    """A mean with its 95 % interval, for which whole groups were drawn anew.

    Attributes:
        mean: over all examples.
        low, high: the interval.
    """

    mean: float
    low: float
    high: float


def grouped_mean(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
    *,
    seed: int = 0,
) -> GroupedMean:
    """The mean of values, and how far other groups would have moved it.

    Examples of one file are alike; as many draws of single examples would give too narrow an
    interval.

    Args:
        values: one an example, such as 1 for right and 0 for wrong.
        groups: the group of each, such as its file; two different ones at least.
        seed: of the resampling.

    Raises:
        ValueError: not as many groups as values, or one group alone.
    """
    found = np.asarray(list(items("values", values)), dtype=float)
    of = np.asarray(list(items("groups", groups)))
    if found.ndim != 1 or of.shape != found.shape:
        raise ValueError(
            f"groups of shape {of.shape} must name one group for each of the values, of shape "
            f"{found.shape}"
        )
    names, place = np.unique(of, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"groups holds {len(names)} different group(s); two are needed to compare")
    sums = np.bincount(place, weights=found)
    counts = np.bincount(place)
    drawn = np.random.default_rng(check_seed("seed", seed)).integers(
        len(names), size=(RESAMPLES, len(names))
    )
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return GroupedMean(mean=float(found.mean()), low=float(low), high=float(high))
