from __future__ import annotations

import numpy as np
import pytest

from sbldlib.measure.grouped import grouped_mean


def test_groups_that_are_alike_inside_widen_the_interval():
    groups = np.repeat(np.arange(10), 100)
    values = (groups % 2).astype(float)
    found = grouped_mean(values, groups)
    alone = grouped_mean(values, np.arange(1000))
    assert found.mean == alone.mean == 0.5
    assert found.high - found.low > 5 * (alone.high - alone.low)
    assert found.low < 0.5 < found.high
    error = 0.5 / 10**0.5  # of a mean of ten coins
    assert abs((found.high - found.low) / 2 - 1.96 * error) < 0.06


def test_it_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    groups, covered = np.repeat(np.arange(30), 5), 0
    for _ in range(100):
        values = rng.normal(size=30)[groups] + 0.5 * rng.normal(size=150)
        low, high = grouped_mean(values, groups)[1:]
        covered += low < 0 < high
    assert 85 <= covered <= 100


def test_the_same_seed_gives_the_same_interval():
    values, groups = np.random.default_rng(0).normal(size=80), np.arange(80) // 4
    assert grouped_mean(values, groups) == grouped_mean(values, groups)
    assert grouped_mean(values, groups) != grouped_mean(values, groups, seed=1)


def test_bad_groups():
    with pytest.raises(ValueError, match=r"groups of shape \(2,\) .* shape \(3,\)"):
        grouped_mean([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="1 different group"):
        grouped_mean([1, 2, 3], [1, 1, 1])
