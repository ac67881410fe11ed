import math

import numpy as np
import pytest

from sbldlib.dropping.curves import (
    VarianceCurve,
    coverage_limit,
    null_curve,
    running_mean,
    variance_curve,
)
from sbldlib.records import PilotData

PROGRESS = np.linspace(0, 1, 100)
HUMP = np.exp(-((PROGRESS - 0.3) ** 2) / 0.02)


def pilot(gaps):
    """Pairs whose losses differ by the given gaps, [num_pairs, num_iterations]."""
    gaps = np.asarray(gaps, dtype=float)
    baseline = np.tile(np.linspace(4, 2, gaps.shape[1]), (len(gaps), 1))
    return PilotData(
        baseline_losses=tuple(map(tuple, baseline.tolist())),
        dropping_losses=tuple(map(tuple, (baseline + gaps).tolist())),
        seeds=tuple(range(len(gaps))),
        mean_keep=0.8,
        seconds=1.0,
    )


def test_the_curve_is_the_mean_squared_gap_of_the_pairs():
    gaps = np.random.default_rng(0).normal(size=(3, 40))
    found = variance_curve(pilot(gaps), window=0)
    assert found.variance == pytest.approx((gaps**2).mean(axis=0))
    assert found.progress == pytest.approx(np.linspace(0, 1, 40))
    assert (found.num_pairs, found.window) == (3, 1 / 40)


@pytest.mark.parametrize(
    ("window", "width"), [(0.0, 1), (0.1, 1), (0.29, 5), (0.3, 5), (0.35, 7), (1.0, 19)]
)
def test_the_window_applied_is_the_largest_odd_one_within_the_asked(window, width):
    values = np.random.default_rng(1).uniform(size=(2, 20))
    smooth, applied = running_mean(values, window)
    assert applied == width / 20
    for t in range(20):
        near = values[:, max(0, t - width // 2) : t + width // 2 + 1]
        assert smooth[:, t] == pytest.approx(near.mean(axis=1))


def test_the_window_survives_the_rounding_of_its_share():
    assert running_mean(np.ones((1, 100)), 0.29)[1] == 0.29  # 0.29 * 100 is below 29


def test_the_band_is_seeded_and_holds_what_more_pairs_would_give():
    gaps = np.random.default_rng(2).normal(size=(40, 60))
    found = variance_curve(pilot(gaps), seed=4)
    assert found == variance_curve(pilot(gaps), seed=4)
    assert found.low != variance_curve(pilot(gaps), seed=5).low
    low, high = np.array(found.low), np.array(found.high)
    assert (low <= found.variance).all() and (found.variance <= high).all()
    assert ((low < 1) & (high > 1)).mean() > 0.8  # the true variance is 1
    smooth, _ = running_mean(gaps**2, found.window)
    error = smooth.std(axis=0) / math.sqrt(40)
    assert ((high - found.variance) / error).mean() == pytest.approx(1.96, abs=0.2)
    assert ((found.variance - low) / error).mean() == pytest.approx(1.96, abs=0.2)
    assert "95% band" in found.summary() and "40 pair(s)" in found.summary()


def test_one_pair_has_no_band_and_says_so():
    found = variance_curve(pilot([HUMP]))
    assert found.low is None and found.high is None
    assert "no band: one pair has no spread" in found.summary()
    assert VarianceCurve.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"window": -0.1}, "window=-0.1 is outside"),
        ({"num_bootstrap": 0}, "num_bootstrap=0 must be at least 1"),
        ({"confidence": 1}, "confidence=1 is outside"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
    ],
)
def test_bad_options_of_the_curve_are_named(keywords, message):
    with pytest.raises(ValueError, match=message):
        variance_curve(pilot([HUMP, HUMP]), **keywords)


@pytest.mark.parametrize(("num_pairs", "limit"), [(1, 0), (2, 0.5), (3, 0.75), (6, 0.96875)])
def test_few_pairs_cannot_cover_what_is_asked_and_say_so(num_pairs, limit):
    assert coverage_limit(num_pairs) == limit
    # the range of the pairs holds the median as often as the formula says
    drawn = np.random.default_rng(0).exponential(size=(20_000, num_pairs))
    median = math.log(2)
    held = ((drawn.min(axis=1) < median) & (drawn.max(axis=1) > median)).mean()
    assert held == pytest.approx(limit, abs=0.02)
    if num_pairs > 1:
        text = variance_curve(pilot(np.tile(HUMP, (num_pairs, 1)))).summary()
        assert (f"too narrow: {num_pairs} pair(s) can cover {limit:.0%} at most" in text) == (
            limit < 0.95
        )


def full_depth(losses):
    """A pilot whose baselines are given; its dropping runs must not be looked at."""
    losses = tuple(map(tuple, np.asarray(losses, dtype=float).tolist()))
    return PilotData(
        baseline_losses=losses, dropping_losses=tuple((9.0,) * len(losses[0]) for _ in losses),
        seeds=tuple(range(len(losses))), mean_keep=0.8, seconds=1.0,
    )  # fmt: skip


def test_the_null_is_the_mean_over_all_two_full_depth_runs():
    losses = np.random.default_rng(6).normal(3, 0.2, size=(4, 400))
    found = null_curve(full_depth(losses), window=0)
    # the mean squared difference of two draws is twice their variance
    assert found.variance == pytest.approx(2 * losses.var(axis=0, ddof=1))
    assert (found.num_pairs, found.low, found.high) == (6, None, None)
    assert np.mean(found.variance) == pytest.approx(2 * 0.2**2, rel=0.1)
    assert "no band" in found.summary() and "one pair" not in found.summary()
    assert (
        null_curve(full_depth(losses), window=0.05).window
        == variance_curve(full_depth(losses), window=0.05).window
        == pytest.approx(19 / 400)
    )


def test_pairs_take_the_noise_of_the_batches_away_that_the_null_keeps():
    rng = np.random.default_rng(7)
    batch_noise = rng.normal(0, 0.2, size=(3, 300))
    gaps = rng.normal(0, 0.02, size=(3, 300))
    data = PilotData(
        baseline_losses=tuple(map(tuple, 3 + batch_noise)),
        dropping_losses=tuple(map(tuple, 3 + batch_noise + gaps)),
        seeds=(0, 1, 2), mean_keep=0.8, seconds=1.0,
    )  # fmt: skip
    paired, null = variance_curve(data), null_curve(data)
    assert np.mean(paired.variance) == pytest.approx(0.02**2, rel=0.15)
    assert np.mean(null.variance) == pytest.approx(2 * 0.2**2, rel=0.15)


def test_one_run_has_no_null():
    with pytest.raises(ValueError, match=r"seeds=\(0,\) hold one run; the null needs two"):
        null_curve(full_depth([HUMP]))
