"""The checks of lesson 10: right answers pass, and each usual mistake is told what is wrong."""

from __future__ import annotations

import pytest

from sbldlib.exercises import check_first_leak, check_last_seen, check_mixing, check_pad_share


def first_leak(influence, offset):
    for i, row in enumerate(influence):
        for j in range(i + offset, len(row)):
            if row[j] > 0:
                return i, j
    return None


def first_above_noise(influence, offset):
    for i, row in enumerate(influence):
        for j in range(i + offset, len(row)):
            if row[j] > 1e-6:
                return i, j
    return None


def mixing(num_tokens, widths, merge, inner=4):
    total = 0
    for level, width in enumerate(widths):
        num_blocks = 2 if level in (0, len(widths) - 1) else inner
        total += num_blocks * 4 * (num_tokens // merge**level) ** 2 * width
    return total


RIGHT = {
    check_last_seen: lambda position, span: (position // span + 1) * span - 1,
    check_first_leak: first_leak,
    check_pad_share: lambda honest, reported: 1 - reported / honest,
    check_mixing: mixing,
}


@pytest.mark.parametrize("check", RIGHT, ids=lambda check: check.__name__)
def test_right_answers_pass_and_stubs_do_not(check):
    check(RIGHT[check])
    with pytest.raises(AssertionError, match=r"still returns \.\.\."):
        check(lambda *_: ...)


def test_a_pair_may_be_a_list():
    check_first_leak(lambda *given: (found := first_leak(*given)) and list(found))


@pytest.mark.parametrize(
    ("check", "answer", "message"),
    [
        (check_last_seen, lambda i, span: i, "reads the vector of tokens 0 to 15"),
        (check_last_seen, lambda i, span: i + span - 1, "reads the same vector"),
        (check_last_seen, lambda i, span: span - 1, "the next group begins at 16"),
        (check_first_leak, first_above_noise, "1e-30 is not 0"),
        (check_first_leak, lambda rows, _: first_leak(rows, 1), "two ahead"),
        (check_first_leak, lambda rows, offset: first_leak(rows, offset - 1), "no more"),
        (check_pad_share, lambda honest, reported: reported / honest, "nothing has to be"),
        (check_pad_share, lambda honest, reported: "all", "you give 'all'"),
        (check_mixing, lambda *given: mixing(*given, inner=2), "has four blocks"),
        (check_mixing, lambda *given: mixing(*given) // 2, "on each of two levels"),
    ],
)
def test_a_mistake_is_named(check, answer, message):
    with pytest.raises(AssertionError, match=message):
        check(answer)
