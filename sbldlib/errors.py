"""Checks at the door: what is wrong, with which value, and what would be right."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable
from typing import Any


def unknown_name(field: str, value: object, known: Iterable[str]) -> ValueError:
    """A ValueError for a name that is not one of `known`, with the nearest one suggested."""
    names = sorted(known)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ValueError(f"{field}={value!r} is not known{hint}; known: {', '.join(names)}")


def check_range(
    field: str,
    value: float,
    low: float,
    high: float,
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Return `value` as a float, or raise ValueError where it is outside the range.

    Args:
        field: the name the user knows the value by.
        value: a real number; NaN is outside every range.
        low, high: the ends of the range.
        low_open, high_open: whether that end itself is outside.
    """
    number = _number(field, value)
    above = number > low if low_open else number >= low
    below = number < high if high_open else number <= high
    if not (above and below):
        ends = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        raise ValueError(f"{field}={value!r} is outside {ends}")
    return number


def check_positive_int(field: str, value: Any, *, minimum: int = 1) -> int:
    """Return `value` as an int, or raise ValueError where it is not a whole number >= minimum."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ValueError(f"{field}={value!r} must be a whole number >= {minimum}")
    if number < minimum:
        raise ValueError(f"{field}={value!r} must be at least {minimum}")
    return number


def check_layers(field: str, layers: Iterable[int], num_layers: int) -> tuple[int, ...]:
    """Return `layers` as a tuple, or raise ValueError for one out of range or named twice."""
    named = tuple(check_positive_int(field, layer, minimum=0) for layer in layers)
    for layer in named:
        if layer >= num_layers:
            raise ValueError(f"{field}: layer {layer} is outside 0..{num_layers - 1}")
    if len(set(named)) != len(named):
        twice = next(layer for layer in named if named.count(layer) > 1)
        raise ValueError(f"{field}: layer {twice} is named twice in {named}")
    return named


def check_finite(field: str, values: Iterable[float]) -> tuple[float, ...]:
    """Return `values` as floats, or raise ValueError naming the first that is not finite."""
    numbers = tuple(_number(f"{field}[{i}]", value) for i, value in enumerate(values))
    for index, number in enumerate(numbers):
        if not math.isfinite(number):
            raise ValueError(f"{field}[{index}]={number!r} must be finite")
    return numbers


def _number(field: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{field}={value!r} must be a number") from None
