from __future__ import annotations

import pytest

from sbldlib.models.family import (
    FAMILY,
    PETAFLOP_DAY,
    count_parameters,
    member,
    reckoned_petaflop_days,
)


def test_names_and_sources():
    names = [one.name for one in FAMILY]
    assert len(set(names)) == len(names) == 15
    assert all(one.source for one in FAMILY)
    published = [one for one in FAMILY if one.petaflop_days or one.petaflop_days_between]
    assert len(published) == 12 and all(one.compute_source for one in published)
    assert all(one.width % one.num_heads == 0 for one in FAMILY)


@pytest.mark.parametrize("one", FAMILY, ids=lambda one: one.name)
def test_counted_parameters_are_the_published_ones(one):
    # Sizes are rounded to two or three digits; 340 M for 336 M is the coarsest of them but one.
    assert abs(count_parameters(one) / one.published_parameters - 1) < 0.04


@pytest.mark.parametrize(
    ("name", "exact"),
    [("GPT-2 small", 124_439_808), ("GPT-2 XL", 1_557_611_200), ("GPT-1", 116_536_320)],
)
def test_exact_counts(name, exact):
    assert count_parameters(member(name)) == exact


def test_table_d1_confirms_the_width_of_13b():
    assert count_parameters(member("GPT-3 13B")) / 1e6 == pytest.approx(12_850, rel=2e-3)
    assert count_parameters(member("GPT-3 XL")) / 1e6 == pytest.approx(1_320, rel=5e-3)


def test_reckoned_compute_is_the_published_one():
    for one in FAMILY:
        reckoned = reckoned_petaflop_days(one)
        if one.training_tokens is None:
            assert reckoned is None
        else:
            assert reckoned == pytest.approx(one.petaflop_days, rel=0.07), one.name


def test_the_largest_by_hand():
    by_hand = 6 * 174.6e9 * 300e9 / 1e15 / 86_400
    assert reckoned_petaflop_days(member("GPT-3 175B")) == pytest.approx(by_hand, rel=2e-3)
    assert pytest.approx(1e20, rel=0.14) == PETAFLOP_DAY


def test_bad_members():
    with pytest.raises(ValueError, match="did you mean 'GPT-3 13B'"):
        member("GPT-3 13")
    with pytest.raises(ValueError, match="one='GPT-1' must be a Member"):
        count_parameters("GPT-1")
