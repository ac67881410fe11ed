"""What everything costs at keep 1, where it saves nothing, against the bare loop.

Everything is `train_steps` with SBLD at keep 1: schedule, allocation, plan, instrumented blocks,
detector, live controls, ledger and records. The bare loop is the one written by hand over a model
that was never touched: loss, backward, clipping, AdamW.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from sbldlib.dropping.skipping import attach
from sbldlib.methods import sbld
from sbldlib.records import SensitivityData, StepRecord
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.controls import Controls
from sbldlib.training.loop import train_steps
from sbldlib.training.optimizer import make_optimizer

from .common import (
    Batch,
    Finding,
    Prepared,
    Question,
    Rounds,
    Setting,
    bare_step,
    compile_where_asked,
    make_batch,
    make_model,
)
from .timing import differences, ratios, spread

TARGET = 1.0  # percent of a step
LONG_STEP = 0.05  # seconds; the target is for steps of at least this length
ENOUGH = 1_000_000  # steps of the run that the timed ones are part of


def prepare(setting: Setting) -> Prepared:
    """The bare loop twice (two copies: what they differ by is noise), the mechanism, everything."""
    batch = make_batch(setting)
    steps = all_of_it(setting, batch)
    kept: list[StepRecord] = []
    arms = {
        "bare": _bare(setting, batch),
        "bare again": _bare(setting, batch),
        "mechanism alone": _bare(setting, batch, instrument=True),
        "everything": lambda: kept.append(next(steps)),
    }
    return Prepared(arms=arms, close=steps.close)


def all_of_it(setting: Setting, batch: Batch) -> Generator[StepRecord, None, None]:
    """The kit's own loop at keep 1, one step at each `next`."""
    model = make_model(setting)
    num_layers = attach(model).num_layers
    sensitivities = SensitivityData(
        values=tuple(1.0 / (layer + 1) for layer in range(num_layers)),
        standard_errors=(0.0,) * num_layers,
    )
    yield from train_steps(
        model,
        [batch],
        make_optimizer(model),
        config=TrainConfig(budget=Budget(steps=ENOUGH), compile_blocks=setting.compile_blocks),
        callbacks=[sbld(model, sensitivities, saving=0.0)],
        controls=Controls({"dropping": True}),
    )


def findings(rounds: Rounds, facts: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Overheads in percent of a bare step, and the fixed cost in microseconds."""
    bare = rounds["bare"]
    is_long = spread(bare).median >= LONG_STEP
    cost = differences(rounds["everything"], bare)
    return (
        Finding(
            claim="everything at keep 1, over the bare loop",
            unit="%",
            spread=_percent(rounds["everything"], bare),
            at_most=TARGET if is_long else None,
        ),
        Finding(
            claim="the same, a step",
            unit="us",
            spread=spread([1e6 * c for c in cost]),
        ),
        Finding(
            claim="the same, as a share of a step of 50 ms",
            unit="%",
            spread=spread([100 * c / LONG_STEP for c in cost]),
            at_most=None if is_long else TARGET,
        ),
        Finding(
            claim="instrumented blocks alone, over the bare loop",
            unit="%",
            spread=_percent(rounds["mechanism alone"], bare),
        ),
        Finding(
            claim="the bare loop over itself (noise)",
            unit="%",
            spread=_percent(rounds["bare again"], bare),
        ),
        Finding(
            claim="a bare step",
            unit="ms",
            spread=spread([1e3 * seconds for seconds in bare]),
        ),
    )


def _bare(setting: Setting, batch: Batch, *, instrument: bool = False):
    model = make_model(setting)
    if instrument:
        attach(model)
    compile_where_asked(model.blocks, setting)
    return bare_step(model, batch, setting, optimizer=make_optimizer(model))


def _percent(arm, bare):
    return spread([100 * (ratio - 1) for ratio in ratios(arm, bare)])


QUESTION = Question(
    name="overhead",
    rounds={"tiny": 150, "cpu": 70, "cuda": 25},
    prepare=prepare,
    findings=findings,
)
