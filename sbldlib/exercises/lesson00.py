"""The checks of notebook 00's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable


def check_saving_ceiling(answer: Callable[[float, float], float]) -> None:
    """00, exercise 1: ceiling(outside_share, drop) = (1 - q) * d."""
    for outside, drop in ((0.1, 0.25), (0.0, 0.4), (1.0, 0.4), (0.3, 0.0)):
        expected, found = (1 - outside) * drop, answer(outside, drop)
        assert found is not ..., "the function still returns ..."
        assert math.isclose(found, expected, abs_tol=1e-9), (
            f"with a share {outside} outside the blocks and a mean drop of {drop} you give "
            f"{found}; only the blocks' part of a step can be saved, {1 - outside:.1f} of it"
        )


def check_allow_keep(answer: Callable[[float, int, int], float]) -> None:
    """00, exercise 2: keep probability on the allow list when the block list always runs."""
    for mean_keep, num_layers, num_blocked in (
        (0.75, 8, 2),
        (1.0, 8, 2),
        (0.8, 12, 3),
        (0.9, 4, 0),
    ):
        expected = 1 - (1 - mean_keep) * num_layers / (num_layers - num_blocked)
        found = answer(mean_keep, num_layers, num_blocked)
        assert found is not ..., "the function still returns ..."
        assert math.isclose(found, expected, abs_tol=1e-9), (
            f"{num_layers} layers, {num_blocked} blocked, mean keep {mean_keep}: you give {found}, "
            f"and then the mean over all layers is "
            f"{(num_blocked + found * (num_layers - num_blocked)) / num_layers:.4f}"
        )
