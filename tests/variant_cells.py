"""Cells of the GPT variants' comparison with known numbers, as the file has them."""

from __future__ import annotations

from typing import Any

SEEDS = (0, 1, 2)
# Arm -> bits per byte of seeds 0, 1, 2; the seeds' own levels differ more than the arms.
RAW = {
    "gpt": (2.0, 2.4, 2.8),
    "conv": (2.3, 2.7, 3.1),
    "conv-ahead": (3.3, 3.4, 3.5),
    "conv-leak": (0.5, 0.5, 0.5),
    "diverging": (2.1, 2.5, 2.9),
}
LONGER = {"gpt": (1.8, 2.1, 2.4), "diverging": (1.9, 2.3, 2.5), "gru": (1.5,)}
LONGER_COMPUTE = {"conv": (1.7, 2.0, 2.2)}
COMPUTE = {"gpt-64": (2.1, 2.4, 2.9), "conv": (1.9, 2.2, 2.7), "stack": (1.95, 2.35, 2.75)}


def _trained(bits: float, seed: int, arm: str, times: int = 1) -> dict[str, Any]:
    return {
        "steps": 10 * times, "tokens": 2_000_000 * times, "flops": 3e12, "num_parameters": 1000,
        "context_length": 64 if arm == "gpt-64" else 256, "rows": 8 if arm == "gpt-64" else 2,
        "losses": [5.0, 4.0], "loss_stride": 5, "train_nats": bits - 0.1, "test_nats": bits,
        "bits_per_byte_at": [[5, bits + 1], [10, bits]], "flops_at": [1.5e12, 3e12 + seed],
        "bits_per_byte": bits, "accuracy": 0.25, "num_targets": 100, "num_bytes": 200,
        "offset": 16 if arm.endswith("-ahead") else 1,
    }  # fmt: skip


def trained() -> dict[str, dict[str, Any]]:
    """All budgets, the control and the bound."""
    groups = {
        "raw": RAW,
        "compute": COMPUTE,
        "longer": LONGER,
        "longer_compute": LONGER_COMPUTE,
        "control": {"gpt-ahead": (3.2, 3.3, 3.4)},
    }
    cells = {
        f"{part}/{arm}/{seed}": _trained(bits, seed, arm, 3 if "longer" in part else 1)
        for part, arms in groups.items()
        for arm, of_seeds in arms.items()
        for seed, bits in zip(SEEDS, of_seeds, strict=False)
    }
    counted = {
        "unigram": {"nats": 3.6, "bits_per_byte": 3.5},
        "bigram": {"nats": 3.1, "bits_per_byte": 3.0},
    }
    return {**cells, **counted}


def padded() -> dict[str, dict[str, Any]]:
    """Padding that is counted halves, or quarters, what is reported."""
    return {
        f"padding/{share:g}/{treatment}/{seed}": {
            "pad_share": share, "loss_on_text": 3.0 + seed,
            "loss_as_counted": (3.0 + seed) * (1 - share if treatment == "counted" else 1),
        }
        for share, seeds in ((0.5, SEEDS), (0.75, (0,)))
        for treatment in ("counted", "ignored")
        for seed in seeds
    }  # fmt: skip


def timed() -> dict[str, dict[str, Any]]:
    """Lengths, and the latency of some models."""
    cells: dict[str, dict[str, Any]] = {
        f"length/{arm}/{length}": {
            "seconds": [scale * length, 2 * scale * length, 3 * scale * length],
            "saved_bytes": 4_096_000, "flops": 1e9, "tokens": 4096,
        }
        for arm, scale in (("gpt", 4e-3), ("conv", 1e-3))
        for length in (256, 64)
    }  # fmt: skip
    seconds = {"batch": [0.1, 0.2, 0.9], "forward": [0.01, 0.02, 0.09]}
    return {**cells, "latency": {"seconds": {name: seconds for name in ("gpt", "conv", "bert")}}}


def others() -> dict[str, dict[str, Any]]:
    """Two of the kit's other models."""
    return {
        "model/lstm/0": _trained(2.6, 0, "lstm"),
        "model/bert/0": {
            "num_parameters": 500, "context_length": 64, "rows": 8, "train_nats": 4.5,
            "masked_accuracy": 0.4,
            "at_mask_accuracy": 0.3,
        },
    }  # fmt: skip


def everything() -> dict[str, dict[str, Any]]:
    """All of them."""
    return {**trained(), **padded(), **timed(), **others()}
