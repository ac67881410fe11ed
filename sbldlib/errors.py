"""Checks at the door: what is wrong, with which value, and what would be right."""

from __future__ import annotations

import difflib
import math
import operator
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

SHOWN_CHARACTERS = 120  # of a value, in a message
SEEDS = 2**64  # what torch's and numpy's generators can tell apart
T = TypeVar("T")


def shown(value: object) -> str:
    """The value's repr in one short line of printable characters, whatever the value is."""
    try:
        text = repr(value)
    except Exception:  # a broken __repr__ must not hide the message that it stands in
        text = f"<{type(value).__name__}>"
    if len(text) > SHOWN_CHARACTERS:
        text = f"{text[:SHOWN_CHARACTERS]}..."
    return printable(text)


def printable(text: str) -> str:
    """The text in one line that steers no terminal: what cannot be printed is written out."""
    return "".join(
        letter if letter.isprintable() else " " if letter == "\n" else ascii(letter)[1:-1]
        for letter in text
    )


def unknown_name(field: str, value: object, known: Iterable[str]) -> ValueError:
    """A ValueError for a name that is not one of `known`, with the nearest one suggested."""
    names, asked = sorted(known), shown(value)
    near = difflib.get_close_matches(asked.strip("'"), names, n=1, cutoff=0.4)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ValueError(f"{field}={asked} is not known{hint}; known: {', '.join(names)}")


def check_choice(field: str, value: Any, known: Iterable[str]) -> str:
    """Return `value`, or raise ValueError where it is not one of the `known` names."""
    names = tuple(known)
    if not isinstance(value, str) or value not in names:
        raise unknown_name(field, value, names)
    return value


def check_kind(field: str, value: Any, kind: type[T] | tuple[type[T], ...], right: str) -> T:
    """Return `value`, or raise ValueError where it is not of this kind.

    Args:
        kind: a class, or several.
        right: what it must be, in words.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{field}={shown(value)} must be {right}")
    return value


def check_callable(field: str, value: Any, right: str) -> Callable[..., Any]:
    """Return `value`, or raise ValueError where it cannot be called."""
    if not callable(value):
        raise ValueError(f"{field}={shown(value)} must be {right}")
    return value


def check_flag(field: str, value: Any) -> bool:
    """Return `value` as a bool, or raise ValueError where it is neither True nor False."""
    if not _is_bool(value):
        raise ValueError(f"{field}={shown(value)} must be True or False")
    return bool(value)


def check_path(field: str, value: Any) -> Path:
    """Return `value` as a Path, or raise ValueError where no file can have that name."""
    is_path = isinstance(value, (str, os.PathLike)) and isinstance(os.fspath(value), str)
    if not is_path or not os.fspath(value) or "\0" in os.fspath(value):
        raise ValueError(f"{field}={shown(value)} must be a path, such as 'data/runs/one'")
    return Path(value)


def check_folder(field: str, value: Any) -> Path:
    """Return `value` as a Path, or raise ValueError where it cannot be a folder; it may be new."""
    path = check_path(field, value)
    reason = why_no_folder(path)
    if reason is not None:
        raise ValueError(f"{field}={shown(value)}: {reason}; name a folder, which may be new")
    return path


def why_no_folder(path: Path) -> str | None:
    """Why there can be no folder of this name, in words; None where there is or may be one."""
    for place in (path, *path.absolute().parents):
        try:
            mode = os.stat(place).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue  # what is above it decides
        except OSError as error:  # such as a name that is too long
            return error.strerror
        return None if stat.S_ISDIR(mode) else f"{shown(str(place))} is a file"
    return None


def check_range(
    field: str,
    value: Any,
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
        raise ValueError(f"{field}={shown(value)} is outside {ends}")
    return number


def check_positive_int(
    field: str, value: Any, *, minimum: int = 1, maximum: int | None = None
) -> int:
    """Return `value` as an int, or raise ValueError where it is no whole number in the range."""
    try:
        number = None if _is_bool(value) or _size(value) else operator.index(value)
    except (TypeError, RuntimeError):
        number = None
    if number is None:
        raise ValueError(f"{field}={shown(value)} must be a whole number >= {minimum}")
    if number < minimum:
        raise ValueError(f"{field}={shown(value)} must be at least {minimum}")
    if maximum is not None and number > maximum:
        raise ValueError(f"{field}={shown(value)} must be at most {maximum}")
    return number


def check_seed(field: str, value: Any) -> int:
    """Return `value` as an int, or raise ValueError where it is no whole number in [0, 2**64)."""
    number = check_positive_int(field, value, minimum=0)
    if number >= SEEDS:
        raise ValueError(f"{field}={shown(value)} must be below 2**64")
    return number


def check_seeds(field: str, seeds: Iterable[Any], *, minimum: int = 1) -> tuple[int, ...]:
    """Return `seeds` as a tuple, or raise ValueError for too few of them or one named twice."""
    named = tuple(check_seed(field, seed) for seed in items(field, seeds))
    if len(named) < minimum or len(set(named)) != len(named):
        least = {1: "one", 2: "two"}.get(minimum, str(minimum))
        raise ValueError(f"{field}={shown(named)} must be {least} or more different seeds")
    return named


def check_layers(field: str, layers: Iterable[int], num_layers: int) -> tuple[int, ...]:
    """Return `layers` as a tuple, or raise ValueError for one out of range or named twice."""
    named: list[int] = []
    for each in items(field, layers):  # one by one: what gives layers may never end
        layer = check_positive_int(field, each, minimum=0)
        if layer >= num_layers:
            raise ValueError(f"{field}: layer {shown(layer)} is outside 0..{num_layers - 1}")
        if layer in named:
            raise ValueError(f"{field}: layer {layer} is named twice in {(*named, layer)}")
        named.append(layer)
    return tuple(named)


def check_finite(field: str, values: Iterable[float]) -> tuple[float, ...]:
    """Return `values` as floats, or raise ValueError naming the first that is not finite."""
    given = enumerate(items(field, values))
    numbers = tuple(_number(f"{field}[{i}]", value) for i, value in given)
    for index, number in enumerate(numbers):
        if not math.isfinite(number):
            raise ValueError(f"{field}[{index}]={number!r} must be finite")
    return numbers


def items(field: str, values: Any) -> Iterable[Any]:
    """`values`, or ValueError where they cannot be gone through, or are one text."""
    try:
        if not isinstance(values, (str, bytes)):
            return iter(values)
    except TypeError:
        pass
    raise ValueError(f"{field}={shown(values)} must be a list")


def _number(field: str, value: Any) -> float:
    try:
        if not (isinstance(value, (str, bytes, bytearray)) or _is_bool(value) or _size(value)):
            return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        pass
    raise ValueError(f"{field}={shown(value)} must be a number")


def _is_bool(value: Any) -> bool:
    """Python's own, numpy's and torch's: a truth is no number, though Python counts with it."""
    is_scalar = not _size(value)
    return isinstance(value, bool) or (
        is_scalar and str(getattr(value, "dtype", "")) in ("bool", "torch.bool")
    )


def _size(value: Any) -> bool:
    """Whether the value has dimensions, as an array of even one number has."""
    return bool(getattr(value, "ndim", 0))
