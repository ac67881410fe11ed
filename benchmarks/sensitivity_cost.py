"""What all sensitivities cost against L + 1 naive passes: full depth, then each layer skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

# Layers of a model -> most seconds over seconds. FLOPs allow (L + 1) / 2L of the blocks' part,
# and head and loss are paid L + 1 times either way; a shallower model has less to compute once.
TARGETS = {12: 0.6, 24: 0.55}
DEEPER = ", twice as deep"


def prepare(setting: Setting) -> Prepared:
    """The kit's way and the naive one, on two batches, without gradients; twice as deep too."""
    arms, facts = _arms(setting, setting.config.num_layers, "")
    if setting.effort == "cpu":  # the settings on CUDA are of 12 and 24 layers as they are
        deeper, facts["deeper"] = _arms(setting, 2 * setting.config.num_layers, DEEPER)
        arms |= deeper
    return Prepared(arms=arms, facts=facts)


def _arms(
    setting: Setting, num_layers: int, suffix: str
) -> tuple[dict[str, Callable[[], None]], dict[str, Any]]:
    """Both ways at one depth, and what their findings need."""
    model = GPT(replace(setting.config, num_layers=num_layers)).to(setting.device).eval()
    batches = [make_batch(setting, seed) for seed in (0, 1)]
    facts = {
        "num_layers": num_layers,
        "flops_ratio": flops_ratio(count_flops(model, batches[0])),
    }
    attach(model)
    compile_where_asked(model.blocks, setting)
    ways = {"kit": _kit, "naive": _naive}
    return {f"{w}{suffix}": partial(run, setting, model, batches) for w, run in ways.items()}, facts


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
    found = _findings(rounds, facts, "")
    return found + _findings(rounds, facts["deeper"], DEEPER) if "deeper" in facts else found


def _findings(rounds: Rounds, facts: Mapping[str, Any], suffix: str) -> tuple[Finding, ...]:
    num_layers = facts["num_layers"]
    return (
        Finding(
            claim=f"all {num_layers} sensitivities / {num_layers + 1} naive passes",
            unit="x",
            spread=spread(ratios(rounds[f"kit{suffix}"], rounds[f"naive{suffix}"])),
            at_most=TARGETS.get(num_layers),
        ),
        Finding(
            claim=f"the same{suffix}, in FLOPs", unit="x", spread=exactly(facts["flops_ratio"])
        ),
    )


QUESTION = Question(
    name="sensitivity_cost",
    rounds={"tiny": 25, "cpu": 11, "cuda": 11},
    prepare=prepare,
    findings=findings,
)
