"""The checks of notebook 01's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any


def check_longest_path(answer: Callable[[Sequence[Sequence[int]]], int]) -> None:
    """01, exercise 1: longest_path(needs), the nodes on the longest chain of a small graph."""
    cases = (
        ([()], 1, "one node that needs nothing is a chain of one"),
        ([(), (0,), (1,), (2,)], 4, "a chain"),
        ([(), (), (), ()], 1, "nothing needs anything: all four can run at once"),
        ([(), (), (0, 1), (0,), (2, 3)], 3, "the last node needs two others; the deeper counts"),
        ([(), (0,), (1,), ()], 3, "the last node need not be the deepest"),
        ([(), (0,), (1,), (0, 2), (0,), (3, 4), (5,)], 6, "a shortcut does not shorten the chain"),
    )
    for needs, expected, reason in cases:
        found = answer(needs)
        assert found is not ..., "the function still returns ..."
        assert found == expected, (
            f"needs = {needs}: you give {found!r}, the longest chain has {expected} node(s): "
            f"{reason}"
        )


def check_receptive_field(answer: Callable[[int, Sequence[int]], int]) -> None:
    """01, exercise 2: receptive_field(kernel_size, dilations), tokens that the last one sees."""
    cases = (
        (2, (), 1, "without a layer a token sees itself"),
        (3, (1,), 3, "one layer sees kernel_size tokens"),
        (3, (1, 1, 1), 7, "undilated layers add kernel_size - 1 tokens each"),
        (2, (1, 2, 4, 8), 16, "dilations that double: the field doubles with each layer"),
        (3, (1, 3, 9), 27, "the same with three taps: it triples"),
        (2, (1, 4, 16), 22, "dilations that leave holes still reach that far back"),
    )
    for kernel_size, dilations, expected, reason in cases:
        found = answer(kernel_size, dilations)
        assert found is not ..., "the function still returns ..."
        assert found == expected, (
            f"kernel_size {kernel_size}, dilations {dilations}: you give {found!r}, it is "
            f"{expected}: {reason}"
        )


def check_forget_bias(answer: Callable[[float], float]) -> None:
    """01, exercise 3: forget_bias(tokens), at which half of a cell's content is left after them."""
    for tokens in (1, 2, 10, 64, 500):
        found = answer(tokens)
        assert found is not ..., "the function still returns ..."
        assert isinstance(found, (int, float)) and math.isfinite(found), (
            f"half-life {tokens}: you give {found!r}; one finite number is asked"
        )
        left = (1 / (1 + math.exp(-float(found)))) ** tokens
        assert math.isclose(left, 0.5, rel_tol=1e-6), (
            f"half-life {tokens}: with your bias {found:.4f} the gate keeps "
            f"{1 / (1 + math.exp(-float(found))):.4f} a token, and {left:.4f} is left after "
            f"{tokens} token(s); half should be"
        )


def check_softmax_combine(answer: Callable[[Any, Any], Any]) -> None:
    """01, exercise 4: combine(earlier, later), two partial softmax sums (maximum, total) as one."""
    cases = (
        ([0.0], [0.0], "two equal scores: the totals add up"),
        ([0.0, 1.0], [3.0, -2.0], "the maximum is in the later part"),
        ([5.0, 1.0], [3.0, -2.0, 0.5], "the maximum is in the earlier part"),
        ([900.0], [901.0, 899.0], "scores of 900: only differences may meet exp"),
    )
    for first, second, reason in cases:
        found = answer(_partial(first), _partial(second))
        assert found is not ..., "the function still returns ..."
        assert isinstance(found, tuple) and len(found) == 2, (
            f"you return {found!r}; a pair is asked: the maximum, and the total relative to it"
        )
        maximum, total = _partial([*first, *second])
        assert math.isclose(found[0], maximum), (
            f"scores {first} and {second}: you give the maximum {found[0]}, it is {maximum}"
        )
        assert math.isclose(found[1], total, rel_tol=1e-9), (
            f"scores {first} and {second}: you give the total {found[1]:.6g}, it is {total:.6g}, "
            f"each score's exp(score - {maximum:g}): {reason}"
        )
    parts = [_partial(scores) for scores in ([0.3], [2.0, -1.0], [1.5])]
    left = answer(answer(parts[0], parts[1]), parts[2])
    right = answer(parts[0], answer(parts[1], parts[2]))
    assert all(math.isclose(a, b) for a, b in zip(left, right, strict=True)), (
        f"grouped from the left you give {left}, from the right {right}: a scan needs them equal"
    )


def _partial(scores: Sequence[float]) -> tuple[float, float]:
    maximum = max(scores)
    return maximum, sum(math.exp(score - maximum) for score in scores)
