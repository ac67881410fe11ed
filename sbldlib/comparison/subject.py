"""What a comparison trains: models, data and measurements as functions of a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.arithmetic import exact_match
from ..data.lesson import LessonData, prepare_lesson_data
from ..losses import evaluate_loss, next_token_loss
from ..models.gpt import GPT
from ..training.optimizer import make_optimizer
from .settings import Comparison

UNREACHED = 1_000_000  # a step beyond every run
RESULTS = ("validation_loss", "accuracy")  # of the kit's own subject


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model and the data that a comparison is about; give your own to compare on them.

    Attributes:
        make_model: (seed, num_layers) -> model; equal seeds give equal weights.
        make_data: seed -> batch source; equal seeds give equal batches.
        make_optimizer: (model, learning rate scale) -> optimiser.
        evaluations: name -> function of the trained model, at full depth.
        loss: mean loss of one batch.
        key: says what the functions above make, for runs kept from an earlier call.
        pretraining_data: seed -> batch source of the steps before all arms, where there are any.
    """

    make_model: Callable[[int, int], nn.Module]
    make_data: Callable[[int], Any]
    make_optimizer: Callable[[nn.Module, float], torch.optim.Optimizer]
    evaluations: Mapping[str, Callable[[nn.Module], float]]
    key: str
    loss: Callable[[nn.Module, Any], torch.Tensor] = next_token_loss
    pretraining_data: Callable[[int], Any] | None = None

    def sensitivity_batches(self, seed: int, num_batches: int) -> list[Any]:
        """Batches of the training data that no step of any run draws."""
        data = self.make_data(seed)
        return [data.batch(UNREACHED + place) for place in range(num_batches)]


def gpt_subject(comparison: Comparison, *, folder: Path | None = None) -> Subject:
    """The kit's own: a GPT on Python's source and arithmetic problems, with nothing fetched.

    Args:
        comparison: its sizes.
        folder: cache of tokens; None is the kit's.
    """
    config = comparison.model_config

    @lru_cache(maxsize=16)
    def lesson(seed: int, arithmetic_rows: int) -> LessonData:
        return prepare_lesson_data(
            vocabulary_size=comparison.text_vocabulary or config.vocabulary_size,
            context_length=config.context_length,
            batch_size=comparison.batch_size,
            arithmetic_rows=arithmetic_rows,
            seed=seed,
            max_bytes=comparison.text_bytes,
            folder=folder,
        )

    def data(seed: int) -> LessonData:
        return lesson(seed, comparison.arithmetic_rows)

    def make_model(seed: int, num_layers: int) -> GPT:
        model = GPT(replace(config, num_layers=num_layers), seed=seed)
        return model.to(comparison.device)

    def optimizer(model: nn.Module, scale: float) -> torch.optim.Optimizer:
        return make_optimizer(model, learning_rate=comparison.learning_rate * scale)

    def validation_loss(model: nn.Module) -> float:
        return evaluate_loss(model, data(0).validation[: comparison.validation_batches])

    def accuracy(model: nn.Module) -> float:
        known = data(0)
        return exact_match(model, known.problems[: comparison.num_problems], known.tokenizer)

    return Subject(
        make_model=make_model,
        make_data=lambda seed: data(seed).train,
        make_optimizer=optimizer,
        evaluations={"validation_loss": validation_loss, "accuracy": accuracy},
        key=data(0).fingerprint,
        pretraining_data=lambda seed: lesson(seed, 0).train,
    )
