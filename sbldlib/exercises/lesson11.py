"""The checks of notebook 11's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def check_leaders(answer: Callable[[int, int], Sequence[int]]) -> None:
    """11, exercise 1: leaders(num_places, num_blocks), for each place the first with its block."""
    for num_places, num_blocks in ((12, 3), (12, 6), (8, 2), (4, 4), (6, 1)):
        shared = num_places // num_blocks
        expected = [place // shared * shared for place in range(num_places)]
        found = answer(num_places, num_blocks)
        assert found is not ..., "the function still returns ..."
        found = [int(leader) for leader in found]
        assert len(found) == num_places, (
            f"{num_places} places: you give {len(found)} numbers; there is one a place"
        )
        hints = {
            tuple(place // shared for place in range(num_places)): (
                "these are numbers of blocks; asked is the first place that has the block"
            ),
            tuple(place % num_blocks for place in range(num_places)): (
                "so places would take turns; here neighbours share"
            ),
        }
        hint = hints.get(tuple(found), f"{shared} neighbours share one block")
        assert found == expected, (
            f"{num_places} places, {num_blocks} blocks: you give {found}, it is {expected} ({hint})"
        )


def check_merged(answer: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """11, exercise 2: merged(weight, up, down, alpha), one matrix that does what both paths do."""
    generator = torch.Generator().manual_seed(0)
    for outputs, inputs, rank, alpha in ((6, 4, 2, 4.0), (3, 5, 3, 3.0), (5, 5, 1, 0.5)):
        shapes = ((outputs, inputs), (outputs, rank), (rank, inputs), (7, inputs))
        weight, up, down, x = (torch.randn(shape, generator=generator) for shape in shapes)
        expected = x @ weight.T + alpha / rank * (x @ down.T) @ up.T
        found = answer(weight, up, down, alpha)
        assert found is not ..., "the function still returns ..."
        assert tuple(found.shape) == (outputs, inputs), (
            f"your matrix is {tuple(found.shape)}, that which it replaces {(outputs, inputs)}"
        )
        without = torch.allclose(found, weight + up @ down, atol=1e-5)
        hint = "alpha / rank is missing" if without and alpha != rank else "weight + scale * change"
        assert torch.allclose(x @ found.T, expected, atol=1e-4), (
            f"rank {rank}, alpha {alpha:g}: x @ merged.T is not what both paths add up to ({hint}; "
            "the rank is down's number of rows)"
        )


def check_bump(answer: Callable[[Sequence[float], int, int], float]) -> None:
    """11, exercise 3: bump(losses, step, window), mean loss from `step` on less that before it."""
    falling = [5.0, 4.0, 3.0, 3.5, 3.25, 2.0, 1.0]
    flat = [1.0] * 5 + [2.0] * 5
    for losses, step, window in ((falling, 3, 2), (falling, 3, 3), (flat, 5, 5), (flat, 5, 1)):
        after, before = losses[step : step + window], losses[step - window : step]
        expected = sum(after) / window - sum(before) / window
        found = answer(losses, step, window)
        assert found is not ..., "the function still returns ..."
        hint = "step itself is the first of the new stage: it belongs to what comes after"
        if math.isclose(found, -expected, abs_tol=1e-9) and expected:
            hint = "after less before: a bump is above 0"
        assert math.isclose(found, expected, abs_tol=1e-9), (
            f"losses {losses}, step {step}, window {window}: you give {found:g}, it is "
            f"{expected:g} ({hint})"
        )


def check_affordable_tokens(
    answer: Callable[[Sequence[float], Sequence[float], float, float], float],
) -> None:
    """11, exercise 4: affordable_tokens(costs, shares, gpt_cost, gpt_tokens)."""
    for costs, shares, gpt_cost, gpt_tokens in (
        ((3.0, 6.0, 12.0), (0.5, 0.25, 0.25), 12.0, 700.0),
        ((3.0, 12.0), (0.5, 0.5), 12.0, 1000.0),
        ((12.0, 12.0, 12.0), (0.2, 0.3, 0.5), 12.0, 500.0),
    ):
        mean = sum(cost * share for cost, share in zip(costs, shares, strict=True))
        expected = gpt_cost * gpt_tokens / mean
        found = answer(costs, shares, gpt_cost, gpt_tokens)
        assert found is not ..., "the function still returns ..."
        unweighted = gpt_cost * gpt_tokens / (sum(costs) / len(costs))
        hint = (
            "shares are of tokens: a token costs the mean of the costs, weighted by the shares"
            if math.isclose(found, unweighted, rel_tol=1e-6)
            else "both runs may spend gpt_cost * gpt_tokens"
        )
        assert math.isclose(found, expected, rel_tol=1e-9), (
            f"costs {costs}, shares {tuple(round(share, 2) for share in shares)}: you give "
            f"{found:,.1f} tokens, it is {expected:,.1f} ({hint})"
        )
