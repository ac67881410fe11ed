"""The checks of notebook 07's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np


def check_variance(
    answer: Callable[[list[list[float]], list[list[float]]], Sequence[float]],
) -> None:
    """07, exercise 1: variance(baseline, dropping), the mean over pairs of the squared gap."""
    cases = (
        ([[3.0, 2.0]], [[3.0, 2.0]], [0.0, 0.0], "the two runs of the pair never differ"),
        ([[3.0, 2.0, 1.0]], [[3.5, 2.0, 0.5]], [0.25, 0.0, 0.25], "a gap of -0.5 counts as 0.5"),
        (
            [[3.0, 2.0], [4.0, 2.0]],
            [[3.4, 2.0], [3.6, 2.2]],
            [0.16, 0.02],
            "square first, then take the mean: gaps of +0.4 and -0.4 do not cancel",
        ),
    )
    for baseline, dropping, expected, reason in cases:
        found = answer(baseline, dropping)
        assert found is not ..., "the function still returns ..."
        _check_numbers(
            found, expected, f"baseline {baseline}, dropping {dropping}: {reason}", "iteration"
        )


def check_mixture_weights(
    answer: Callable[[Sequence[float], float, float], Sequence[float]],
) -> None:
    """07, exercise 2: mixture_weights(coefficients, shape, scale) of a PWEGD."""
    cases = (
        ((5.0,), 2.0, 0.3, "one term is one gamma density, whatever its coefficient"),
        ((1.0, 1.0), 1.0, 1.0, "Gamma(1) = Gamma(2) = 1, so both weigh the same"),
        ((1.0, 0.0, 4.0), 1.0, 0.5, "a coefficient of 0 has weight 0, and b^(q+j) counts too"),
        ((2.0, 6.0, 3.0), 2.5, 0.2, "Gamma(q+j) is in the weight: math.gamma(shape + j)"),
    )
    for coefficients, shape, scale, reason in cases:
        masses = [
            a * scale ** (shape + j) * math.gamma(shape + j) for j, a in enumerate(coefficients)
        ]
        found = answer(coefficients, shape, scale)
        assert found is not ..., "the function still returns ..."
        _check_numbers(
            found,
            [mass / sum(masses) for mass in masses],
            f"a = {coefficients}, q = {shape}, b = {scale}: {reason}",
            "component",
        )


def check_mean_keep(answer: Callable[[list[float], float], Sequence[float]]) -> None:
    """07, exercise 3: mean_keep(variance, saving), the schedule that a fitted variance makes."""
    cases = (
        ([4.0, 2.0, 0.0, 2.0], 0.25, "the highest variance drops nothing, the lowest most"),
        ([1.0, 3.0], 0.1, "K(t) is 1 at the peak, and the mean has to be 1 - saving"),
        ([0.02, 0.01, 0.015], 0.2, "the unit of the variance must not matter"),
        ([0.3, 0.3, 0.3], 0.2, "a flat curve has nothing to say: a constant of 1 - saving"),
    )
    for variance, saving, reason in cases:
        share = [1 - value / max(variance) for value in variance]
        mean = sum(share) / len(share)
        expected = [1 - (saving * one / mean if mean else saving) for one in share]
        found = answer(variance, saving)
        assert found is not ..., "the function still returns ..."
        _check_numbers(
            found, expected, f"variance {variance}, saving {saving}: {reason}", "iteration"
        )


def _check_numbers(found: Sequence[float], expected: list[float], case: str, place: str) -> None:
    assert np.ndim(found) == 1, f"{case}. You give {found}; there is one value for each {place}"
    found = [float(value) for value in found]
    assert len(found) == len(expected), (
        f"{case}. You give {len(found)} values; there is one for each {place}, {len(expected)}"
    )
    for index, (mine, right) in enumerate(zip(found, expected, strict=True)):
        assert math.isclose(mine, right, rel_tol=1e-6, abs_tol=1e-9), (
            f"{case}. At {place} {index} you give {mine:.4g}; it is {right:.4g}"
        )
