"""Block and allow lists: a partition, sorted, of the size that one rule says."""

from __future__ import annotations

import inspect
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.dropping.lists import RULES, create_block_allow_lists
from sbldlib.records import LayerLists, SensitivityData


def data(*values: float, errors: tuple[float, ...] = ()) -> SensitivityData:
    return SensitivityData(values=values, standard_errors=errors or (0.0,) * len(values))


MIXED = data(0.1, 0.9, -0.2, 0.5, 0.3)  # from most to least: 1, 3, 4, 0, 2


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30),
    st.floats(min_value=0.01, max_value=0.6),
)
def test_the_lists_partition_the_layers_and_are_sorted(values, fraction):
    lists = create_block_allow_lists(data(*values), fraction=fraction)
    assert sorted(lists.block + lists.allow) == list(range(len(values)))
    assert len(lists.block) >= 1 and len(lists.allow) >= 1
    sensitivity = [values[layer] for layer in lists.block + lists.allow]
    assert sensitivity == sorted(sensitivity, reverse=True)


@pytest.mark.parametrize(
    "settings, block, rule",
    [
        ({}, (1,), "fraction 0.25"),
        ({"fraction": 0.4}, (1, 3), "fraction 0.4"),
        ({"fraction": 0.01}, (1,), "fraction 0.01"),
        ({"fraction": 0.8}, (1, 3, 4, 0), "fraction 0.8"),
        ({"count": 0}, (), "count 0"),
        ({"count": 3}, (1, 3, 4), "count 3"),
        ({"threshold": 0.3}, (1, 3), "threshold 0.3 nats per token"),
        ({"threshold": 0.29}, (1, 3, 4), "threshold 0.29 nats per token"),
        ({"threshold": 5}, (), "threshold 5 nats per token"),
        ({"threshold": math.inf}, (), "threshold inf nats per token"),
        ({"largest_gap": True}, (1,), "largest gap 0.4 nats per token"),
        ({"largest_gap": False, "count": 2}, (1, 3), "count 2"),
        ({"top_group": 2}, (1,), "top group within 2 standard errors"),
    ],
)
def test_each_rule_cuts_where_it_says_and_is_recorded(settings, block, rule):
    lists = create_block_allow_lists(MIXED, **settings)
    allow = tuple(layer for layer in (1, 3, 4, 0, 2) if layer not in block)
    assert lists == LayerLists(block=block, allow=allow, rule=rule)


@pytest.mark.parametrize("num_layers, size", [(2, 1), (3, 1), (4, 1), (8, 2), (12, 3), (24, 6)])
def test_the_default_blocks_a_quarter_and_at_least_one(num_layers, size):
    lists = create_block_allow_lists(data(*map(float, range(num_layers))))
    assert len(lists.block) == size
    assert lists.block == tuple(range(num_layers - 1, num_layers - 1 - size, -1))


def test_ties_keep_layer_order():
    lists = create_block_allow_lists(data(1.0, 2.0, 2.0, 1.0), count=1)
    assert (lists.block, lists.allow) == ((1,), (2, 0, 3))


@pytest.mark.parametrize(
    "settings, problem",
    [
        ({"fraction": 0.5, "count": 1}, "fraction=0.5 and count=1 were both given"),
        ({"count": 0, "threshold": 0.0}, "count=0 and threshold=0.0 were both given"),
        ({"fraction": 0}, r"fraction=0 is outside \(0, 1\)"),
        ({"fraction": 1.0}, r"fraction=1.0 is outside \(0, 1\)"),
        ({"fraction": math.nan}, "fraction=nan is outside"),
        ({"fraction": 0.95}, r"fraction=0.95 blocks 5 of 5 layers; at least one must be left"),
        ({"count": -1}, "count=-1 must be at least 0"),
        ({"count": 5}, "count=5 blocks 5 of 5 layers; at least one must be left"),
        ({"count": 99}, "count=99 blocks 99 of 5 layers"),
        ({"count": 1.5}, "count=1.5 must be a whole number"),
        ({"threshold": -1.0}, "threshold=-1.0 blocks 5 of 5"),
        ({"threshold": math.nan}, "threshold=nan is outside"),
        ({"largest_gap": True, "count": 1}, "count=1 and largest_gap=True were both given"),
        ({"top_group": -1}, r"top_group=-1 is outside \[0, inf\)"),
        ({"top_group": math.inf}, r"top_group=inf is outside"),
    ],
)
def test_a_rule_out_of_range_is_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        create_block_allow_lists(MIXED, **settings)


def test_one_layer_leaves_nothing_to_drop():
    with pytest.raises(ValueError, match="blocks 1 of 1 layers"):
        create_block_allow_lists(data(1.0))
    assert create_block_allow_lists(data(1.0), count=0).allow == (0,)


# ---- the rules that look at the values


@pytest.mark.parametrize(
    "values, block",
    [
        ((5.0, 4.9, 1.0, 0.9), (0, 1)),
        ((1.0, 2.0, 3.0, 4.0), (3,)),  # equal gaps: the shortest block list
        ((9.0, 9.0, 9.0, 0.0), (0, 1, 2)),
        ((-1.0, -3.0, -1.5), (0, 2)),
    ],
)
def test_the_largest_gap_is_where_sorted_neighbours_lie_farthest_apart(values, block):
    assert create_block_allow_lists(data(*values), largest_gap=True).block == block


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=20))
def test_no_cut_has_a_larger_gap(values):
    if len(set(values)) == 1:
        with pytest.raises(
            ValueError, match=r"largest_gap: all \d+ values are -?\d+ nats per token"
        ):
            create_block_allow_lists(data(*values), largest_gap=True)
        return
    lists = create_block_allow_lists(data(*values), largest_gap=True)
    cut = values[lists.block[-1]] - values[lists.allow[0]]
    ordered = sorted(values, reverse=True)
    assert cut == max(a - b for a, b in itertools.pairwise(ordered))


@pytest.mark.parametrize(
    "reach, block",
    [
        (0, (1,)),
        (1, (1,)),  # 0.9 - 0.1 against 0.5 + 0.2: apart
        (2, (1, 3)),  # 0.9 - 0.2 reaches down to 0.5 + 0.4; 0.3 + 0.2 does not reach
        (3, (1, 3, 4)),  # 0.9 - 0.3 = 0.3 + 0.3
    ],
)
def test_the_top_group_is_whoever_reaches_the_top_layers_interval(reach, block):
    measured = data(0.1, 0.9, -0.2, 0.5, 0.3, errors=(0.1, 0.1, 0.1, 0.2, 0.1000001))
    assert create_block_allow_lists(measured, top_group=reach).block == block


def test_a_wide_interval_far_down_does_not_block_those_above_it():
    measured = data(0.9, 0.5, 0.1, errors=(0.01, 0.01, 5.0))
    assert create_block_allow_lists(measured, top_group=2).block == (0,)


def test_intervals_that_all_overlap_leave_nothing_to_drop():
    with pytest.raises(ValueError, match="top_group=2 blocks 3 of 3 layers"):
        create_block_allow_lists(data(0.9, 0.5, 0.1, errors=(1.0,) * 3), top_group=2)


RULE = st.one_of(
    st.builds(lambda x: {"fraction": x}, st.floats(0.01, 0.6)),
    st.builds(lambda x: {"count": x}, st.integers(0, 1)),
    st.builds(lambda x: {"threshold": x}, st.floats(-10, 10)),
    st.just({"largest_gap": True}),
    st.builds(lambda x: {"top_group": x}, st.floats(0, 3)),
)


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0, 1)), min_size=2, max_size=20), RULE)
def test_whatever_the_rule_the_lists_partition_the_layers_in_order(pairs, rule):
    values, errors = zip(*pairs, strict=True)
    try:
        lists = create_block_allow_lists(data(*values, errors=errors), **rule)
    except ValueError as refusal:
        assert "at least one must be left" in str(refusal) or "no gap" in str(refusal)
        return
    assert sorted(lists.block + lists.allow) == list(range(len(values))) and lists.allow
    both = [values[layer] for layer in lists.block + lists.allow]
    assert both == sorted(both, reverse=True)


def test_every_rule_has_a_keyword():
    keywords = inspect.signature(create_block_allow_lists).parameters
    assert list(RULES) == [name for name in keywords if name != "sensitivity_data"]
