"""Texts with one hole: what stands before it, what stands there, and what stands after it.

Legend: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import check_kind, check_positive_int, check_seed
from .draws import Draws
from .masking import MaskedBatch, collate
from .pairs import LineFile, PairDraws, Symbols


@dataclass(frozen=True, kw_only=True, eq=False)
class Holes:
    """Rows with the same number of tokens before the hole.

    Attributes:
        left_BT: the tokens before it.
        targets_B: the token that stands there.
        both: rows for BERT with one [MASK] and the text on both sides, as two segments.
        left_only: rows for BERT that end after the [MASK].
        files: the place of each row's file among the files.
    """

    left_BT: Tensor
    targets_B: Tensor
    both: MaskedBatch
    left_only: MaskedBatch
    files: tuple[int, ...]


def draw_holes(
    files: Sequence[LineFile],
    *,
    symbols: Symbols,
    context_length: int,
    num: int,
    place: int,
    seed: int = 0,
) -> Holes:
    """Rows from files, each with its hole after `place` tokens, and two spans that follow on.

    Args:
        files: two or more, see `PairDraws`.
        symbols: the special tokens.
        context_length: T of BERT's rows.
        num: rows, >= 1.
        place: tokens before the hole, >= 1 and below the shortest first span.
        seed: of the draws.

    Raises:
        ValueError: a size out of range, or files that no pair can be drawn from.
    """
    check_kind("symbols", symbols, Symbols, "Symbols, see Symbols.after")
    pairs = PairDraws(files, context_length=context_length)
    num = check_positive_int("num", num)
    place = check_positive_int("place", place, maximum=pairs.shortest - 1)
    draws = Draws("holes", check_seed("seed", seed))
    found = []
    while len(found) < num:
        pair = pairs.pair(draws)
        if pair.follows:
            found.append(pair)
    firsts = [np.array(pair.first) for pair in found]
    targets = [int(first[place]) for first in firsts]
    for first in firsts:
        first[place] = symbols.mask
    rows = [(first, pair.second) for first, pair in zip(firsts, found, strict=True)]
    ends = [(first[: place + 1], None) for first in firsts]
    return Holes(
        left_BT=torch.from_numpy(np.stack([first[:place] for first in firsts]).astype(np.int64)),
        targets_B=torch.tensor(targets),
        both=collate(rows, symbols=symbols, context_length=context_length),
        left_only=collate(ends, symbols=symbols, context_length=context_length),
        files=tuple(pair.files[0] for pair in found),
    )
