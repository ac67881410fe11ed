"""The checks of notebook 04's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..measure.footprint import num_weights
from ..models.gpt_config import PRESETS
from ..training.config import TrainConfig


def check_block_weights(answer: Callable[[int], int]) -> None:
    """04, exercise 1: block_weights(width), weights and biases of one block of GPT-2."""
    for name in ("tiny", "gpt2-124m", "gpt2-medium"):
        config = PRESETS[name]
        D, L = config.width, config.num_layers
        tables = D * (config.vocabulary_size + config.context_length) + 2 * D
        expected = (num_weights(config) - tables) // L
        found = answer(D)
        assert found is not ..., "the function still returns ..."
        hint = {
            12 * D * D: "the four matrices alone; biases and norms have weights too",
            12 * D * D + 9 * D: "the biases are there, the two norms are not: each has 2 D",
            12 * D * D + 4 * D: "the norms are there, the biases of the four maps are not",
            8 * D * D: "the MLP alone",
        }.get(int(found), "4 D² for attention, 8 D² for the MLP, and then the small ones")
        assert found == expected, f"width {D}: you give {found:,}, it is {expected:,} ({hint})"


def check_learning_rate(answer: Callable[..., float]) -> None:
    """04, exercise 2: learning_rate(step, num_steps, base, warmup, final), as the kit has it."""
    base, num_steps = 3e-3, 101
    for warmup, final in ((0.1, 0.01), (0.0, 0.1), (0.5, 1e-9)):
        config = TrainConfig(warmup=warmup, final_learning_rate=final)
        for step in (0, 5, 10, 50, 75, 100):
            expected = base * config.learning_rate_factor(step / (num_steps - 1))
            found = answer(step, num_steps, base, warmup, final)
            assert found is not ..., "the function still returns ..."
            rising = step / (num_steps - 1) < warmup
            hint = (
                "while it warms up: base * progress / warmup, and never below final * base"
                if rising
                else "after it: from base down to final * base along half a cosine"
            )
            assert math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-12), (
                f"step {step} of {num_steps}, warm-up {warmup}, final {final}: you give "
                f"{found:.3g}, it is {expected:.3g} ({hint}; progress is step / (num_steps - 1))"
            )


def check_micro_batches(answer: Callable[[int, float, float, float], int]) -> None:
    """04, exercise 3: micro_batches(rows, state, a_row, memory), the fewest equal ones that fit."""
    cases = (
        (32, 2.0, 0.5, 18.0, 1, "all rows fit at once"),
        (32, 2.0, 0.5, 17.9, 2, "half of them fit"),
        (32, 2.0, 1.5, 16.0, 4, "8 rows fit, 9 do too, and 16 do not"),
        (12, 1.0, 1.0, 6.0, 3, "5 rows fit, but 12 rows are not 5 + 5 + 2: parts must be equal"),
        (7, 0.0, 1.0, 3.0, 7, "7 rows can be cut into 7 equal parts alone"),
    )
    for rows, state, a_row, memory, expected, why in cases:
        found = answer(rows, state, a_row, memory)
        assert found is not ..., "the function still returns ..."
        assert found == expected, (
            f"{rows} rows of {a_row} GiB, state {state} GiB, memory {memory} GiB: you give "
            f"{found!r}, it is {expected}: {why}"
        )


def check_cache_bytes(answer: Callable[..., int]) -> None:
    """04, exercise 4: cache_bytes(num_layers, width, num_tokens, rows, bytes_a_number)."""
    for num_layers, width, num_tokens, rows, size in (
        (8, 64, 64, 1, 4),
        (12, 768, 1024, 1, 2),
        (48, 1600, 1000, 16, 2),
    ):
        expected = 2 * num_layers * width * num_tokens * rows * size
        found = answer(num_layers, width, num_tokens, rows, size)
        assert found is not ..., "the function still returns ..."
        half = "keys and values are kept both" if 2 * found == expected else "one key and one value"
        assert found == expected, (
            f"{num_layers} layers of width {width}, {rows} rows of {num_tokens} tokens, {size} "
            f"bytes a number: you give {found:,}, it is {expected:,}; {half}, of every token in "
            "every layer, each of the whole width"
        )
