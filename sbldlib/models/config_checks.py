"""Checks that the configurations of several models share.

A `keep` stores what it has checked as a plain number, for the configurations are frozen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import check_positive_int, check_range


def keep_sizes(config: Any, most: Mapping[str, int]) -> None:
    """Each of these fields is a whole number from 1 to the most that is given for it."""
    for name, maximum in most.items():
        number = check_positive_int(name, getattr(config, name), maximum=maximum)
        object.__setattr__(config, name, number)


def keep_dropout(config: Any) -> None:
    """The field `dropout` is a share in [0, 1)."""
    dropout = check_range("dropout", config.dropout, 0, 1, high_open=True)
    object.__setattr__(config, "dropout", dropout)


def keep_above_0(config: Any, *names: str) -> None:
    """Each of these fields is a finite number above 0."""
    for name in names:
        value = getattr(config, name)
        checked = check_range(name, value, 0, math.inf, low_open=True, high_open=True)
        object.__setattr__(config, name, checked)


def check_heads(field: str, width: int, num_heads: int) -> None:
    """Raise ValueError unless the heads can share the width out."""
    if width % num_heads:
        raise ValueError(
            f"{field}={width} must be a multiple of num_heads={num_heads}, such as "
            f"{math.ceil(width / num_heads) * num_heads}"
        )


def keep_symbols(config: Any, names: Iterable[str]) -> None:
    """Each of these fields is a special token: in the vocabulary, and all of them different.

    Raises:
        ValueError: one outside the vocabulary, or two that are the same.
    """
    last, checked = config.vocabulary_size - 1, {}
    for name in names:
        checked[name] = check_positive_int(name, getattr(config, name), minimum=0)
        if checked[name] > last:
            raise ValueError(f"{name}={checked[name]} is outside the vocabulary's 0..{last}")
    if len(set(checked.values())) < len(checked):
        raise ValueError(f"{', '.join(checked)} must be different tokens; got {checked}")
    for name, token in checked.items():
        object.__setattr__(config, name, token)
