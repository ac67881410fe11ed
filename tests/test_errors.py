"""Checks at the door: each names the field and the value, and lets what is right through."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.errors import (
    check_finite,
    check_layers,
    check_positive_int,
    check_range,
    unknown_name,
)

# ---- names


@pytest.mark.parametrize(
    "value, nearest", [("sbdl", "sbld"), ("SBLD", None), ("unifrom", "uniform"), (7, None)]
)
def test_an_unknown_name_suggests_the_nearest_and_lists_all(value, nearest):
    message = str(unknown_name("method", value, ["uniform", "sbld", "none"]))
    assert message.startswith(f"method={value!r} is not known")
    assert message.endswith("none, sbld, uniform")
    assert ("did you mean" in message) == (nearest is not None)
    assert nearest is None or f"did you mean {nearest!r}" in message


def test_known_names_may_be_a_dict_or_an_iterator():
    assert "one, two" in str(unknown_name("name", "x", {"two": 2, "one": 1}))
    assert "one, two" in str(unknown_name("name", "x", iter(["two", "one"])))


# ---- ranges


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_a_range_holds_what_lies_between_its_ends(value, low, high):
    if low <= value <= high:
        assert check_range("x", value, low, high) == value
    else:
        with pytest.raises(ValueError, match=r"^x=\S+ is outside \["):
            check_range("x", value, low, high)


@pytest.mark.parametrize(
    "low_open, high_open, inside, ends",
    [
        (False, False, (0, 1), "[0, 1]"),
        (True, False, (1,), "(0, 1]"),
        (False, True, (0,), "[0, 1)"),
        (True, True, (), "(0, 1)"),
    ],
)
def test_an_open_end_is_outside_and_the_message_shows_it(low_open, high_open, inside, ends):
    for value in (0, 1):
        if value in inside:
            assert check_range("x", value, 0, 1, low_open=low_open, high_open=high_open) == value
            continue
        with pytest.raises(ValueError) as error:
            check_range("x", value, 0, 1, low_open=low_open, high_open=high_open)
        assert str(error.value) == f"x={value} is outside {ends}"


@pytest.mark.parametrize("value", [1, np.float32(0.5), np.int64(1), torch.tensor(0.5)])
def test_any_kind_of_number_comes_back_as_a_float(value):
    assert type(check_range("x", value, 0, 1)) is float
    assert check_range("x", value, 0, 1) == float(value)


def test_nan_is_outside_every_range():
    with pytest.raises(ValueError, match=r"x=nan is outside \[-inf, inf\]"):
        check_range("x", math.nan, -math.inf, math.inf)
    assert check_range("x", math.inf, -math.inf, math.inf) == math.inf


@pytest.mark.parametrize("value", [None, "much", [0.5], {}, object()])
def test_what_is_no_number_is_quoted(value):
    with pytest.raises(ValueError, match="must be a number") as error:
        check_range("x", value, 0, 1)
    assert repr(value) in str(error.value)


# ---- whole numbers


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(3), torch.tensor(3), 10**30])
def test_a_whole_number_comes_back_as_an_int(value):
    assert type(check_positive_int("x", value)) is int
    assert check_positive_int("x", value) == int(value)


@pytest.mark.parametrize("value", [True, False, 1.0, 1.5, "1", None, [1], np.float64(2)])
def test_what_is_no_whole_number_is_quoted(value):
    with pytest.raises(ValueError, match="must be a whole number >= 1") as error:
        check_positive_int("x", value)
    assert str(error.value).startswith(f"x={value!r}")


@pytest.mark.parametrize("value, minimum", [(0, 1), (-1, 0), (4, 5)])
def test_a_number_below_the_minimum_is_quoted_with_it(value, minimum):
    with pytest.raises(ValueError, match=f"x={value} must be at least {minimum}"):
        check_positive_int("x", value, minimum=minimum)
    assert check_positive_int("x", minimum, minimum=minimum) == minimum


# ---- layers


@given(st.sets(st.integers(0, 9)))
def test_layers_come_back_in_their_order(layers):
    shuffled = sorted(layers, key=lambda layer: (layer * 7) % 10)
    assert check_layers("x", shuffled, 10) == tuple(shuffled)


def test_layers_may_be_any_iterable_of_whole_numbers():
    assert check_layers("x", (layer for layer in (2, 0)), 3) == (2, 0)
    assert check_layers("x", np.array([1, 2]), 3) == (1, 2)
    assert all(type(layer) is int for layer in check_layers("x", np.array([1, 2]), 3))


@pytest.mark.parametrize(
    "layers, problem",
    [
        ([0, 3], "x: layer 3 is outside 0..2"),
        ([2, 1, 2], r"x: layer 2 is named twice in \(2, 1, 2\)"),
        ([-1], "x=-1 must be at least 0"),
        ([0, 1.5], "x=1.5 must be a whole number"),
        ([False], "x=False must be a whole number"),
    ],
)
def test_layers_that_are_none_are_named(layers, problem):
    with pytest.raises(ValueError, match=problem):
        check_layers("x", layers, 3)


# ---- finite values


def test_finite_values_come_back_as_floats():
    values = check_finite("x", [1, np.float32(0.5), -2.0])
    assert values == (1.0, 0.5, -2.0) and all(type(value) is float for value in values)
    assert check_finite("x", []) == ()


@pytest.mark.parametrize(
    "values, problem",
    [
        ([0.0, math.nan, math.inf], r"x\[1\]=nan must be finite"),
        ([-math.inf], r"x\[0\]=-inf must be finite"),
        ([1.0, None], r"x\[1\]=None must be a number"),
    ],
)
def test_the_first_value_that_is_not_finite_is_named(values, problem):
    with pytest.raises(ValueError, match=problem):
        check_finite("x", values)


def test_a_float_tensor_is_no_whole_number():
    with pytest.raises(ValueError, match=r"steps=tensor\(2\.\) must be a whole number"):
        check_positive_int("steps", torch.tensor(2.0))
