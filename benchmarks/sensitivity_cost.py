"""What all sensitivities cost against L + 1 naive passes: full depth, then each layer skipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
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
)
from .timing import ratios, spread

TARGET = 0.55
DEEP = 12  # layers; a shallower model has less before its skipped layers to compute once


def prepare(setting: Setting) -> Prepared:
    """The kit's way and the naive one, on two batches, without gradients; twice as deep too."""
    depths = [setting.config.num_layers]
    if setting.effort == "cpu":  # the settings on CUDA are of 12 and 24 layers as they are
        depths.append(2 * depths[0])
    arms, facts = {}, {"num_layers": depths, "flops_ratio": []}
    for depth in depths:
        model = GPT(replace(setting.config, num_layers=depth)).to(setting.device).eval()
        batches = [make_batch(setting, seed) for seed in (0, 1)]
        facts["flops_ratio"].append(flops_ratio(count_flops(model, batches[0])))
        attach(model)
        compile_where_asked(model.blocks, setting)
        arms[f"kit, {depth} layers"] = partial(_kit, setting, model, batches)
        arms[f"naive, {depth} layers"] = partial(_naive, setting, model, batches)
    return Prepared(arms=arms, facts=facts)


def _kit(setting: Setting, model: GPT, batches: list[Batch]) -> None:
    with setting.autocast():
        calculate_sensitivities(model, batches=batches)


def _naive(setting: Setting, model: GPT, batches: list[Batch]) -> None:
    with setting.autocast():
        naive_sensitivities(model, batches)


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
    """Seconds over seconds, and FLOPs over FLOPs, at each depth."""
    found = []
    for depth, in_flops in zip(facts["num_layers"], facts["flops_ratio"], strict=True):
        seconds = ratios(rounds[f"kit, {depth} layers"], rounds[f"naive, {depth} layers"])
        found += [
            Finding(
                claim=f"all {depth} sensitivities / {depth + 1} naive passes",
                unit="x",
                spread=spread(seconds),
                at_most=TARGET if depth >= DEEP else None,
            ),
            Finding(
                claim=f"the same at {depth} layers, in FLOPs", unit="x", spread=exactly(in_flops)
            ),
        ]
    return tuple(found)


QUESTION = Question(
    name="sensitivity_cost",
    rounds={"tiny": 25, "cpu": 11, "cuda": 11},
    prepare=prepare,
    findings=findings,
)
