import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbldlib.dropping import schedules
from sbldlib.dropping.allocation import lowest_mean_keep, mean_keep_of, update_keep_probability
from sbldlib.dropping.lists import create_block_allow_lists
from sbldlib.dropping.variance import (
    CONSTANT,
    DIRECTIONS,
    FITTED,
    LEAST_WHERE_HIGH,
    MOST_WHERE_HIGH,
    VarianceCurve,
    create_variance_based_scheduler,
    spread_saving,
    variance_curve,
)
from sbldlib.records import PilotData, SensitivityData

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


def curve(variance, progress=PROGRESS, **fields):
    return VarianceCurve(progress=tuple(progress), variance=tuple(variance), **fields)


relative = st.lists(st.floats(0, 1e3), min_size=1, max_size=60).map(np.array)
keep_range = st.floats(0.01, 1).flatmap(
    lambda low: st.tuples(st.floats(0, 1), st.just(low)).map(lambda p: (p[0] * (1 - low), low))
)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(relative, keep_range, st.sampled_from([LEAST_WHERE_HIGH, MOST_WHERE_HIGH]))
def test_the_saving_is_exact_the_range_held_and_the_order_kept(variance, asked, direction):
    saving, low = asked
    keep = spread_saving(variance, saving=saving, mean_keep_min=low, direction=direction)
    assert keep.shape == variance.shape
    assert math.fsum(keep) / len(keep) == pytest.approx(1 - saving, abs=1e-12)
    assert keep.min() >= low and keep.max() <= 1
    sign = 1 if direction == LEAST_WHERE_HIGH else -1
    assert (sign * np.diff(keep[np.argsort(variance)]) >= 0).all()


def test_without_clipping_it_is_the_stated_formula():
    share = 1 - HUMP / HUMP.max()
    expected = 1 - 0.2 * share / share.mean()
    keywords = {"saving": 0.2, "mean_keep_min": 0.1}
    found = spread_saving(HUMP, direction=LEAST_WHERE_HIGH, **keywords)
    assert found == pytest.approx(expected, abs=1e-12)
    inverse = spread_saving(HUMP, direction=MOST_WHERE_HIGH, **keywords)
    assert inverse == pytest.approx(1 - 0.2 * HUMP / HUMP.mean(), abs=1e-8)


def test_clipped_mass_is_spread_in_proportion_and_last_of_all_over_the_extreme():
    keywords = {"mean_keep_min": 0.1, "direction": LEAST_WHERE_HIGH}
    found = spread_saving(np.array([10.0, 9, 8, 0]), saving=0.3, **keywords)
    assert found == pytest.approx([1, 0.9, 0.8, 0.1])  # drops 0, .1, .2 and the cap .9
    found = spread_saving(np.array([10.0, 10, 9, 0]), saving=0.5, **keywords)
    assert found == pytest.approx([0.9, 0.9, 0.1, 0.1])


def test_rounding_in_a_flat_curve_is_not_a_schedule():
    flat = 0.3 + 1e-14 * np.arange(5)
    found = spread_saving(flat, saving=0.25, mean_keep_min=0.1, direction=LEAST_WHERE_HIGH)
    assert found == pytest.approx(np.full(5, 0.75), abs=1e-12)


@pytest.fixture(scope="module")
def scheduler():
    gaps = np.sqrt(0.01 + HUMP) * np.random.default_rng(3).choice([-0.1, 0.1], size=(3, 100))
    return create_variance_based_scheduler(pilot(gaps), saving=0.3, num_starts=3)


@pytest.mark.parametrize("num_iterations", [1, 2, 7, 100, 1001])
def test_the_mean_over_any_run_is_the_asked_one(scheduler, num_iterations):
    keep = schedules.tabulate(scheduler, num_iterations)
    assert keep.shape == (num_iterations,)
    assert keep.mean() == pytest.approx(0.7, abs=1e-12)


def test_dropping_is_least_where_the_variance_is_highest(scheduler):
    assert scheduler.reason == FITTED and scheduler.fit.carries_signal
    assert scheduler.fit.peak == pytest.approx(0.3, abs=0.05)
    keep = scheduler.tabulate(100)
    assert PROGRESS[keep.argmax()] == pytest.approx(scheduler.fit.peak, abs=0.02)
    fitted = scheduler.fit(PROGRESS)
    assert (np.diff(keep[np.argsort(fitted)]) >= 0).all()


def test_a_call_lies_between_the_tabulated_values(scheduler):
    fine = scheduler.tabulate(1001)
    assert [scheduler(t) for t in (0.0, 0.25, 1.0)] == pytest.approx(fine[[0, 250, 1000]].tolist())
    assert scheduler(0.2505) == pytest.approx((fine[250] + fine[251]) / 2)
    assert fine[250] != fine[251]
    assert isinstance(scheduler(0.5), float)


def test_the_scheduler_says_what_it_is(scheduler):
    text = scheduler.summary()
    for word in ("mean drop 0.3", LEAST_WHERE_HIGH, "fitted", "3 pair(s)", "carries signal"):
        assert word in text
    as_json = json.loads(json.dumps(scheduler.to_dict(), allow_nan=False))
    assert as_json["fit"]["carries_signal"] is True
    assert as_json["curve"]["num_pairs"] == 3


def test_the_inverse_direction_drops_most_at_the_peak():
    data = curve(HUMP)
    inverse = create_variance_based_scheduler(data, direction=MOST_WHERE_HIGH, num_starts=2)
    keep = inverse.tabulate(100)
    assert PROGRESS[keep.argmin()] == pytest.approx(0.3, abs=0.02)
    assert keep.mean() == pytest.approx(0.8, abs=1e-12)


def test_a_pilot_and_its_own_curve_give_the_same_scheduler():
    data = pilot([0.1 * HUMP + 0.01, 0.2 * HUMP + 0.01])
    keywords = {"saving": 0.25, "num_starts": 2, "seed": 3}
    from_pilot = create_variance_based_scheduler(data, window=0.1, **keywords)
    from_curve = create_variance_based_scheduler(
        variance_curve(data, window=0.1, seed=3), **keywords
    )
    assert from_pilot == from_curve
    assert from_pilot.fit.shift == from_pilot.curve.window == 0.09


def test_beyond_the_measured_curve_its_ends_are_held():
    part = slice(20, 60)
    data = curve(HUMP[part], PROGRESS[part])
    keep = create_variance_based_scheduler(data, num_starts=2).tabulate(100)
    assert keep[:20] == pytest.approx(np.full(20, keep[20]))
    assert keep[60:] == pytest.approx(np.full(40, keep[60]))


@pytest.mark.parametrize(
    "gaps",
    [
        np.zeros((2, 50)),
        np.full((2, 50), 0.3),
        np.random.default_rng(5).normal(size=(2, 50)),
    ],
    ids=["identical losses", "constant", "noise"],
)
def test_a_curve_without_signal_gives_a_constant_with_its_reason(gaps):
    found = create_variance_based_scheduler(pilot(gaps), saving=0.25, num_starts=2)
    assert found.reason == CONSTANT
    assert found.tabulate(7).tolist() == [0.75] * 7
    assert found(0.123) == 0.75
    assert CONSTANT in found.summary()


@pytest.mark.parametrize(("saving", "low"), [(0.1, 0.9), (0.7, 0.3), (0.9, 0.1)])
@pytest.mark.parametrize("variance", [HUMP, np.zeros(100)], ids=["fitted", "constant"])
def test_the_most_that_can_be_saved_is_a_constant_at_the_minimum(variance, saving, low):
    found = create_variance_based_scheduler(
        curve(variance), saving=saving, mean_keep_min=low, num_starts=2
    )
    assert found.tabulate(9) == pytest.approx(np.full(9, low), abs=1e-12)
    assert found.tabulate(9).min() >= low


def test_no_saving_keeps_every_layer():
    found = create_variance_based_scheduler(curve(HUMP), saving=0, mean_keep_min=1, num_starts=2)
    assert found.tabulate(5).tolist() == [1.0] * 5


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"saving": 0.95}, r"saving=0.95 is outside \[0, 0.9\], which mean_keep_min=0.1 leaves"),
        ({"saving": -0.1}, "saving=-0.1 is outside"),
        ({"saving": math.nan}, "saving=nan is outside"),
        ({"mean_keep_min": 0}, r"mean_keep_min=0 is outside \(0, 1\]"),
        ({"direction": "drop_least_where_variance_is_hihg"}, f"did you mean '{LEAST_WHERE_HIGH}'"),
        ({"window": 2}, "window=2 is outside"),
        ({"degree": -1}, "degree=-1 must be at least 0"),
        ({"num_starts": 0}, "num_starts=0 must be at least 1"),
    ],
)
def test_bad_options_are_named(keywords, message):
    with pytest.raises(ValueError, match=message):
        create_variance_based_scheduler(pilot([HUMP, HUMP]), **keywords)


def test_degenerate_pilots_are_named():
    with pytest.raises(ValueError, match="variance has 2 points; at least 7 are needed"):
        create_variance_based_scheduler(pilot([[0.1, 0.2]]))
    with pytest.raises(ValueError, match=r"training_data.num_iterations=1 must be at least 2"):
        create_variance_based_scheduler(pilot([[0.1]]))
    with pytest.raises(ValueError, match=r"dropping_losses\[0\]\[1\]=nan must be finite"):
        create_variance_based_scheduler(pilot([[0.1, math.nan, 0.1]]))
    with pytest.raises(ValueError, match=r"variance\[2\]=-1 must be >= 0"):
        curve([0, 1, -1], PROGRESS[:3])
    with pytest.raises(ValueError, match=r"training_data=\[0.1, 0.2\] must be a PilotData"):
        create_variance_based_scheduler([0.1, 0.2])  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def both_ways():
    data = pilot(np.sqrt(0.01 + HUMP) * np.random.default_rng(3).choice([-0.1, 0.1], (3, 100)))
    found = create_variance_based_scheduler(data, num_starts=2)
    assert found.reason == FITTED
    return found


@settings(max_examples=150)
@given(st.integers(1, 700), keep_range, st.sampled_from(DIRECTIONS))
def test_the_mean_is_exact_over_any_number_of_iterations(both_ways, length, asked, direction):
    saving, low = asked
    changed = replace(both_ways, saving=saving, mean_keep_min=low, direction=direction)
    keep = changed.tabulate(length)
    assert math.fsum(keep) / length == pytest.approx(1 - saving, abs=1e-12)
    assert keep.shape == (length,) and low <= keep.min() and keep.max() <= 1


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_run_of_one_iteration_drops_what_is_asked_in_it(both_ways, direction):
    assert replace(both_ways, direction=direction).tabulate(1).tolist() == pytest.approx([0.8])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_no_variance_at_all_is_a_constant_either_way(direction):
    found = create_variance_based_scheduler(
        curve(np.zeros(100)), saving=0.25, direction=direction, num_starts=2
    )
    assert found.reason == CONSTANT and found.tabulate(3).tolist() == [0.75] * 3


def test_the_two_directions_lie_on_either_side_of_the_mean(both_ways):
    least = both_ways.tabulate(200)
    most = replace(both_ways, direction=MOST_WHERE_HIGH).tabulate(200)
    assert np.corrcoef(least, most)[0, 1] == pytest.approx(-1)
    assert least.argmax() == most.argmin()


@settings(max_examples=100)
@given(
    st.lists(st.floats(0.001, 1), min_size=2, max_size=12),
    st.integers(1, 11),
    st.floats(0, 1),
    st.sampled_from(DIRECTIONS),
)
def test_a_schedule_above_the_lists_minimum_can_be_held_at_every_iteration(
    both_ways, values, num_blocked, share, direction
):
    data = SensitivityData(values=tuple(values), standard_errors=(0.0,) * len(values))
    lists = create_block_allow_lists(data, count=min(num_blocked, len(values) - 1))
    lowest = lowest_mean_keep(lists)
    changed = replace(
        both_ways, saving=share * (1 - lowest), mean_keep_min=lowest, direction=direction
    )
    for mean_keep in changed.tabulate(20):
        keep = update_keep_probability(data, float(mean_keep), lists=lists)
        assert mean_keep_of(keep) == pytest.approx(mean_keep, abs=1e-12)
        assert all(keep[layer] == 1 for layer in lists.block)
