"""What a configuration stands for: the model, its data, its optimiser, its evaluations."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..data.arithmetic import exact_match
from ..data.lesson import LessonData
from ..losses import evaluate_loss
from ..models.language_model import LanguageModel
from ..training.callbacks import Callback
from ..training.config import Budget, TrainConfig
from ..training.growth import Growing, GrowingModel
from ..training.optimizer import make_optimizer
from ..training.run import Evaluation
from .config import ACCURACY, MODELS, VALIDATION_LOSS, PretrainConfig, check_device
from .text import is_large


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All that `train` needs but the dropping method; the same bits from the same configuration.

    Attributes:
        model, optimizer: new.
        data: text and problems; `data.train` is the batch source.
        config: budget, accumulation, evaluations.
        evaluations: loss on new text, and the share of problems answered exactly where the model
            learns arithmetic.
        callbacks: what lets the model grow, where it does; they come before a dropping method.
    """

    model: LanguageModel
    optimizer: torch.optim.Optimizer
    data: LessonData
    config: TrainConfig
    evaluations: dict[str, Evaluation]
    callbacks: tuple[Callback, ...] = ()


def make_parts(
    config: PretrainConfig, *, device: str = "cpu", data: LessonData | None = None
) -> Parts:
    """The parts of a run of this configuration.

    Args:
        device: "cpu" or "cuda".
        data: its text, where that is made already.
    """
    data = config.data() if data is None else data
    model = make_model(config, device)
    optimizer = make_optimizer(model, learning_rate=config.base_rate)
    grows = isinstance(model, GrowingModel)
    evaluations: dict[str, Evaluation] = {
        VALIDATION_LOSS: lambda model: evaluate_loss(model, data.validation)
    }
    if data.problems and not is_large(config.shape) and config.shape.offset == 1:
        evaluations[ACCURACY] = lambda model: exact_match(model, data.problems, data.tokenizer)
    return Parts(
        model=model,
        optimizer=optimizer,
        data=data,
        config=TrainConfig(
            budget=Budget(steps=config.steps),
            accumulate=config.accumulate,
            evaluate_every=config.evaluate_every,
            name=f"{config.named}, {config.method}, seed {config.seed}",
        ),
        evaluations=evaluations,
        callbacks=(Growing(model, optimizer),) if grows else (),
    )


def make_model(config: PretrainConfig, device: str = "cpu") -> LanguageModel:
    """The model as it is before its first step."""
    model = MODELS[config.model].from_preset(config.preset, seed=config.seed)
    return model.to(check_device(device))
