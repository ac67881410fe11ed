"""The checks of notebook 11: right answers pass, and wrong ones are told why."""

from __future__ import annotations

import pytest

from sbldlib.exercises.lesson11 import (
    check_affordable_tokens,
    check_bump,
    check_leaders,
    check_merged,
)


def mean(values):
    return sum(values) / len(values)


RIGHT = [
    (check_leaders, lambda places, blocks: [p - p % (places // blocks) for p in range(places)]),
    (check_merged, lambda weight, up, down, alpha: weight + alpha / len(down) * up @ down),
    (check_bump, lambda losses, at, n: mean(losses[at : at + n]) - mean(losses[at - n : at])),
    (
        check_affordable_tokens,
        lambda costs, shares, cost, tokens: (
            cost * tokens / sum(c * s for c, s in zip(costs, shares, strict=True))
        ),
    ),
]
WRONG = [
    (
        check_leaders,
        lambda places, blocks: [p // (places // blocks) for p in range(places)],
        "numbers of blocks",
    ),
    (check_leaders, lambda places, blocks: [p % blocks for p in range(places)], "neighbours share"),
    (check_leaders, lambda places, blocks: [0], "there is one a place"),
    (check_merged, lambda weight, up, down, alpha: weight + up @ down, "alpha / rank is missing"),
    (check_merged, lambda weight, up, down, alpha: weight, "not what both paths add up to"),
    (
        check_merged,
        lambda weight, up, down, alpha: (weight + up @ down).T,
        "that which it replaces",
    ),
    (
        check_bump,
        lambda losses, at, n: mean(losses[at - n : at]) - mean(losses[at : at + n]),
        "after less before",
    ),
    (
        check_bump,
        lambda losses, at, n: mean(losses[at + 1 : at + n + 1]) - mean(losses[at - n : at]),
        "belongs to what comes after",
    ),
    (
        check_affordable_tokens,
        lambda costs, shares, cost, tokens: cost * tokens / mean(costs),
        "weighted by the shares",
    ),
    (check_affordable_tokens, lambda costs, shares, cost, tokens: tokens, "may spend"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_a_right_answer_passes(check, answer):
    check(answer)


@pytest.mark.parametrize(("check", "answer", "why"), WRONG)
def test_a_wrong_answer_is_told_why(check, answer, why):
    with pytest.raises(AssertionError, match=why):
        check(answer)


@pytest.mark.parametrize("check", [check for check, _ in RIGHT])
def test_a_stub_is_told_that_it_is_one(check):
    with pytest.raises(AssertionError, match=r"still returns \.\.\."):
        check(lambda *given: ...)
