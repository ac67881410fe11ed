"""Checks that the configurations of several models share."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import check_positive_int


def check_heads(field: str, width: int, num_heads: int) -> None:
    """Raise ValueError unless the heads can share the width out."""
    if width % num_heads:
        raise ValueError(
            f"{field}={width} must be a multiple of num_heads={num_heads}, such as "
            f"{math.ceil(width / num_heads) * num_heads}"
        )


def check_symbols(symbols: Mapping[str, object], vocabulary_size: int) -> dict[str, int]:
    """The special tokens by name, as plain whole numbers.

    Raises:
        ValueError: one outside the vocabulary, or two that are the same.
    """
    last, checked = vocabulary_size - 1, {}
    for name, value in symbols.items():
        checked[name] = check_positive_int(name, value, minimum=0)
        if checked[name] > last:
            raise ValueError(f"{name}={checked[name]} is outside the vocabulary's 0..{last}")
    if len(set(checked.values())) < len(checked):
        raise ValueError(f"{', '.join(checked)} must be different tokens; got {checked}")
    return checked
