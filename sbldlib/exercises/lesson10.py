"""The checks of notebook 10's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Leak = tuple[int, int] | None


def check_last_seen(answer: Callable[[int, int], int]) -> None:
    """10, exercise 1: last_seen(position, span), of the model that predicts a span ahead."""
    cases = (
        (0, 16, 15, "the first output reads the vector of tokens 0 to 15"),
        (15, 16, 15, "the last output of the first group reads the same vector"),
        (16, 16, 31, "the next group begins at 16"),
        (21, 16, 31, "21 lies in the group of 16 to 31"),
        (100, 64, 127, "with three merges of 4 a group has 64 tokens"),
        (5, 1, 5, "groups of one token: it sees itself"),
    )
    for position, span, expected, reason in cases:
        found = answer(position, span)
        assert found is not ..., "the function still returns ..."
        assert found == expected, (
            f"position {position}, span {span}: you give {found!r}, it sees up to token "
            f"{expected}: {reason}"
        )


def check_first_leak(answer: Callable[[Sequence[Sequence[float]], int], Leak]) -> None:
    """10, exercise 2: first_leak(influence, offset), the first (i, j) that must not be, or None."""
    honest = [[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.1, 0.2, 1.0]]
    peeking = [[1.0, 0.0, 0.0], [0.5, 1.0, 1e-30], [0.1, 0.2, 1.0]]
    grouped = [[1.0, 0.3, 0.0, 0.0], [0.4, 1.0, 0.0, 0.0], [1.0] * 4, [1.0] * 4]
    cases = (
        (honest, 1, None, "each output sees itself and what is earlier, and no more"),
        (peeking, 1, (1, 2), "1e-30 is not 0: a leak may be as faint as it likes"),
        (grouped, 1, (0, 1), "the target of output 0 is token 1, which it sees"),
        (
            grouped,
            2,
            None,
            "two ahead, the target of output 0 is token 2, and that it does not see",
        ),
        ([[1.0] * 3] * 3, 1, (0, 1), "there are several: the first output's first is asked"),
        ([[1.0] * 3] * 3, 2, (0, 2), "the target of output 0 is token 2"),
    )
    for influence, offset, expected, reason in cases:
        found = answer(influence, offset)
        assert found is not ..., "the function still returns ..."
        found = tuple(found) if isinstance(found, list) else found
        assert found == expected, (
            f"influence {influence}, offset {offset}: you give {found!r}, it is {expected}: "
            f"{reason}"
        )


def check_pad_share(answer: Callable[[float, float], float]) -> None:
    """10, exercise 3: pad_share(honest, reported), the share of pads that explains a low loss."""
    cases = (
        (3.0, 3.0, 0.0, "nothing has to be explained"),
        (4.0, 1.0, 0.75, "three of four targets are pads, each with a loss of nothing"),
        (3.54, 1.42, 1 - 1.42 / 3.54, "the table's own numbers"),
        (2.0, 0.5, 0.75, "a quarter of the loss is left, so a quarter of the targets is text"),
    )
    for honest, reported, expected, reason in cases:
        found = answer(honest, reported)
        assert found is not ..., "the function still returns ..."
        assert isinstance(found, (int, float)) and math.isclose(
            float(found), expected, rel_tol=1e-9, abs_tol=1e-12
        ), (
            f"honest {honest}, reported {reported}: you give {found!r}, it is {expected:.4f}: "
            f"{reason}"
        )


def check_mixing(answer: Callable[[int, Sequence[int], int], int]) -> None:
    """10, exercise 4: mixing(num_tokens, widths, merge), T × T products of all blocks, forward."""
    cases = (
        (4, (1, 1), 2, 2 * 4 * 16 + 2 * 4 * 4, "two blocks on each of two levels"),
        (16, (2, 4, 8), 4, 8 * (256 * 2 + 2 * 16 * 4 + 8), "a level between has four blocks"),
        (1024, (48, 96, 192, 384), 4, 8 * 1024**2 * 48 + 16 * 256**2 * 96 + 16 * 64**2 * 192
         + 8 * 16**2 * 384, "the shape of the table"),
    )  # fmt: skip
    for num_tokens, widths, merge, expected, reason in cases:
        found = answer(num_tokens, widths, merge)
        assert found is not ..., "the function still returns ..."
        assert found == expected, (
            f"{num_tokens} tokens, widths {tuple(widths)}, merge {merge}: you give {found!r}, it "
            f"is {expected:,}: {reason}"
        )
