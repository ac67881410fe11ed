"""Numbers in words: known ones, splits, and pairs as functions of their place."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("num2words")

from sbldlib.data import number_words as words_of
from sbldlib.data.number_words import (
    DIRECTIONS,
    HIGHEST,
    LANGUAGES,
    generate_pairs,
    number_words,
    split_of_number,
    translate_number,
)
from sbldlib.data.reading import SPLITS

KNOWN = {
    (0, "en"): "zero",
    (21, "en"): "twenty-one",
    (21, "de"): "einundzwanzig",
    (21, "fr"): "vingt et un",
    (21, "digits"): "21",
    (97, "fr"): "quatre-vingt-dix-sept",
    (80, "fr"): "quatre-vingts",
    (342, "en"): "three hundred and forty-two",
    (342, "de"): "dreihundertzweiundvierzig",
    (342, "fr"): "trois cent quarante-deux",
    (999_999, "digits"): "999999",
}
NUMBER = st.integers(0, HIGHEST)
SPLIT = st.sampled_from(SPLITS)


@pytest.mark.parametrize(("number", "language"), KNOWN)
def test_words_that_are_known(number, language):
    assert number_words(number, language) == KNOWN[number, language]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_numbers_have_the_same_words(language):
    assert len({number_words(number, language) for number in range(1000)}) == 1000


def test_german_says_units_before_tens():
    for tens in range(20, 100, 10):
        for unit in range(2, 10):
            en, de = (number_words(tens + unit, language) for language in ("en", "de"))
            assert en == f"{number_words(tens, 'en')}-{number_words(unit, 'en')}"
            assert de == f"{number_words(unit, 'de')}und{number_words(tens, 'de')}"


def test_every_two_languages_make_two_directions():
    assert len(DIRECTIONS) == 4 * 3
    pair = translate_number(21, "en-de")
    assert (pair.source, pair.target) == ("twenty-one", "einundzwanzig")


@given(NUMBER, st.sampled_from(DIRECTIONS))
def test_a_direction_back_swaps_both_sides(number, direction):
    one = translate_number(number, direction)
    back = translate_number(number, "-".join(reversed(direction.split("-"))))
    assert (one.source, one.target) == (back.target, back.source)
    assert (one.number, one.direction) == (number, direction)


@given(st.lists(st.sampled_from(DIRECTIONS), min_size=1, max_size=4), SPLIT, st.integers(0, 99))
def test_pairs_are_of_their_split_and_take_the_directions_in_turn(directions, split, seed):
    pairs = generate_pairs(directions, 6, split, highest=9999, seed=seed)
    assert [pair.direction for pair in pairs] == (directions * 6)[:6]
    assert {split_of_number(pair.number) for pair in pairs} == {split}
    assert all(0 <= pair.number <= 9999 for pair in pairs)
    assert pairs == generate_pairs(directions, 6, split, highest=9999, seed=seed)
    assert pairs[:3] == generate_pairs(directions, 3, split, highest=9999, seed=seed)


def test_seeds_give_other_pairs():
    one, two = (generate_pairs("en-de", 50, highest=99_999, seed=seed) for seed in (0, 1))
    assert len({pair.number for pair in one} & {pair.number for pair in two}) < 5


def test_the_splits_share_all_numbers_out():
    numbers = {split: {p.number for p in generate_pairs("en-fr", split=split)} for split in SPLITS}
    assert set.union(*numbers.values()) == set(range(1000))
    assert sum(map(len, numbers.values())) == 1000
    assert 540 < len(numbers["train"]) < 660
    assert 150 < len(numbers["test"]) < 250


def test_all_of_a_split_is_in_every_direction_once():
    pairs = generate_pairs(("en-de", "de-digits"), split="test", highest=200)
    numbers = [number for number in range(201) if split_of_number(number) == "test"]
    assert [(pair.number, pair.direction) for pair in pairs] == [
        (number, direction) for number in numbers for direction in ("en-de", "de-digits")
    ]


BAD = {
    "number": (lambda: number_words(10**6, "en"), "number=1000000 must be at most 999999"),
    "language": (lambda: number_words(1, "eng"), "did you mean 'en'"),
    "direction": (lambda: generate_pairs("en-es", 3), "directions='en-es' is not known"),
    "same": (lambda: translate_number(1, "en-en"), "direction='en-en' is not known"),
    "none": (lambda: generate_pairs((), 3), "names no direction"),
    "split": (lambda: generate_pairs("en-de", 3, "valid"), "did you mean 'validation'"),
    "num": (lambda: generate_pairs("en-de", 0), "num=0 must be at least 1"),
    "highest": (lambda: generate_pairs("en-de", 3, highest=10**6), "highest=1000000 must be at"),
    "seed": (lambda: generate_pairs("en-de", 3, seed=-1), "seed=-1 must be at least 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_asked(case):
    make, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("num", [1, None])
def test_a_split_without_a_number(num):
    empty = next(split for split in SPLITS if split not in {split_of_number(i) for i in (0, 1)})
    with pytest.raises(ValueError, match=f"highest=1 leaves no number in split '{empty}'"):
        generate_pairs("en-de", num, empty, highest=1)


def test_a_missing_num2words_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "num2words", None)
    words_of._spelled.cache_clear()
    assert number_words(21, "digits") == "21"
    with pytest.raises(ModuleNotFoundError, match="pip install num2words"):
        number_words(21, "en")
