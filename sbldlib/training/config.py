"""What a training run is asked to do: its budget, batch, learning-rate course and precision."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import check_choice, check_flag, check_kind, check_positive_int, check_range

PRECISIONS = ("auto", "float32", "bfloat16")
SKIPPED_WEIGHTS = ("freeze", "decay")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to train: exactly one of these.

    Attributes:
        steps: optimiser steps.
        tokens: input tokens.
        flops: floating-point operations run, so that layers skipped buy more steps.
        seconds: wall-clock of training, evaluation not counted.
    """

    steps: int | None = None
    tokens: int | None = None
    flops: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"budget: exactly one of steps, tokens, flops, seconds; got {given}")
        ((name, value),) = given.items()
        if name in ("steps", "tokens"):
            value = check_positive_int(name, value)
        else:
            value = check_range(name, value, 0, math.inf, low_open=True, high_open=True)
        object.__setattr__(self, name, value)

    def num_steps(self, tokens_per_step: int) -> int | None:
        """Steps of the whole run, where they are known before it; else None."""
        if self.tokens is not None:
            return -(-self.tokens // tokens_per_step)  # rounded up, exact at any size
        return self.steps

    def spent(self, *, flops: float, seconds: float) -> float:
        """Share of a FLOPs or seconds budget that is spent, >= 0; 0 of any other."""
        if self.flops is not None:
            return flops / self.flops
        return seconds / self.seconds if self.seconds is not None else 0.0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run's settings; a variant is `dataclasses.replace(config, ...)`.

    Attributes:
        budget: how long to train.
        warmup: share of the budget in which the learning rate rises, in [0, 1).
        final_learning_rate: share of the base rate at the budget's end, in (0, 1]; cosine there.
        accumulate: micro-batches a step.
        clip_norm: cap of the gradient's norm.
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 on CUDA alone.
        evaluate_every: steps between evaluations; 0 evaluates at the end alone.
        compile_blocks: compile each residual block by itself, before the first step; torch leaves
            its own TransformerEncoderLayer as it is.
        skipped_weights: what the optimiser does with weights that got no gradient in a step, for
            their layer was skipped: "freeze" (the gradient is None: AdamW leaves weights and
            moments alone) or "decay" (the gradient is zero: momentum and weight decay still act).
        name: what the run is called in tables.
    """

    budget: Budget = field(default_factory=lambda: Budget(steps=300))
    warmup: float = 0.05
    final_learning_rate: float = 0.01
    accumulate: int = 1
    clip_norm: float = 1.0
    precision: str = "auto"
    evaluate_every: int = 0
    compile_blocks: bool = False
    skipped_weights: str = "freeze"
    name: str = "run"

    def __post_init__(self) -> None:
        if not isinstance(self.budget, Budget):
            raise ValueError(f"budget={self.budget!r} must be a Budget, such as Budget(steps=300)")
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("skipped_weights", self.skipped_weights, SKIPPED_WEIGHTS)
        checked: dict[str, Any] = {
            "warmup": check_range("warmup", self.warmup, 0, 1, high_open=True),
            "final_learning_rate": check_range(
                "final_learning_rate", self.final_learning_rate, 0, 1, low_open=True
            ),
            "accumulate": check_positive_int("accumulate", self.accumulate),
            "clip_norm": check_range("clip_norm", self.clip_norm, 0, math.inf, low_open=True),
            "evaluate_every": check_positive_int("evaluate_every", self.evaluate_every, minimum=0),
        }
        checked["compile_blocks"] = check_flag("compile_blocks", self.compile_blocks)
        checked["name"] = check_kind("name", self.name, str, "text")
        for name, value in checked.items():  # plain numbers, for the run's record
            object.__setattr__(self, name, value)

    def learning_rate_factor(self, progress: float) -> float:
        """Share of the base learning rate at this progress: linear warm-up, then cosine.

        Never below `final_learning_rate`, so that no step is spent on a rate of zero.
        """
        floor = self.final_learning_rate
        if progress < self.warmup:
            return max(floor, progress / self.warmup)
        angle = math.pi * (progress - self.warmup) / (1 - self.warmup)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(angle))
