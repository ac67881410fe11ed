"""The checks of lesson 01: right answers pass, and each usual mistake is told what is wrong."""

from __future__ import annotations

import math

import pytest

from sbldlib.exercises import (
    check_forget_bias,
    check_longest_path,
    check_receptive_field,
    check_softmax_combine,
)


def longest_path(needs):
    depths = []
    for needed in needs:
        depths.append(1 + max((depths[node] for node in needed), default=0))
    return max(depths)


def only_the_last_node(needs):
    depths = []
    for needed in needs:
        depths.append(1 + max((depths[node] for node in needed), default=0))
    return depths[-1]


def combine(earlier, later):
    maximum = max(earlier[0], later[0])
    totals = (total * math.exp(each - maximum) for each, total in (earlier, later))
    return maximum, sum(totals)


def overflowing(earlier, later):
    maximum = max(earlier[0], later[0])
    totals = sum(total * math.exp(each) for each, total in (earlier, later))
    return maximum, totals / math.exp(maximum)


RIGHT = {
    check_longest_path: longest_path,
    check_receptive_field: lambda k, dilations: 1 + (k - 1) * sum(dilations),
    check_forget_bias: lambda n: math.log(0.5 ** (1 / n) / (1 - 0.5 ** (1 / n))),
    check_softmax_combine: combine,
}


@pytest.mark.parametrize("check", RIGHT, ids=lambda check: check.__name__)
def test_right_answers_pass_and_stubs_do_not(check):
    check(RIGHT[check])
    with pytest.raises(AssertionError, match=r"still returns \.\.\."):
        check(lambda *_: ...)


@pytest.mark.parametrize(
    ("check", "answer", "message"),
    [
        (check_longest_path, len, r"nothing needs anything"),
        (check_longest_path, only_the_last_node, "need not be the deepest"),
        (check_receptive_field, lambda k, dilations: k * sum(dilations), "sees itself"),
        (check_receptive_field, lambda k, dilations: k ** len(dilations), "undilated layers"),
        (check_forget_bias, lambda n: 0.5 ** (1 / n), "half-life 1: with your bias 0.5"),
        (check_forget_bias, lambda n: math.inf, "one finite number"),
        (check_softmax_combine, lambda a, b: a[1] + b[1], "a pair is asked"),
        (check_softmax_combine, lambda a, b: (max(a[0], b[0]), a[1] + b[1]), "in the later part"),
        (check_softmax_combine, lambda a, b: (a[0] + b[0], 2.0), "you give the maximum"),
    ],
)
def test_a_mistake_is_named(check, answer, message):
    with pytest.raises(AssertionError, match=message):
        check(answer)


def test_scores_must_not_meet_exp_by_themselves():
    with pytest.raises(OverflowError):
        check_softmax_combine(overflowing)
