"""Block and allow lists: a partition, sorted, of the size that one rule says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.dropping.lists import create_block_allow_lists
from sbldlib.records import LayerLists, SensitivityData


def data(*values: float) -> SensitivityData:
    return SensitivityData(values=values, standard_errors=(0.0,) * len(values))


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
        ({"fraction": 0.5, "count": 1}, "fraction and count were both given"),
        ({"count": 0, "threshold": 0.0}, "count and threshold were both given"),
        ({"fraction": 0}, r"fraction=0 is outside \(0, 1\)"),
        ({"fraction": 1.0}, r"fraction=1.0 is outside \(0, 1\)"),
        ({"fraction": math.nan}, "fraction=nan is outside"),
        ({"fraction": 0.95}, r"fraction 0.95 blocks 5 of 5 layers; at least one must be left"),
        ({"count": -1}, "count=-1 must be at least 0"),
        ({"count": 5}, "count 5 blocks 5 of 5 layers; at least one must be left"),
        ({"count": 99}, "count 99 blocks 99 of 5 layers"),
        ({"count": 1.5}, "count=1.5 must be a whole number"),
        ({"threshold": -1.0}, "threshold -1 nats per token blocks 5 of 5"),
        ({"threshold": math.nan}, "threshold=nan is outside"),
    ],
)
def test_a_rule_out_of_range_is_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        create_block_allow_lists(MIXED, **settings)


def test_one_layer_leaves_nothing_to_drop():
    with pytest.raises(ValueError, match="blocks 1 of 1 layers"):
        create_block_allow_lists(data(1.0))
    assert create_block_allow_lists(data(1.0), count=0).allow == (0,)
