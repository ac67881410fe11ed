"""The checks of notebook 05's exercises."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def check_paired_sensitivity(answer: Callable[[Sequence[float], Sequence[float]], Any]) -> None:
    """05, exercise 1: paired_sensitivity(without, full), the mean gap and its standard error."""
    cases = (
        ([2.0, 3.0, 4.0], [1.5, 2.5, 3.5]),  # batches differ, gaps do not
        ([2.1, 3.3, 4.0, 2.4], [2.0, 3.0, 4.1, 2.2]),
        ([1.0, 2.0], [1.0, 3.0]),
    )
    for without, full in cases:
        gaps = [a - b for a, b in zip(without, full, strict=True)]
        mean, error = statistics.fmean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps))
        found = answer(without, full)
        assert found is not ..., "the function still returns ..."
        assert isinstance(found, tuple) and len(found) == 2, (
            f"you return {found!r}; two numbers are asked: the mean and its standard error"
        )
        assert math.isclose(found[0], mean, abs_tol=1e-9), (
            f"without {without}, full {full}: the gaps are {[round(g, 3) for g in gaps]} and their "
            f"mean is {mean:.4f}; you give {found[0]:.4f}"
        )
        hint = "the spread of the gaps, divided by n - 1 within, by the root of n without"
        assert math.isclose(found[1], error, abs_tol=1e-9), (
            f"without {without}, full {full}: the standard error of the mean gap is {error:.4f}, "
            f"you give {found[1]:.4f}; it is {hint}"
        )


def check_influence(answer: Callable[[np.ndarray, np.ndarray], float]) -> None:
    """05, exercise 2: influence(x_in, x_out), ShortGPT's 1 - mean cosine over tokens."""
    generator = np.random.default_rng(0)
    given_TD = generator.standard_normal((5, 8))
    cases = (
        (given_TD, given_TD, "a block that changes nothing"),
        (given_TD, 3 * given_TD, "a block that makes its input three times as long"),
        (given_TD, -given_TD, "a block that turns its input around"),
        (given_TD, given_TD * np.arange(1, 6)[:, None], "each token scaled by itself"),
        (given_TD, generator.standard_normal((5, 8)), "a block that gives noise"),
    )
    for before_TD, after_TD, what in cases:
        found = answer(before_TD, after_TD)
        assert found is not ..., "the function still returns ..."
        lengths = np.linalg.norm(before_TD, axis=1) * np.linalg.norm(after_TD, axis=1)
        expected = float(1 - np.mean((before_TD * after_TD).sum(axis=1) / lengths))
        assert math.isclose(found, expected, abs_tol=1e-9), (
            f"{what}: you give {float(found):.4f}, it is {expected:.4f}; take the cosine token by "
            "token, and only then the mean"
        )


def check_rank_correlation(answer: Callable[[Sequence[float], Sequence[float]], float]) -> None:
    """05, exercise 3: rank_correlation(first, second), Spearman's rho without ties."""
    cases = (
        ([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 400.0], "the same order"),
        ([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], "opposite orders"),
        ([0.9, 0.1, 0.4, 0.2], [0.3, 0.4, 0.9, 0.1], "two different orders"),
        ([5.0, -1.0, 2.0, 0.5, 9.0], [0.2, 0.1, 0.0, 0.4, 0.3], "five layers"),
    )
    for first, second, what in cases:
        found = answer(first, second)
        assert found is not ..., "the function still returns ..."
        ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
        expected = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
        assert math.isclose(found, expected, abs_tol=1e-9), (
            f"{what}, {first} and {second}: you give {float(found):.4f}, it is {expected:.4f}; "
            f"the ranks are {ranks[0].tolist()} and {ranks[1].tolist()}, counted from 0"
        )
