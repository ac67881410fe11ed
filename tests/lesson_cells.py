"""Cells of the first lesson's measurements with known numbers, as the file has them."""

from __future__ import annotations

from typing import Any

KINDS = ("rnn", "lstm", "gru", "convolution", "attention")
VARIANTS = ("rnn", "rnn-orthogonal", "lstm-forget-3", "attention")
DISTANCES = (1, 3, 7)


def counted() -> dict[str, dict[str, Any]]:
    """Two lengths of two kinds."""
    return {
        f"counts/{kind}/{length}": {
            "longest_path": path(length), "num_operations": 2 * path(length), "num_nodes": 1,
            "flops": 100 * length, "rows": 2,
        }
        for kind, path in (("rnn", lambda n: 3 * n), ("attention", lambda n: 14))
        for length in (16, 8)
    }  # fmt: skip


def timed(threads: tuple[str, ...] = ("1", "2")) -> dict[str, dict[str, Any]]:
    """Every kind at two lengths; two threads take half of one's."""
    return {
        f"seconds/{kind}/{length}": {
            "rows": 4,
            "seconds_by_threads": {
                name: [0.004 / (place + 1), 0.008 / (place + 1), 0.012 / (place + 1)]
                for place, name in enumerate(threads)
            },
        }
        for kind in KINDS
        for length in (8, 16)
    }


def _trained(num_tokens: int, distances: tuple[int, ...], seed: int, right: float) -> dict:
    reach = [10.0 ** -(2 * d + seed) if d else 1.0 for d in range(num_tokens)]
    return {
        "untrained": {"reach": reach, "reach_at_mark": {str(d): reach[d] for d in distances}},
        "trained": {"reach": reach, "reach_at_mark": {str(d): 0.5 for d in distances}},
        "accuracy": {str(d): right for d in distances},
        "chance_level": 0.125,
    }


def trained(seeds: tuple[int, ...] = (0, 1)) -> dict[str, dict[str, Any]]:
    """Attention is right, the others are so less often with each seed."""
    cells = {}
    for variant in VARIANTS:
        for seed in seeds:
            right = 1.0 if variant == "attention" else 0.5 - 0.1 * seed
            cells[f"together/{variant}/{seed}"] = _trained(8, DISTANCES, seed, right)
            for distance in DISTANCES:
                name = f"alone/{variant}/{distance}/{seed}"
                cells[name] = _trained(distance + 1, (distance,), seed, right)
    return cells
