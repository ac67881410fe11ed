"""Allocation: the mean is the asked mean, no layer passes its cap, sensitive layers are spared."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sbldlib.dropping.allocation import (
    DROP_MAX,
    WEIGHTS,
    allocate,
    lowest_mean_keep,
    mean_keep_of,
    sensitivity_allocation,
    update_keep_probability,
    weight_by_rank,
    weight_by_value,
    weight_equally,
    weighted_allocation,
)
from sbldlib.dropping.lists import create_block_allow_lists
from sbldlib.records import LayerLists, SensitivityData

weights_names = st.sampled_from(sorted(WEIGHTS))
drop_maxima = st.floats(min_value=0.01, max_value=0.99)
sensitivities = st.lists(
    st.one_of(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.floats(min_value=-1e6, max_value=1e6)),
    min_size=2,
    max_size=24,
)


def data(*values: float) -> SensitivityData:
    return SensitivityData(values=values, standard_errors=(0.0,) * len(values))


@st.composite
def cases(draw):
    """Sensitivities, lists and a mean that these lists can hold."""
    sensitivity = data(*draw(sensitivities))
    count = draw(st.integers(min_value=0, max_value=sensitivity.num_layers - 1))
    lists = create_block_allow_lists(sensitivity, count=count)
    drop_max = draw(drop_maxima)
    least = lowest_mean_keep(lists, drop_max=drop_max)
    mean_keep = min(1.0, least + (1 - least) * draw(st.floats(min_value=0, max_value=1)))
    return sensitivity, mean_keep, {"lists": lists, "drop_max": drop_max}


# ---- the list of one iteration


@given(cases(), weights_names)
def test_the_mean_is_exact_and_every_layer_within_its_bounds(case, weight):
    sensitivity, mean_keep, settings = case
    keep = update_keep_probability(sensitivity, mean_keep, weight=weight, **settings)
    assert len(keep) == sensitivity.num_layers
    assert mean_keep_of(keep) == pytest.approx(mean_keep, abs=1e-12)
    assert all(1 - settings["drop_max"] - 1e-15 <= probability <= 1 for probability in keep)
    assert all(probability > 0 for probability in keep)
    assert all(keep[layer] == 1 for layer in settings["lists"].block)
    assert all(type(probability) is float for probability in keep)


@given(cases(), weights_names)
def test_a_more_sensitive_layer_is_never_dropped_more(case, weight):
    sensitivity, mean_keep, settings = case
    keep = update_keep_probability(sensitivity, mean_keep, weight=weight, **settings)
    ranking = sensitivity.ranking()
    for more, less in itertools.pairwise(ranking):
        assert keep[more] >= keep[less] - 1e-12


@given(cases(), weights_names)
def test_equally_sensitive_layers_of_the_allow_list_are_kept_equally(case, weight):
    sensitivity, mean_keep, settings = case
    keep = update_keep_probability(sensitivity, mean_keep, weight=weight, **settings)
    by_value: dict[float, list[float]] = {}
    for layer in settings["lists"].allow:
        by_value.setdefault(sensitivity.values[layer], []).append(keep[layer])
    for equal in by_value.values():
        assert max(equal) - min(equal) <= 1e-12


@given(cases(), weights_names, st.randoms(use_true_random=False))
def test_a_layer_is_known_by_its_sensitivity_and_not_by_its_place(case, weight, random):
    sensitivity, mean_keep, settings = case
    order = list(range(sensitivity.num_layers))
    random.shuffle(order)
    place = {layer: index for index, layer in enumerate(order)}
    lists = settings["lists"]
    moved = LayerLists(
        block=tuple(place[layer] for layer in lists.block),
        allow=tuple(place[layer] for layer in lists.allow),
        rule=lists.rule,
    )
    keep = update_keep_probability(sensitivity, mean_keep, weight=weight, **settings)
    other = update_keep_probability(
        data(*(sensitivity.values[layer] for layer in order)),
        mean_keep,
        weight=weight,
        **{**settings, "lists": moved},
    )
    assert other == pytest.approx([keep[layer] for layer in order], abs=1e-12)


@given(cases(), weights_names, st.floats(min_value=0, max_value=1))
def test_more_mean_keep_keeps_no_layer_less(case, weight, share):
    sensitivity, mean_keep, settings = case
    more = mean_keep + (1 - mean_keep) * share
    low = update_keep_probability(sensitivity, mean_keep, weight=weight, **settings)
    high = update_keep_probability(sensitivity, more, weight=weight, **settings)
    assert all(a <= b + 1e-12 for a, b in zip(low, high, strict=True))


@pytest.mark.parametrize(
    "weight, expected",
    [
        # Four layers, the first blocked; one layer's worth of dropping is shared out over three.
        ("rank", (1, 1 - 1 / 6, 1 - 2 / 6, 1 - 3 / 6)),  # by 1/3 : 2/3 : 1
        ("value", (1, 1, 1 - 2 / 6, 1 - 4 / 6)),  # by 0 : 1/2 : 1
        ("equal", (1, 2 / 3, 2 / 3, 2 / 3)),
    ],
)
def test_worked_by_hand(weight, expected):
    keep = update_keep_probability(data(9.0, 3.0, 2.0, 1.0), 0.75, weight=weight)
    assert keep == pytest.approx(expected, abs=1e-15)


def test_what_passes_the_cap_goes_to_the_others():
    # 1.2 layers by 1/3 : 2/3 : 1 would be 0.2, 0.4, 0.6; capped at 0.5 the 0.1 goes on by 1 : 2.
    keep = update_keep_probability(data(9.0, 3.0, 2.0, 1.0), 0.7, drop_max=0.5)
    assert 1 - np.array(keep) == pytest.approx([0, 0.2 + 0.1 / 3, 0.4 + 0.2 / 3, 0.5], abs=1e-15)


def test_layers_of_weight_zero_take_what_the_others_cannot():
    # By value the most sensitive allowed layer weighs 0 and the cap leaves it the rest.
    keep = update_keep_probability(data(9.0, 3.0, 1.0), 0.6, weight="value", drop_max=0.9)
    assert keep == pytest.approx((1.0, 0.7, 0.1), abs=1e-15)


def test_the_defaults_block_the_most_sensitive_quarter():
    sensitivity = data(*(float(8 - layer) for layer in range(8)))
    keep = update_keep_probability(sensitivity, 0.8)
    assert [layer for layer, probability in enumerate(keep) if probability == 1] == [0, 1]
    lists = create_block_allow_lists(sensitivity)
    assert keep == update_keep_probability(sensitivity, 0.8, lists=lists, weight="rank")
    assert min(update_keep_probability(sensitivity, lowest_mean_keep(lists))) == pytest.approx(
        1 - DROP_MAX
    )


def test_a_mean_of_1_keeps_all():
    assert update_keep_probability(data(1.0, 2.0, 3.0), 1.0) == (1.0, 1.0, 1.0)


# ---- what cannot be


@given(cases(), weights_names, st.floats(min_value=0.01, max_value=0.99))
def test_a_mean_that_the_lists_cannot_hold_is_refused_with_both_numbers(case, weight, share):
    sensitivity, _, settings = case
    least = lowest_mean_keep(settings["lists"], drop_max=settings["drop_max"])
    too_low = least * share
    with pytest.raises(ValueError, match=r"mean_keep=\S+ asks for \S+ dropped layers") as error:
        update_keep_probability(sensitivity, too_low, weight=weight, **settings)
    asked = (1 - too_low) * sensitivity.num_layers
    room = len(settings["lists"].allow) * settings["drop_max"]
    assert f"asks for {asked:.4g} dropped" in str(error.value)
    assert f"hold {room:.4g} at drop_max={settings['drop_max']:g}" in str(error.value)


@given(st.integers(2, 40), drop_maxima)
def test_the_mean_that_the_refusal_advises_is_accepted(num_layers, drop_max):
    may_drop = [False] + [True] * (num_layers - 1)
    with pytest.raises(ValueError) as error:
        allocate(1e-6, [1.0] * num_layers, may_drop=may_drop, drop_max=drop_max)
    advised = float(re.search(r"Raise mean_keep to (\S+) or more", str(error.value))[1])
    allocate(advised, [1.0] * num_layers, may_drop=may_drop, drop_max=drop_max)
    least = 1 - drop_max * (num_layers - 1) / num_layers
    assert advised == pytest.approx(least, abs=2e-4)


@pytest.mark.parametrize("mean_keep", [0, -0.5, 1.0001, 80, math.nan, math.inf, "high", None])
def test_a_mean_out_of_range_is_quoted(mean_keep):
    with pytest.raises(ValueError, match=re.escape(f"optimal_keep_probability={mean_keep!r}")):
        update_keep_probability(data(1.0, 2.0), mean_keep)
    with pytest.raises(ValueError, match=re.escape(f"mean_keep={mean_keep!r}")):
        allocate(mean_keep, [1.0, 1.0])


@pytest.mark.parametrize("drop_max", [0, 1, -1, math.nan])
def test_a_cap_out_of_range_is_quoted(drop_max):
    with pytest.raises(ValueError, match=f"drop_max={drop_max}"):
        update_keep_probability(data(1.0, 2.0), 0.9, drop_max=drop_max)
    lists = LayerLists(block=(0,), allow=(1,), rule="by hand")
    with pytest.raises(ValueError, match=f"drop_max={drop_max}"):
        lowest_mean_keep(lists, drop_max=drop_max)


def test_an_unknown_weight_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"weight='ranks' is not known.*'rank'"):
        update_keep_probability(data(1.0, 2.0), 0.9, weight="ranks")


def test_lists_of_another_depth_are_refused_with_both_numbers():
    lists = LayerLists(block=(0,), allow=(1, 2), rule="by hand")
    with pytest.raises(ValueError, match="lists is for 3 layers, the model has 2"):
        update_keep_probability(data(1.0, 2.0), 0.9, lists=lists)


# ---- sharing out by any weights


@given(
    st.lists(st.floats(min_value=0, max_value=1e308), min_size=1, max_size=20),
    drop_maxima,
    st.floats(min_value=0, max_value=1),
)
def test_any_weights_give_the_mean_under_the_cap(weights, drop_max, share):
    mean_keep = 1 - drop_max * share
    drop = 1 - np.array(allocate(mean_keep, weights, drop_max=drop_max))
    assert drop.mean() == pytest.approx(1 - mean_keep, abs=1e-12)
    assert drop.max() <= drop_max + 1e-15 and drop.min() >= -1e-15


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=12), st.floats(0.7, 1))
def test_below_the_cap_drops_are_in_the_weights_proportion(weights, mean_keep):
    drop = 1 - np.array(allocate(mean_keep, weights, drop_max=0.99))
    assume(drop.max() < 0.99)
    total = (1 - mean_keep) * len(weights)
    assert drop == pytest.approx(total * np.array(weights) / sum(weights), abs=1e-12)


def test_weights_of_nothing_share_alike():
    assert allocate(0.5, [0.0, 0.0]) == (0.5, 0.5)


def test_layers_that_may_not_be_dropped_keep_1_whatever_their_weight():
    keep = allocate(0.8, [5.0, 1.0, 1.0], may_drop=[False, True, True])
    assert keep == pytest.approx((1.0, 0.7, 0.7))
    assert keep[0] == 1.0


def test_nothing_may_be_dropped():
    assert allocate(1.0, [1.0, 1.0], may_drop=[False, False]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="the 0 layers that may be dropped hold 0"):
        allocate(0.9, [1.0, 1.0], may_drop=[False, False])


@pytest.mark.parametrize(
    "weights, problem",
    [
        ([1.0, -1.0], r"weights\[1\]=-1.0 is outside \[0, inf\)"),
        ([math.nan], r"weights\[0\]=nan is outside"),
        ([math.inf, 1.0], r"weights\[0\]=inf is outside"),
        ([], "may_drop is for 2 layers, weights for 0"),
        ([1.0, 1.0, 1.0], "may_drop is for 2 layers, weights for 3"),
    ],
)
def test_weights_that_are_none_are_refused(weights, problem):
    with pytest.raises(ValueError, match=problem):
        allocate(0.9, weights, may_drop=[True, True])


def test_weights_without_a_layer_are_refused():
    with pytest.raises(ValueError, match="weights"):
        allocate(0.9, [])


# ---- weights of sensitivity


@pytest.mark.parametrize(
    "values, expected",
    [
        ([3.0, 1.0, 2.0], [1 / 3, 1, 2 / 3]),
        ([1.0, 1.0, 2.0], [5 / 6, 5 / 6, 1 / 3]),
        ([4.0, 4.0, 4.0], [2 / 3, 2 / 3, 2 / 3]),
        ([7.0], [1.0]),
        ([-1.0, -2.0], [0.5, 1.0]),
    ],
)
def test_weight_by_rank_worked_by_hand(values, expected):
    assert weight_by_rank(np.array(values)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "values, expected",
    [
        ([3.0, 1.0, 2.0], [0, 1, 0.5]),
        ([1.0, 1.0, 2.0], [1, 1, 0]),
        ([4.0, 4.0], [1, 1]),
        ([-1.0, 3.0], [1, 0]),
    ],
)
def test_weight_by_value_worked_by_hand(values, expected):
    assert weight_by_value(np.array(values)) == pytest.approx(expected)


def test_weight_equally():
    assert weight_equally(np.array([1.0, 5.0])).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12), weights_names)
def test_every_weight_is_at_least_0_and_falls_with_sensitivity(values, name):
    values = np.array(values)
    weight = WEIGHTS[name](values)
    assert ((weight >= 0) & (weight <= 1)).all()
    order = np.argsort(values)
    assert (np.diff(weight[order]) <= 1e-15).all()


def test_the_least_mean_keep_is_what_the_lists_hold():
    lists = LayerLists(block=(0,), allow=(1, 2, 3), rule="by hand")
    assert lowest_mean_keep(lists, drop_max=0.8) == pytest.approx(1 - 0.8 * 3 / 4)


# ---- settled once for a run


@given(cases(), weights_names)
def test_what_is_settled_once_gives_what_each_iteration_would(case, weight):
    sensitivity, mean_keep, settings = case
    settled = sensitivity_allocation(sensitivity, weight=weight, **settings)
    expected = update_keep_probability(sensitivity, mean_keep, weight=weight, **settings)
    assert settled(mean_keep) == settled(np.float64(mean_keep)) == expected
    assert all(type(keep) is float for keep in expected)


def test_an_allocation_refuses_as_allocate_does_and_goes_on():
    settled = weighted_allocation([1, 2, 1], may_drop=[False, True, True])
    assert settled(0.7) == allocate(0.7, [1, 2, 1], may_drop=[False, True, True])
    for mean_keep, problem in ((0.2, "mean_keep=0.2 asks for 2.4"), (1.5, "mean_keep=1.5")):
        for _ in range(2):  # a refusal is not kept in place of an answer
            with pytest.raises(ValueError, match=problem):
                settled(mean_keep)
    with pytest.raises(ValueError, match=r"mean_keep=\[0.5\] must be a number"):
        settled([0.5])
    with pytest.raises(ValueError, match="optimal_keep_probability=0"):
        sensitivity_allocation(data(0.1, 0.2))(0)


def test_the_weights_are_read_once():
    weights = np.array([1.0, 2.0])
    settled = weighted_allocation(weights)
    before = settled(0.7)
    weights[:] = 0
    assert settled(0.7) == before and settled(0.8) == allocate(0.8, [1.0, 2.0])
