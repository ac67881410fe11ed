from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from methods.runs import contexts, mean_drop, steps_of
from small import gpt

from sbldlib.dropping.schedules import with_full_depth
from sbldlib.dropping.skipping import attach
from sbldlib.methods import make_method, raptr


def paths(method, model, num_steps: int) -> list[tuple[int, ...]]:
    """The layers that run, step by step."""
    drawn = []
    for context in contexts(model, num_steps):
        method.before_step(context)
        off = attach(model).dropped
        drawn.append(tuple(layer for layer in range(attach(model).num_layers) if layer not in off))
    return drawn


def test_the_published_stages_of_twelve_layers():
    model = gpt(12)
    drawn = paths(raptr(model), model, 40)
    assert [len(path) for path in drawn] == [6] * 10 + [8] * 10 + [10] * 10 + [12] * 10
    assert all(path[0] == 0 and path[-1] == 11 for path in drawn)
    # 6-8-10-12 of 12 is a saving of a quarter
    assert paths(raptr(model, saving=0.25), model, 40) == drawn
    assert raptr(model).describe()["path_lengths"] == pytest.approx((6, 8, 10, 12))


def test_all_paths_of_a_length_are_equally_likely():
    model, num_steps = gpt(6), 6000
    drawn = Counter(paths(raptr(model, path_lengths=(4, 4)), model, num_steps))
    expected = {(0, *inner, 5) for inner in itertools.combinations(range(1, 5), 2)}
    assert set(drawn) == expected
    share = num_steps / len(expected)
    assert all(abs(count - share) < 4 * (share * (1 - 1 / 6)) ** 0.5 for count in drawn.values())


@settings(max_examples=25)
@given(saving=st.floats(0, 0.3), num_steps=st.integers(2, 60), num_layers=st.integers(6, 16))
def test_a_saving_is_met_exactly_and_the_path_only_grows(saving, num_steps, num_layers):
    model = gpt(num_layers)
    kept = steps_of(raptr(model, saving=saving), model, num_steps)
    assert mean_drop(kept) == pytest.approx(saving, abs=1e-12)
    lengths = [sum(keep) for keep in kept]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(lengths))
    assert kept[-1] == (1.0,) * num_layers
    assert all(keep[0] == 1 == keep[-1] for keep in kept)


def test_a_length_that_is_not_whole_is_one_of_its_neighbours():
    model = gpt(6)
    drawn = [len(path) for path in paths(raptr(model, path_lengths=(3.25,)), model, 2000)]
    assert set(drawn) == {3, 4}
    assert abs(sum(drawn) / 2000 - 3.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5


def test_lengths_that_are_given_are_scaled_to_a_saving():
    model = gpt(8)
    method = raptr(model, path_lengths=(4, 8), saving=0.1)
    assert method.describe()["path_lengths"] == pytest.approx((6.4, 8))
    assert mean_drop(steps_of(method, model, 10)) == pytest.approx(0.1, abs=1e-12)


def test_stages_are_equal_whatever_the_length_of_the_run():
    model = gpt(12)
    for num_steps in range(4, 30):
        lengths = [round(sum(keep)) for keep in steps_of(raptr(model), model, num_steps)]
        counts = Counter(lengths)
        assert set(counts) == {6, 8, 10, 12}
        assert max(counts.values()) - min(counts.values()) <= 1, num_steps


def test_a_warm_up_at_full_depth_keeps_the_saving():
    model = gpt(12)
    method = raptr(model, saving=0.2)
    method.schedule = with_full_depth(method.schedule, start=0.1)
    kept = steps_of(method, model, 100)
    assert kept[0] == (1.0,) * 12 and sum(kept[12]) < 7.5
    assert mean_drop(kept) == pytest.approx(0.2, abs=1e-12)


def test_by_name_it_draws_a_fixed_count_unless_told_otherwise():
    assert make_method("raptr", gpt(6)).describe()["mode"] == "fixed_count"
    assert make_method("raptr", gpt(6), mode="bernoulli").describe()["mode"] == "bernoulli"
    assert make_method("uniform", gpt(6)).describe()["mode"] == "bernoulli"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"saving": 0.3}, r"saving=0.3 asks for a mean drop of 0.6 where .* can hold 0.4995"),
        ({"path_lengths": (3, 5)}, r"path_lengths\[1\]=5 is outside \(2, 4\]"),
        ({"path_lengths": (2, 4)}, r"path_lengths\[0\]=2"),
        ({"path_lengths": (4, 3)}, r"path_lengths=\(4, 3\) must be lengths that do not fall"),
        ({"path_lengths": ()}, r"path_lengths=\(\) must be"),
    ],
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        raptr(gpt(4), **options)
