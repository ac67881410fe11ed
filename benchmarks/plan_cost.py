"""What it costs to say, before each step, which layers run: schedule, allocation and plan.

`LayerDropping.before_step` at 48 layers, in every mode, scope and rescaling, under a schedule that
asks for another mean keep probability at every step, so that nothing can be kept from the last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

from sbldlib.dropping.plan import MODES
from sbldlib.methods import LayerDropping, sbld
from sbldlib.methods.base import RESCALES, SCOPES
from sbldlib.models.gpt import GPT, GPTConfig
from sbldlib.records import SensitivityData
from sbldlib.training.callbacks import StepContext

from .common import Finding, Prepared, Question, Rounds, Setting
from .timing import spread

TARGET = 1000.0  # microseconds a step
NUM_LAYERS, NUM_ROWS = 48, 16
NUM_STEPS = 300  # of the run that the schedule is tabulated for
STEPS_PER_CALL = 30  # between two looks at the clock


def hump(progress: float) -> float:
    """Mean keep probability: dropping least at a third of the run, as a fitted variance may ask."""
    return 0.6 + 0.3 * 3 * progress * math.exp(1 - 3 * progress)


def prepare(setting: Setting) -> Prepared:
    """One arm for each mode, scope and rescaling; the model is small, for it never runs."""
    config = GPTConfig(
        num_layers=NUM_LAYERS, num_heads=2, width=16, vocabulary_size=32, context_length=8
    )
    model = GPT(config)
    sensitivities = SensitivityData(
        values=tuple(1.0 / (layer + 1) for layer in range(NUM_LAYERS)),
        standard_errors=(0.0,) * NUM_LAYERS,
    )
    arms = {}
    for mode, scope, rescale in itertools.product(MODES, SCOPES, RESCALES):
        method = sbld(model, sensitivities, scheduler=hump, mode=mode, scope=scope, rescale=rescale)
        arms[_name(mode, scope, rescale)] = steps_of(method, model)
    return Prepared(arms=arms, facts={"steps_per_call": STEPS_PER_CALL})


def steps_of(method: LayerDropping, model: GPT) -> Callable[[], None]:
    """The next steps' plans at each call, going around the run."""
    steps = itertools.cycle(range(NUM_STEPS))

    def call() -> None:
        for step in itertools.islice(steps, STEPS_PER_CALL):
            method.before_step(
                StepContext(
                    step=step,
                    num_steps=NUM_STEPS,
                    progress=step / (NUM_STEPS - 1),
                    model=model,
                    num_rows=NUM_ROWS,
                )
            )

    return call


def findings(rounds: Rounds, facts: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Microseconds a step: of the plain draw, and of the costliest kind."""
    cost = {
        name: spread([1e6 * value / facts["steps_per_call"] for value in seconds])
        for name, seconds in rounds.items()
    }
    plain = _name(MODES[0], SCOPES[0], RESCALES[0])
    worst = max(cost, key=lambda name: cost[name].median)
    return tuple(
        Finding(
            claim=f"plan of a step at {NUM_LAYERS} layers, {kind}: {name}",
            unit="us",
            spread=cost[name],
            at_most=TARGET,
        )
        for kind, name in (("plainest", plain), ("costliest", worst))
    )


def _name(mode: str, scope: str, rescale: str) -> str:
    return f"{mode}, {scope}, rescale {rescale}"


QUESTION = Question(
    name="plan_cost",
    rounds={"tiny": 100},
    prepare=prepare,
    findings=findings,
)
