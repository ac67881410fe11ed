"""Checks at the door: each names the field and the value, and lets what is right through."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.errors import (
    check_callable,
    check_choice,
    check_finite,
    check_flag,
    check_folder,
    check_kind,
    check_layers,
    check_path,
    check_positive_int,
    check_range,
    check_seed,
    check_seeds,
    printable,
    shown,
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


# ---- what is shown


class Broken:
    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "None"),
        ("a\x1b[2Jb", r"'a\x1b[2Jb'"),
        ("\ud800", r"'\ud800'"),
        (np.ones((2, 2)), "array([[1., 1.],        [1., 1.]])"),
        (Broken(), "<Broken>"),
        ("x" * 500, "'" + "x" * 119 + "..."),
    ],
)
def test_a_value_is_shown_in_one_short_line(value, text):
    assert shown(value) == text


def test_what_steers_a_terminal_is_written_out():
    assert printable("\x1b[2J\u202eabc\x07 \n é") == "\\x1b[2J\\u202eabc\\x07   é"


# ---- kinds


@pytest.mark.parametrize("value", ["sbdl", 3, None, ["sbld"], {"sbld": 1}, np.array(["sbld"])])
def test_a_choice_is_one_of_the_names_and_nothing_else(value):
    assert check_choice("method", "sbld", {"sbld": 1, "none": 2}) == "sbld"
    with pytest.raises(ValueError, match=r"^method=.* is not known.*known: none, sbld$"):
        check_choice("method", value, {"sbld": 1, "none": 2})


def test_a_kind_is_named_with_what_would_be_right():
    assert check_kind("name", "x", str, "text") == "x"
    assert check_kind("name", 1, (str, int), "text or a number") == 1
    with pytest.raises(ValueError, match=r"^name=3 must be text$"):
        check_kind("name", 3, str, "text")
    with pytest.raises(ValueError, match=r"^loss=3 must be a function$"):
        check_callable("loss", 3, "a function")
    assert check_callable("loss", len, "a function") is len


@pytest.mark.parametrize("value", [True, False, np.True_, np.array(False), torch.tensor(True)])
def test_a_flag_is_true_or_false(value):
    assert check_flag("bias", value) is bool(value)


@pytest.mark.parametrize("value", [0, 1, "True", None, [], np.array([True])])
def test_what_only_counts_as_true_is_no_flag(value):
    with pytest.raises(ValueError, match=r"^bias=.* must be True or False"):
        check_flag("bias", value)


@pytest.mark.parametrize("value", [True, np.True_, "0.5", b"1", np.array([0.5]), torch.ones(2), 1j])
def test_what_python_would_take_for_a_number_is_none(value):
    with pytest.raises(ValueError, match=r"^x=.* must be a number"):
        check_range("x", value, 0, 1)


@pytest.mark.parametrize("value", [np.array([1]), torch.ones(1, dtype=int), np.True_])
def test_an_array_of_one_is_no_whole_number(value):
    with pytest.raises(ValueError, match=r"^x=.* must be a whole number >= 1"):
        check_positive_int("x", value)


def test_a_whole_number_above_the_most_is_quoted_with_it():
    assert check_positive_int("x", 7, maximum=7) == 7
    with pytest.raises(ValueError, match=r"^x=8 must be at most 7$"):
        check_positive_int("x", 8, maximum=7)


def test_a_seed_fits_a_generator():
    assert check_seed("seed", 2**64 - 1) == 2**64 - 1
    with pytest.raises(ValueError, match=r"^seed=18446744073709551616 must be below 2\*\*64"):
        check_seed("seed", 2**64)
    assert check_seeds("seeds", iter([3, np.int64(1)])) == (3, 1)


@pytest.mark.parametrize(
    "seeds, minimum, words",
    [
        ((), 1, r"seeds=\(\) must be one or more different seeds"),
        ((1,), 2, r"seeds=\(1,\) must be two or more different seeds"),
        ((1, 1), 1, r"seeds=\(1, 1\) must be one or more"),
        ((1, -1), 1, "seeds=-1 must be at least 0"),
        (3, 1, "seeds=3 must be a list"),
        ("12", 1, "seeds='12' must be a list"),
    ],
)
def test_seeds_that_do_not_make_pairs_are_named(seeds, minimum, words):
    with pytest.raises(ValueError, match=words):
        check_seeds("seeds", seeds, minimum=minimum)


@pytest.mark.parametrize("layers", [3, None, "01", b"01"])
def test_layers_that_are_no_list_are_quoted(layers):
    with pytest.raises(ValueError, match=r"^x=.* must be a list"):
        check_layers("x", layers, 3)


def test_layers_without_an_end_are_refused_at_the_first_wrong_one():
    with pytest.raises(ValueError, match="layer 3 is outside"):
        check_layers("x", itertools.count(), 3)
    with pytest.raises(ValueError, match=r"layer 0 is named twice in \(0, 1, 0\)"):
        check_layers("x", itertools.cycle([0, 1]), 3)


# ---- paths


def test_a_folder_may_be_new_and_is_not_made(tmp_path):
    assert check_folder("folder", str(tmp_path / "new")) == tmp_path / "new"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("value", ["", "a\0b", b"bytes", 3, None, ["x"]])
def test_what_no_file_can_be_called_is_quoted(value):
    with pytest.raises(ValueError, match=r"^folder=.* must be a path"):
        check_path("folder", value)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"^folder=.*: '.*file' is a file; name a folder"):
            check_folder("folder", path)
    with pytest.raises(ValueError, match=r"^folder='xxx.*: File name too long; name a folder"):
        check_folder("folder", "x" * 3000)
