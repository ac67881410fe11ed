"""What all sensitivities cost against L + 1 naive passes: full depth, then each layer skipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import next_token_loss
from sbldlib.measure import FlopCount, count_flops
from sbldlib.models.gpt import GPT
from sbldlib.sensitivity import calculate_sensitivities

from .common import (
    Batch,
    Finding,
    Prepared,
    Question,
    Rounds,
    Setting,
    compile_where_asked,
    exactly,
    make_batch,
    make_model,
)
from .timing import ratios, spread

TARGET = 0.6
DEEP = 12  # layers; a shallower model has less before its skipped layers to replay


def prepare(setting: Setting) -> Prepared:
    """The kit's way and the naive one, on two batches, without gradients."""
    model = make_model(setting).eval()
    batches = [make_batch(setting, seed) for seed in (0, 1)]
    flops, num_layers = count_flops(model, batches[0]), attach(model).num_layers
    compile_where_asked(model.blocks, setting)

    def kit() -> None:
        with setting.autocast():
            calculate_sensitivities(model, batches=batches)

    def naive() -> None:
        with setting.autocast():
            naive_sensitivities(model, batches)

    facts = {"num_layers": num_layers, "flops_ratio": flops_ratio(flops)}
    return Prepared(arms={"kit": kit, "naive": naive}, facts=facts)


@torch.no_grad()
def naive_sensitivities(model: GPT, batches: list[Batch]) -> list[float]:
    """Mean loss without each layer less the mean loss, from L + 1 passes a batch."""
    num_layers, deltas = attach(model).num_layers, []
    full = [float(next_token_loss(model, batch)) for batch in batches]
    for layer in range(num_layers):
        with skip_layers(model, {layer}):
            without = [float(next_token_loss(model, batch)) for batch in batches]
        deltas.append(sum(w - f for w, f in zip(without, full, strict=True)) / len(batches))
    return deltas


def flops_ratio(flops: FlopCount) -> float:
    """Operations of the kit's way over those of the naive one."""
    layers = range(len(flops.blocks))
    kit = flops.full + sum(flops.of(range(layer + 1, len(layers))) for layer in layers)
    naive = flops.full + sum(flops.full - flops.blocks[layer] for layer in layers)
    return kit / naive


def findings(rounds: Rounds, facts: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Seconds over seconds, and FLOPs over FLOPs."""
    num_layers = facts["num_layers"]
    return (
        Finding(
            claim=f"all {num_layers} sensitivities / {num_layers + 1} naive passes",
            unit="x",
            spread=spread(ratios(rounds["kit"], rounds["naive"])),
            at_most=TARGET if num_layers >= DEEP else None,
        ),
        Finding(claim="the same, in FLOPs", unit="x", spread=exactly(facts["flops_ratio"])),
    )


QUESTION = Question(
    name="sensitivity_cost",
    rounds={"tiny": 25, "cpu": 11, "cuda": 11},
    prepare=prepare,
    findings=findings,
)
