"""What lists leave to the allow list, beside the allocation that has to hold it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.dropping.allocation import allocate
from sbldlib.dropping.room import DroppingLeft, dropping_left, last_accepted
from sbldlib.records import LayerLists


def lists(num_blocked: int, num_layers: int = 8) -> LayerLists:
    layers = tuple(range(num_layers))
    return LayerLists(
        block=layers[:num_blocked], allow=layers[num_blocked:], rule=f"count {num_blocked}"
    )


def test_a_longer_block_list_asks_more_of_the_rest():
    found = dropping_left({"short": lists(2), "long": lists(6)}, 0.3)
    assert found["short"] == DroppingLeft(
        rule="count 2",
        num_blocked=2,
        num_allowed=6,
        highest_mean_drop=pytest.approx(0.9 * 6 / 8),
        saving=0.3,
        drop_each=pytest.approx(0.4),
        can_hold=True,
    )
    assert found["long"].drop_each == pytest.approx(1.2) and not found["long"].can_hold


@given(st.integers(0, 11), st.floats(0, 0.95), st.floats(0.1, 0.95))
def test_lists_can_hold_what_the_allocation_can_hold(num_blocked, saving, drop_max):
    each = lists(num_blocked, 12)
    found = dropping_left({"these": each}, saving, drop_max=drop_max)["these"]
    may_drop = [layer in each.allow for layer in range(12)]
    try:
        keep = allocate(1 - saving, [1.0] * 12, may_drop=may_drop, drop_max=drop_max)
    except ValueError:
        assert saving > found.highest_mean_drop * (1 - 1e-9)
    else:
        assert saving < found.highest_mean_drop * (1 + 1e-9)
        drops = [1 - k for k, allowed in zip(keep, may_drop, strict=True) if allowed]
        assert drops == pytest.approx([found.drop_each] * len(drops))


@pytest.mark.parametrize("saving", [-0.1, 1.0, float("nan")])
def test_a_saving_out_of_range_is_named(saving):
    with pytest.raises(ValueError, match=rf"saving={saving} is outside \[0, 1\)"):
        dropping_left({"these": lists(2)}, saving)


def test_the_last_number_that_is_taken_is_found_from_either_side():
    def above(limit):
        def attempt(number):
            if number < limit:
                raise ValueError("too low")

        return attempt

    lowest = last_accepted(above(0.3), good=1.0, bad=0.0)
    assert 0.3 <= lowest < 0.3 + 1e-6
    assert last_accepted(above(-1.0), good=1.0, bad=0.0) < 1e-6  # nothing is refused
    highest = last_accepted(lambda number: above(-0.7)(-number), good=0.0, bad=1.0)
    assert 0.7 - 1e-6 < highest <= 0.7
    with pytest.raises(KeyError):
        last_accepted({}.__getitem__, good=1.0, bad=0.0)  # another error is no refusal
