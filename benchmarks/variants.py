"""The two variants beside the baseline: seconds a batch, and of one forward pass.

At the shapes that were reported of them: 6 heads, widths 192 and 48 to 384, contexts of 256 and
1024 tokens, 8 rows a batch; the vocabulary is this setting's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from sbldlib.losses import loss_in_parts
from sbldlib.models.conv_gpt import PRESETS as CONV
from sbldlib.models.conv_gpt import ConvGPT
from sbldlib.models.diverging_gpt import PRESETS as DIVERGING
from sbldlib.models.diverging_gpt import DivergingGPT
from sbldlib.training.optimizer import make_optimizer

from .common import Batch, Finding, Prepared, Question, Rounds, Setting, bare_step, make_model
from .timing import ratios, spread

BASELINE = "gpt"
ROWS = 8
# What was reported, as ratios to the baseline: 250 / 487 ms, 655 / 487 ms, 12.23 / 5.2 ms.
CONV_STEP, DIVERGING_STEP, FORWARD = 0.51, 1.0, 2.3
PARTED = ("conv-ahead", "conv-next")  # measured with the loss in parts too, as the baseline is
NAMES = {
    "conv-ahead": "convolution-attention, 64 ahead, four times the context",
    "conv-next": "convolution-attention, next token, four times the context",
    "diverging-0": "progressive-diverging, stage 1 (3 blocks for 12 layers)",
    "diverging-1": "progressive-diverging, stage 2 (6 blocks, low-rank attention)",
    "diverging-2": "progressive-diverging, stage 3 (12 blocks)",
}


def models(setting: Setting) -> dict[str, nn.Module]:
    """The baseline and the variants, each in training mode on the device."""
    vocabulary_size = setting.config.vocabulary_size
    made: dict[str, nn.Module] = {BASELINE: make_model(setting)}
    for name, preset in (("conv-ahead", "small-ahead"), ("conv-next", "small")):
        made[name] = ConvGPT(replace(CONV[preset], vocabulary_size=vocabulary_size))
    for stage in range(3):
        config = replace(DIVERGING["small"], vocabulary_size=vocabulary_size, stage=stage)
        made[f"diverging-{stage}"] = DivergingGPT(config)
    return {name: model.to(setting.device).train() for name, model in made.items()}


def prepare(setting: Setting) -> Prepared:
    """Arms of each model: a whole training step, and a forward pass of one row.

    Some take their step once more with head and loss together, a few rows at a time.
    """
    arms: dict[str, Callable[[], object]] = {}
    weights, tokens = {}, {}
    for name, model in models(setting).items():
        batch = _batch(model, setting)
        optimizer = make_optimizer(model)
        arms[f"{name} step"] = bare_step(model, batch, setting, optimizer=optimizer)
        if name in (BASELINE, *PARTED):
            arms[f"{name} step in parts"] = bare_step(
                model, batch, setting, optimizer=optimizer, loss=loss_in_parts
            )
        arms[f"{name} forward"] = _forward(model, batch, setting)
        weights[name] = sum(weight.numel() for weight in model.parameters())
        tokens[name] = batch[0].numel()
    return Prepared(arms=arms, facts={"num_parameters": weights, "tokens_per_step": tokens})


def findings(rounds: Rounds, facts: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Each variant's step and forward pass over the baseline's, and everyone's milliseconds."""
    steps = [
        Finding(
            claim=f"seconds a batch, {title} / baseline",
            unit="x",
            spread=spread(ratios(rounds[f"{name} step"], rounds[f"{BASELINE} step"])),
            at_most=CONV_STEP if name.startswith("conv") else DIVERGING_STEP,
        )
        for name, title in NAMES.items()
    ]
    parted = [
        Finding(
            claim=f"seconds a batch with the loss in parts, {NAMES[name]} / baseline",
            unit="x",
            spread=spread(
                ratios(rounds[f"{name} step in parts"], rounds[f"{BASELINE} step in parts"])
            ),
            at_most=CONV_STEP,
        )
        for name in PARTED
    ]
    forwards = [
        Finding(
            claim=f"forward pass of one row, {title} / baseline",
            unit="x",
            spread=spread(ratios(rounds[f"{name} forward"], rounds[f"{BASELINE} forward"])),
            at_most=FORWARD,
        )
        for name, title in NAMES.items()
    ]
    absolute = [
        Finding(
            claim=f"{what}, baseline",
            unit="ms",
            spread=spread([1e3 * seconds for seconds in rounds[f"{BASELINE} {arm}"]]),
        )
        for arm, what in (("step", "a batch"), ("forward", "a forward pass of one row"))
    ]
    return (*steps, *parted, *forwards, *absolute)


def _batch(model: nn.Module, setting: Setting) -> Batch:
    """Random rows as long as the model's own context."""
    config: Any = model.config
    generator = torch.Generator().manual_seed(0)
    shape = (setting.batch_size, config.context_length + 1)
    tokens_BT = torch.randint(config.vocabulary_size, shape, generator=generator)
    tokens_BT = tokens_BT.to(setting.device)
    return tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()


def _forward(model: nn.Module, batch: Batch, setting: Setting) -> Callable[[], None]:
    row_BT = batch[0][:1]

    def forward() -> None:
        with torch.no_grad(), setting.autocast():
            model(row_BT)

    return forward


QUESTION = Question(
    name="variants",
    rounds={"variants": 15},
    prepare=prepare,
    findings=findings,
)
