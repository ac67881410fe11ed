from __future__ import annotations

import json

import pytest

from sbldlib.live.values import (
    CONTROLS,
    SHARED,
    block_layers,
    block_text,
    check_value,
    known_controls,
)


def test_every_first_value_passes_its_own_door_and_json():
    values = {**CONTROLS, **SHARED}
    assert set(known_controls()) == set(values)
    for name, value in values.items():
        assert check_value(name, value, num_layers=8) == value
    assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("0, 6", "0, 6"), ("6 0", "0, 6"), (" 6;0 ,6", "0, 6"), ("", ""), ("measured", "measured"),
        ("07", "7"),
    ],
)  # fmt: skip
def test_a_typed_block_list_has_one_form(typed, text):
    assert block_text(typed, num_layers=8) == text
    if text != "measured":
        assert ", ".join(map(str, block_layers(text))) == text


@pytest.mark.parametrize("typed", ["8", "-1", "0, x", "1.5", "²", "0 1 2 3 4 5 6 7", 3, None])
def test_what_is_no_block_list_is_refused_by_name(typed):
    with pytest.raises(ValueError, match="block="):
        block_text(typed, num_layers=8)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("saving", 0.5, r"saving=0.5 is outside \[0, 0.4\]"),
        ("saving", float("nan"), "saving=nan"),
        ("method", "sblb", "did you mean 'sbld'"),
        ("schedule", "cosine", "schedule='cosine'"),
        ("pwegd_shape", 0.5, "pwegd_shape=0.5"),
        ("learning_rate_scale", 0, "learning_rate_scale=0"),
        ("steps_per_second", -1, "steps_per_second=-1"),
        ("dropping", "yes", "dropping='yes'"),
        ("drop", True, "control='drop'"),
    ],
)
def test_a_bad_value_is_named_with_what_would_be_right(name, value, message):
    with pytest.raises(ValueError, match=message):
        check_value(name, value, num_layers=8)


def test_the_digits_that_a_browser_adds_are_cut():
    assert check_value("saving", 0.30000000000000004, num_layers=8) == 0.3
