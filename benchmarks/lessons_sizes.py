"""How much the lessons' scripts measure: a smoke test, a desk's processor, a GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

# Name -> the kind, and what differs from its defaults.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("rnn", {}),
    "rnn-orthogonal": ("rnn", {"orthogonal": True}),
    "lstm-forget-0": ("lstm", {"forget_bias": 0.0}),
    "lstm-forget-1": ("lstm", {"forget_bias": 1.0}),
    "lstm-forget-3": ("lstm", {"forget_bias": 3.0}),
    "gru": ("gru", {}),
    "convolution": ("convolution", {}),
    "attention": ("attention", {}),
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured.

    Attributes:
        device: "cpu" or "cuda".
        width: of "attention"; the other kinds are as wide as the same number of weights lets them.
        count_lengths: tokens of a sequence, for the counts.
        time_lengths: the same for the seconds.
        tokens_per_step: of a timed step, whatever the length.
        threads: of torch; each number is timed. (0,) is whatever the process has, as on a GPU.
        rounds: that are timed.
        context_length, num_symbols, batch_size: of the recall task.
        distances: trained and asked, each alone and all together.
        num_steps, learning_rate: of a training.
        seeds: of weights and batches; one training each.
        num_rows: asked a distance.
    """

    device: str = "cpu"
    width: int = 32
    count_lengths: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    time_lengths: tuple[int, ...] = (32, 128, 512)
    tokens_per_step: int = 4096
    threads: tuple[int, ...] = (1, 2)
    rounds: int = 9
    context_length: int = 128
    num_symbols: int = 8
    batch_size: int = 32
    distances: tuple[int, ...] = (1, 2, 5, 10, 20, 40, 80, 127)
    num_steps: int = 300
    learning_rate: float = 3e-3
    seeds: tuple[int, ...] = (0, 1, 2)
    num_rows: int = 256


CPU = Size()
SIZES = {
    "smoke": Size(
        width=8,
        count_lengths=(4, 8),
        time_lengths=(8,),
        tokens_per_step=16,
        threads=(1,),
        rounds=2,
        context_length=8,
        distances=(1, 7),
        num_steps=2,
        seeds=(0,),
        num_rows=4,
    ),
    "cpu": CPU,
    "gpu": replace(
        CPU,
        device="cuda",
        width=256,
        time_lengths=(64, 256, 1024, 4096, 16384),
        tokens_per_step=65536,
        threads=(0,),
        context_length=512,
        distances=(1, 5, 20, 80, 160, 320, 511),
        num_steps=1500,
        learning_rate=1e-3,
        seeds=(0, 1, 2, 3, 4),
    ),
}
