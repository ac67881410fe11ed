"""One training of the comparison: to its budget, scored on the way, and said in plain values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from sbldlib.measure import count_flops
from sbldlib.measure.scoring import TextScore, score_text
from sbldlib.models.diverging_gpt import DivergingGPT
from sbldlib.records import RunRecord
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.growth import Growing
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

from .lessons_files import short
from .lessons_variants_sizes import (
    VariantSize,
    batches_of,
    make_model,
    offset_of,
    random_batch,
    text_of,
)

MOST_LOSSES = 300  # of a training that are kept
LAST = 0.05  # share of a training's steps whose mean is its training loss


def score(
    size: VariantSize,
    model: Any,
    *,
    offset: int = 1,
    split: str = "test",
    context_length: int | None = None,
) -> TextScore:
    """The model on the tokens of new text that every model is scored on."""
    text = text_of(size)
    return score_text(
        model,
        getattr(text, split),
        text.tokenizer,
        first_target=size.first_target,
        num_targets=size.num_targets,
        context_length=context_length or model.config.context_length,
        offset=offset,
    )


def trained(
    size: VariantSize,
    arm: str,
    model: Any,
    data: Any,
    *,
    rate: float,
    budget: Budget,
    num_steps: float,
    split: str = "test",
) -> RunRecord:
    """Train to a budget, scored some times on the way.

    Args:
        num_steps: that it will take, about.
    """
    asked: Any = {"offset": offset_of(size, arm), "split": split}
    optimizer = make_optimizer(model, learning_rate=rate)
    grows = isinstance(model, DivergingGPT)
    return train(
        model,
        data,
        optimizer,
        config=TrainConfig(
            budget=budget, evaluate_every=max(1, math.ceil(num_steps / size.num_points))
        ),
        callbacks=[Growing(model, optimizer)] if grows else [],
        evaluations={"bits_per_byte": lambda m: score(size, m, **asked).bits_per_byte},
    )


def describe(run: RunRecord, model: Any) -> dict[str, Any]:
    """What a training was and how it went, as a cell has it."""
    losses = [step.loss_nats for step in run.steps]
    stride = math.ceil(len(losses) / MOST_LOSSES)
    spent, at = 0.0, []
    for number, step in enumerate(run.steps, start=1):
        spent += step.flops
        if "bits_per_byte" in step.evaluations:
            at.append((number, spent, step.evaluations["bits_per_byte"]))
    return {
        "steps": len(losses),
        "tokens": sum(step.tokens for step in run.steps),
        "flops": spent,
        "num_parameters": model.num_parameters(),
        "context_length": model.config.context_length,
        "losses": short(losses[::stride]),
        "loss_stride": stride,
        "bits_per_byte_at": [[number, *short([bits])] for number, _, bits in at],
        "flops_at": short(flops for _, flops, _ in at),
        "train_nats": end_of(losses),
        "training_seconds": run.seconds,
    }


def end_of(losses: Sequence[float]) -> float:
    """The training loss: the mean of the last steps, nats."""
    return fmean(losses[-max(1, round(LAST * len(losses))) :])


def describe_score(found: TextScore) -> dict[str, Any]:
    """A score, as a cell has it."""
    values = asdict(found)
    values["test_nats"] = values.pop("nats")
    return values


def gpt_flops(size: VariantSize) -> float:
    """Of one step of the GPT."""
    batch = random_batch(size.rows, size.context_length, size.vocabulary_size)
    return count_flops(make_model(size, "gpt", 0), batch).full


def arm_cell(
    size: VariantSize,
    arm: str,
    seed: int,
    *,
    rate: Callable[[], float],
    budget: str,
    times: int = 1,
) -> dict[str, Any]:
    """One training of one arm, and its score.

    Args:
        rate: finds the base learning rate.
        budget: "steps" or "flops", the GPT's.
        times: this budget.
    """
    model = make_model(size, arm, seed)
    learning_rate = rate()
    num_steps, asked = float(times * size.num_steps), Budget(steps=times * size.num_steps)
    data = batches_of(size, arm, seed)
    if budget == "flops":
        flops = gpt_flops(size) * num_steps
        num_steps, asked = flops / count_flops(model, data.batch(0)).full, Budget(flops=flops)
    run = trained(size, arm, model, data, rate=learning_rate, budget=asked, num_steps=num_steps)
    return {
        **describe(run, model),
        **describe_score(score(size, model, offset=data.offset)),
        "learning_rate": learning_rate,
        "rows": size.rows_of(arm),
        "offset": data.offset,
    }
