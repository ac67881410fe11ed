"""The checks of notebook 03's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

MASK, RANDOM = 99, 7


def check_masked_input(answer: Callable[[int, float, int, int], int]) -> None:
    """03, exercise 1: masked_input(token, fate, mask_token, random_token), BERT's 80/10/10."""
    fates = np.arange(0.0005, 1, 0.001)
    found = [answer(5, float(fate), MASK, RANDOM) for fate in fates]
    assert not any(each is ... for each in found), "the function still returns ..."
    assert set(found) <= {5, MASK, RANDOM}, (
        f"you return {sorted(set(found) - {5, MASK, RANDOM}, key=str)}; only the token itself, the "
        "mask token or the random token can stand there"
    )
    for token, share, name in ((MASK, 0.8, "[MASK]"), (RANDOM, 0.1, "the random token")):
        given = sum(each == token for each in found) / len(found)
        assert math.isclose(given, share, abs_tol=0.002), (
            f"over all fates {name} comes {given:.1%} of the time; it is {share:.0%}"
        )
    kept = sum(each == 5 for each in found) / len(found)
    assert math.isclose(kept, 0.1, abs_tol=0.002), (
        f"the token stays {kept:.1%} of the time, not 10%"
    )


def check_visible(answer: Callable[[str, Sequence[bool]], np.ndarray]) -> None:
    """03, exercise 2: visible(kind, is_padding), who may look at whom."""
    for padding in ([False] * 4, [False, False, False, True, True]):
        T = len(padding)
        for kind in ("encoder", "decoder"):
            found = answer(kind, padding)
            assert found is not ..., "the function still returns ..."
            found = np.asarray(found)
            assert found.shape == (T, T), (
                f"your array has shape {found.shape}; {T} tokens look at {T}: ({T}, {T})"
            )
            found = found.astype(bool)
            columns = ~np.array(padding)
            expected = np.broadcast_to(columns, (T, T))
            assert not (found & ~expected).any(), (
                f"{kind}, padding {padding}: padding is looked at; its columns must be False"
            )
            if kind == "decoder":
                expected = expected & np.tril(np.ones((T, T), dtype=bool))
                assert not (found & ~expected).any(), "decoder: a token looks at one after it"
            assert np.array_equal(found, expected), (
                f"{kind}, padding {padding}: some token may see more than you allow; "
                f"expected\n{expected.astype(int)}\nand you give\n{found.astype(int)}"
            )


def check_petaflop_days(answer: Callable[[float, float], float]) -> None:
    """03, exercise 3: petaflop_days(parameters, tokens), six operations each."""
    for parameters, tokens in ((174.6e9, 300e9), (109e6, 250e9), (1e9, 1e9)):
        found = answer(parameters, tokens)
        assert found is not ..., "the function still returns ..."
        expected = 6 * parameters * tokens / (1e15 * 86_400)
        ratio = float(found) / expected
        hints = {1 / 3: "2 operations are the forward pass alone"}
        hints |= {86_400.0: "a petaflop/s-day is a rate for a day: divide by its seconds too"}
        hint = next(
            (text for value, text in hints.items() if math.isclose(ratio, value, rel_tol=0.01)),
            "6 operations a parameter and token, over 10^15 a second, for 86,400 seconds",
        )
        assert math.isclose(ratio, 1, rel_tol=1e-6), (
            f"{parameters:g} parameters, {tokens:g} tokens: {expected:.4g} petaflop/s-days, you "
            f"give {float(found):.4g}; {hint}"
        )


def check_neighbour_chance(answer: Callable[[Sequence[int]], float]) -> None:
    """03, exercise 4: neighbour_chance(counts), that another sentence is of the same file."""
    for counts in ([2, 2], [5, 1], [10, 20, 30], [1, 1, 1]):
        found = answer(counts)
        assert found is not ..., "the function still returns ..."
        n = sum(counts)
        expected = sum(c * (c - 1) for c in counts) / (n * (n - 1))
        with_itself = sum(c * c for c in counts) / n**2
        is_itself = math.isclose(float(found), with_itself, abs_tol=1e-9)
        hint = "a sentence is not its own neighbour" if is_itself else "sum over files"
        assert math.isclose(float(found), expected, abs_tol=1e-9), (
            f"files of {counts} sentences: {expected:.4f}, you give {float(found):.4f}; {hint}"
        )
