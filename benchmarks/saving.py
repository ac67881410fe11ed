"""What is saved when k of L blocks are skipped, against what could be saved at most.

One model, one optimiser; a step is forward, loss, backward, clipping and AdamW. The time of the
blocks is that of a full step less that of a step without any block, so that k skipped blocks can
save k / L of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sbldlib.dropping.skipping import attach
from sbldlib.measure import count_flops
from sbldlib.training.optimizer import make_optimizer

from .common import (
    Finding,
    Prepared,
    Question,
    Rounds,
    Setting,
    bare_step,
    compile_where_asked,
    exactly,
    make_batch,
    make_model,
)
from .timing import ratios, spread

TARGET = 0.95


def evenly(num_skipped: int, num_layers: int) -> tuple[int, ...]:
    """`num_skipped` layers spread evenly over the depth."""
    return tuple((2 * i + 1) * num_layers // (2 * num_skipped) for i in range(num_skipped))


def prepare(setting: Setting) -> Prepared:
    """An arm for each number of blocks skipped, 0..L."""
    model, batch = make_model(setting), make_batch(setting)
    flops = count_flops(model, batch)
    compile_where_asked(model.blocks, setting)
    skipping, optimizer = attach(model), make_optimizer(model)
    step = bare_step(model, batch, setting, optimizer=optimizer)
    step()  # gives every weight its moments before any layer is skipped

    def skipped_step(layers: tuple[int, ...]) -> None:
        skipping.set_dropped(layers)
        step()

    num_layers = skipping.num_layers
    arms = {str(k): partial(skipped_step, evenly(k, num_layers)) for k in range(num_layers + 1)}
    facts = {"num_layers": num_layers, "flops_outside_share": flops.outside_share}
    return Prepared(arms=arms, facts=facts)


def realised(rounds: Rounds, num_layers: int, skipped: int) -> list[float]:
    """Share of the blocks' time that skipping saved, one value a round."""
    full, none = rounds["0"], rounds[str(num_layers)]
    return [(f - t) / (f - n) for f, t, n in zip(full, rounds[str(skipped)], none, strict=True)]


def step_saving(rounds: Rounds, skipped: int) -> list[float]:
    """Share of the whole step's time that skipping saved, one value a round."""
    return [1 - ratio for ratio in ratios(rounds[str(skipped)], rounds["0"])]


def findings(rounds: Rounds, facts: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Realised over theoretical: over all k, at the worst k, and of a whole step."""
    num_layers = facts["num_layers"]
    depths = range(1, num_layers)
    by_depth = {k: realised(rounds, num_layers, k) for k in depths}
    theoretical = sum(k / num_layers for k in depths)
    pooled = [sum(saved) / theoretical for saved in zip(*by_depth.values(), strict=True)]
    relative = {k: spread([s * num_layers / k for s in by_depth[k]]) for k in depths}
    worst = min(depths, key=lambda k: relative[k].median)
    quarter = max(1, num_layers // 4)
    ceiling = (1 - facts["flops_outside_share"]) * quarter / num_layers
    return (
        Finding(
            claim=f"saving on blocks, realised / theoretical, k = 1..{num_layers - 1}",
            unit="x",
            spread=spread(pooled),
            at_least=TARGET,
        ),
        Finding(
            claim=f"the same at the worst k ({worst} of {num_layers})",
            unit="x",
            spread=relative[worst],
            at_least=TARGET,
        ),
        Finding(
            claim=f"time of a whole step saved, {quarter} of {num_layers} blocks skipped",
            unit="%",
            spread=spread([100 * s for s in step_saving(rounds, quarter)]),
        ),
        Finding(claim="FLOPs of that step saved", unit="%", spread=exactly(100 * ceiling)),
    )


QUESTION = Question(
    name="saving",
    rounds={"tiny": 25, "cpu": 21, "cuda": 9},
    prepare=prepare,
    findings=findings,
)
