"""The checks of notebook 06's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def check_largest_gap(answer: Callable[[Sequence[float]], Sequence[int]]) -> None:
    """06, exercise 1: largest_gap_block(values), the layers above the widest gap."""
    cases = (
        ([0.9, 0.1, 0.2, 0.3], {0}),
        ([0.1, 5.0, 4.8, 0.2, 4.9], {1, 2, 4}),
        ([-3.0, -1.0, -0.9, -2.9], {1, 2}),
        ([7.0, 1.0], {0}),
    )
    for values, expected in cases:
        found = answer(values)
        assert found is not ..., "the function still returns ..."
        ordered = sorted(values, reverse=True)
        assert set(found) == expected and len(set(found)) == len(list(found)), (
            f"values {values}, sorted {ordered}: you block {sorted(found)}, and the widest gap "
            f"leaves {sorted(expected)} above it; give layers, not places in the sorted list"
        )


def check_keep_list(
    answer: Callable[[Sequence[float], Sequence[int], float], Sequence[float]],
) -> None:
    """06, exercise 2: keep_list(weights, block, mean_keep), drop in proportion to weight."""
    cases = (
        ([1.0, 1.0, 1.0, 1.0], [0], 0.75),
        ([3.0, 1.0, 2.0, 1.0], [0], 0.8),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [], 0.9),
        ([9.0, 1.0, 9.0, 3.0], [0, 2], 0.7),
        ([1.0, 2.0, 3.0], [1], 1.0),
    )
    for weights, block, mean_keep in cases:
        found = answer(weights, block, mean_keep)
        assert found is not ..., "the function still returns ..."
        where = f"weights {weights}, block {block}, mean keep {mean_keep}"
        assert len(found) == len(weights), f"{where}: you give {len(found)} values"
        blocked = {layer: found[layer] for layer in block if found[layer] != 1}
        assert not blocked, f"{where}: layers {sorted(blocked)} are blocked and must keep 1"
        mean = sum(found) / len(found)
        assert math.isclose(mean, mean_keep, abs_tol=1e-9), (
            f"{where}: the mean of your list is {mean:.4f}; all of the dropping, (1 - K) L = "
            f"{(1 - mean_keep) * len(weights):.2f} layers, must come out of the allow list"
        )
        allowed = [layer for layer in range(len(weights)) if layer not in block]
        shares = [(1 - found[layer]) / weights[layer] for layer in allowed]
        assert max(shares) - min(shares) < 1e-9, (
            f"{where}: drop over weight is {[round(share, 4) for share in shares]} on the allow "
            "list; it must be the same for each"
        )


def check_most_to_block(answer: Callable[[int, float, float], int]) -> None:
    """06, exercise 3: most_to_block(num_layers, saving, drop_max), the longest block list."""
    for num_layers, saving, drop_max in (
        (8, 0.25, 0.9),
        (8, 0.25, 0.5),
        (12, 0.0, 0.9),
        (24, 0.5, 0.9),
        (10, 0.45, 0.9),
        (12, 0.6, 0.9),
    ):
        fits = [
            blocked
            for blocked in range(num_layers)
            if saving * num_layers <= drop_max * (num_layers - blocked) + 1e-9
        ]
        found = answer(num_layers, saving, drop_max)
        assert found is not ..., "the function still returns ..."
        assert found == fits[-1], (
            f"{num_layers} layers, saving {saving}, cap {drop_max}: you block {found}, which has "
            f"room for {drop_max * (num_layers - found):.2f} dropped layers where "
            f"{saving * num_layers:.2f} are asked; the most is {fits[-1]}"
        )
