"""The checks of notebook 02's exercises.

Legend: T tokens that look (queries), S tokens looked at (keys), E width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Tokens = Sequence[int]


def check_attention(answer: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]) -> None:
    """02, exercise 1: attention(query, key, value), the outputs [T, E]."""
    generator = np.random.default_rng(0)
    shapes = ((1, 1, 1), (2, 3, 4), (4, 6, 16))
    cases = [tuple(generator.standard_normal((n, E)) for n in (T, S, S)) for T, S, E in shapes]
    query, key, value = cases[1]
    cases.append((300 * query, 300 * key, value))
    for query_TE, key_SE, value_SE in cases:
        found = answer(query_TE, key_SE, value_SE)
        assert found is not ..., "the function still returns ..."
        expected, bare = (_attention(query_TE, key_SE, value_SE, by) for by in (True, False))
        assert np.shape(found) == expected.shape, (
            f"queries {query_TE.shape}, keys {key_SE.shape}: you give the shape "
            f"{np.shape(found)}; one row a query is asked, {expected.shape}"
        )
        assert np.isfinite(found).all(), (
            "scores of some ten thousand: your exp overflows; take each row's largest score away "
            "first"
        )
        assert np.allclose(expected, bare) or not np.allclose(found, bare), (
            "you did not divide the scores by the root of the width"
        )
        assert np.allclose(found, expected), (
            f"queries {query_TE.shape}, keys {key_SE.shape}: your rows are not the values' means "
            "with the weights softmax(query · key / root of the width); check along which axis "
            "your softmax sums"
        )


def check_target_mask(answer: Callable[[Tokens, int], Any]) -> None:
    """02, exercise 2: target_mask(tokens, padding), [T, T], True where a token may look."""
    cases = (
        ([5, 6, 7], "three tokens and no padding"),
        ([5, 6, 0, 0], "two tokens and two of padding"),
        ([5], "one token"),
    )
    for tokens, what in cases:
        found = answer(tokens, 0)
        assert found is not ..., "the function still returns ..."
        size = len(tokens)
        found = np.asarray(found)
        assert found.shape == (size, size), (
            f"{what}: you give the shape {found.shape}; it is ({size}, {size}), a row a token"
        )
        for row in range(size):
            for column in range(size):
                later, padding = column > row, tokens[column] == 0
                expected = not later and not padding
                reason = "it comes later" if later else "it is padding"
                assert bool(found[row, column]) == expected, (
                    f"{what}, {tokens}: token {row} {'may' if expected else 'may not'} look at "
                    f"token {column}" + ("" if expected else f": {reason}")
                )


def check_decoder_input(answer: Callable[[Tokens, int], Any]) -> None:
    """02, exercise 3: decoder_input(target, start), what the decoder reads in training."""
    for target in ([7, 8, 2], [2], [9, 9, 4, 2]):
        found = answer(list(target), 1)
        assert found is not ..., "the function still returns ..."
        found = list(found)
        assert len(found) == len(target), (
            f"target {target}: you give {len(found)} tokens; one is read for each of "
            f"{len(target)} that are to be written"
        )
        assert found[0] == 1, (
            f"target {target}: before the first token there is only the start, 1; you give {found}"
        )
        assert len(target) == 1 or found != [1, *target[1:]], (
            f"target {target}: at each place you show the very token that is to be written there"
        )
        assert found == [1, *target[:-1]], (
            f"target {target}: you give {found}; at each place the decoder reads the token that "
            "stands before the one it is to write"
        )


def check_best_sentence(
    answer: Callable[[Sequence[float], Sequence[int], float], int],
) -> None:
    """02, exercise 4: best_sentence(log_probabilities, lengths, strength), its place."""
    cases = (
        ([-2.0, -2.1], [3, 6], 0.0, "without a penalty the likeliest wins"),
        ([-2.0, -2.1], [3, 6], 1.0, "a longer one may win where its tokens are each likelier"),
        ([-2.0, -9.0], [3, 4], 1.0, "length does not excuse everything"),
        ([-4.0, -3.0, -3.2], [8, 2, 3], 0.6, "three sentences"),
        ([-4.0, -3.0, -3.2], [8, 2, 3], 2.0, "three sentences and a strong penalty"),
    )
    for totals, lengths, strength, why in cases:
        found = answer(list(totals), list(lengths), strength)
        assert found is not ..., "the function still returns ..."
        scores = [
            total / ((5 + length) / 6) ** strength
            for total, length in zip(totals, lengths, strict=True)
        ]
        expected = scores.index(max(scores))
        assert found == expected, (
            f"{why}: log-probabilities {totals}, lengths {lengths}, strength {strength} give the "
            f"scores {[round(score, 2) for score in scores]}; the best is at {expected}, you say "
            f"{found}"
        )


def _attention(
    query_TE: np.ndarray, key_SE: np.ndarray, value_SE: np.ndarray, is_scaled: bool
) -> np.ndarray:
    scores_TS = query_TE @ key_SE.T / (math.sqrt(query_TE.shape[1]) if is_scaled else 1)
    shares_TS = np.exp(scores_TS - scores_TS.max(axis=-1, keepdims=True))
    return shares_TS / shares_TS.sum(axis=-1, keepdims=True) @ value_SE
