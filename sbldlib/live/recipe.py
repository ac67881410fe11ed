"""A live session from a configuration alone, so that a file is enough to replay it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..data.lesson import LessonData
from ..models.conv_gpt import ConvGPT
from ..models.gpt import GPT
from ..pretraining.config import PretrainConfig
from ..pretraining.parts import Parts, make_parts
from ..training.checkpoints import CheckpointConfig
from .arm import Setting

PROMPTS = ("def ", "import ")
SAMPLE_TOKENS = 40
CHECKPOINTS_KEPT = 3  # the one at the end, and two to go back to


def recipe_parts(
    config: PretrainConfig, *, checkpoints: CheckpointConfig | None = None
) -> tuple[Parts, Setting]:
    """What a session of this configuration trains, and with what.

    Raises:
        ValueError: a model that grows: a race can go back to a checkpoint, and growth cannot.
    """
    parts = make_parts(config)
    if parts.callbacks:
        raise ValueError(f"model={config.model!r} grows while it trains; a live race takes 'gpt'")
    setting = Setting(
        data=parts.data.train,
        config=parts.config,
        evaluations=parts.evaluations,
        checkpoints=checkpoints,
        # A model that predicts further ahead goes on from whole spans alone, which no prompt is.
        sample=writer(parts.data) if config.shape.offset == 1 else None,
    )
    return parts, setting


def values_of(config: PretrainConfig) -> dict[str, Any]:
    """The configuration's own method, as first values of a session's controls."""
    if config.method == "none":
        return {"dropping": False}
    return {"method": config.method, "saving": config.saving}


def recipe_of(config: PretrainConfig) -> dict[str, Any]:
    """The configuration as plain values, for a record."""
    return dataclasses.asdict(config)


def writer(data: LessonData) -> Callable[[nn.Module], str]:
    """A function that lets a GPT go on with two beginnings of Python, the draws always the same."""

    def write(model: nn.Module) -> str:
        assert isinstance(model, GPT | ConvGPT)
        device = next(model.parameters()).device
        texts = []
        for prompt in PROMPTS:
            tokens = torch.tensor([data.tokenizer.encode(prompt)], device=device)
            room = model.config.context_length - tokens.shape[1]
            written = model.generate(tokens, min(SAMPLE_TOKENS, room), temperature=0.8, top_k=40)
            texts.append(data.tokenizer.decode(written[0].tolist()))
        return "\n".join(texts)

    return write
