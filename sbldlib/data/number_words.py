"""Whole numbers in words, of three languages: a translation that is right or wrong.

What is to be learnt is small and real: the order changes (twenty-one, einundzwanzig), French counts
in twenties from 60 on, and digits know neither.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..errors import check_choice, check_positive_int, check_seed, items
from .arithmetic import MAX_PROBLEMS, MAX_TRIES, split_of
from .draws import Draws
from .reading import SPLITS

LANGUAGES = ("de", "digits", "en", "fr")
DIRECTIONS = tuple(f"{one}-{other}" for one, other in itertools.permutations(LANGUAGES, 2))
HIGHEST = 999_999  # from a million on the words are others


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One number in two languages; `direction` names them, such as "en-de"."""

    number: int
    direction: str
    source: str
    target: str


def number_words(number: int, language: str) -> str:
    """The number in words, such as "einundzwanzig"; in "digits", "21".

    Args:
        number: in 0..999999.
        language: one of `LANGUAGES`: "en" is British ("and" after the hundreds), "fr" of France.

    Raises:
        ValueError: a number out of range, or an unknown language.
        ModuleNotFoundError: num2words is not installed; the message says how to.
    """
    number = check_positive_int("number", number, minimum=0, maximum=HIGHEST)
    if check_choice("language", language, LANGUAGES) == "digits":
        return str(number)
    return _spelled(number, language)


def translate_number(number: int, direction: str) -> Pair:
    """The number's words in both languages of one of `DIRECTIONS`."""
    source, target = check_choice("direction", direction, DIRECTIONS).split("-")
    return Pair(
        number=number,
        direction=direction,
        source=number_words(number, source),
        target=number_words(number, target),
    )


def split_of_number(number: int) -> str:
    """The one split that a number belongs to, in every direction."""
    return split_of(f"number {number}")


def generate_pairs(
    directions: str | Sequence[str],
    num: int | None = None,
    split: str = "train",
    *,
    highest: int = 999,
    seed: int = 0,
) -> tuple[Pair, ...]:
    """Numbers of one split in two languages, the directions in turn.

    No number of one split is in another, whatever the direction: the split is a hash of the number
    (3 fifths train, 1 validation, 1 test). So what is measured on another split than "train" is
    measured on numbers that were never seen in any language.

    Args:
        directions: one or more of `DIRECTIONS`.
        num: how many, >= 1, each a function of its place and the arguments, with repetitions; None
            is every number of the split in every direction, in order.
        split: "train", "validation" or "test".
        highest: of the numbers, which start at 0; in 1..999999.
        seed: a whole number >= 0; of no effect where num is None.

    Raises:
        ValueError: an unknown direction or split, a number out of range, or a split without any
            number up to highest.
    """
    names = check_directions(directions)
    highest, seed = check_highest(highest), check_seed("seed", seed)
    check_choice("split", split, SPLITS)
    if num is not None:
        num = check_positive_int("num", num, maximum=MAX_PROBLEMS)
        return tuple(
            draw_pair(names[i % len(names)], split, highest, Draws(f"pairs {split}", seed, i))
            for i in range(num)
        )
    numbers = [number for number in range(highest + 1) if split_of_number(number) == split]
    if not numbers:
        raise _none_in(split, highest)
    return tuple(translate_number(number, name) for number in numbers for name in names)


def draw_pair(direction: str, split: str, highest: int, draws: Draws) -> Pair:
    """The stream's next number up to `highest` that belongs to the split."""
    for _ in range(MAX_TRIES):
        number = draws.below(highest + 1)
        if split_of_number(number) == split:
            return translate_number(number, direction)
    raise _none_in(split, highest)


def check_directions(directions: str | Sequence[str]) -> tuple[str, ...]:
    """The directions as a tuple, or ValueError for none or an unknown one."""
    given = (directions,) if isinstance(directions, str) else tuple(items("directions", directions))
    if not given:
        raise ValueError(f"directions={directions!r} names no direction, such as 'en-de'")
    return tuple(check_choice("directions", name, DIRECTIONS) for name in given)


def check_highest(highest: int) -> int:
    """The highest number, or ValueError where it is outside 1..999999."""
    return check_positive_int("highest", highest, maximum=HIGHEST)


def _none_in(split: str, highest: int) -> ValueError:
    return ValueError(f"highest={highest} leaves no number in split {split!r}; go higher")


@lru_cache(maxsize=2**17)
def _spelled(number: int, language: str) -> str:
    try:
        spell = importlib.import_module("num2words")
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "number words need num2words: pip install num2words", name="num2words"
        ) from None
    return spell.num2words(number, lang=language)
