"""A comparison of seconds: the smallest model and data of the tests, as a subject of one's own."""

from __future__ import annotations

from dataclasses import replace

from small import Source, gpt, random_batches

from sbldlib.comparison import ARMS, Comparison, Subject, Table
from sbldlib.comparison.costs import Prices
from sbldlib.environment import environment
from sbldlib.losses import evaluate_loss
from sbldlib.training.optimizer import make_optimizer

NUM_LAYERS = 8
# Seconds a step that nothing has to measure: backward twice forward, the rest two blocks' worth.
PRICES = Prices(
    block_forward=0.001,
    block_backward=0.002,
    outside=0.006,
    fit=0.01,
    clock="process",
    rounds=1,
    machine=environment(),
)


def table(budget: str, *names: str) -> Table:
    return Table(budget=budget, arms=tuple(ARMS[name] for name in names))


TINY = Comparison(
    name="tiny",
    tables=(table("steps", "full depth", "shallower", "uniform", "sbld"),),
    seeds=(0, 1),
    steps=20,
    model={"num_layers": NUM_LAYERS, "width": 16},
    warmup_steps=3,
    sensitivity_batches=2,
    pilot_pairs=1,
    pilot_steps=20,
)
EVERY_BUDGET = replace(
    TINY,
    tables=tuple(
        table(budget, "full depth", "shallower", "sbld") for budget in ("steps", "flops", "seconds")
    ),
)


def subject(learning_rate: float = 1e-2) -> Subject:
    held_out = random_batches(2)
    return Subject(
        make_model=lambda seed, num_layers: gpt(num_layers, seed),
        make_data=Source,
        make_optimizer=lambda model, scale: make_optimizer(
            model, learning_rate=learning_rate * scale
        ),
        evaluations={"validation_loss": lambda model: evaluate_loss(model, held_out)},
        key=f"successors at {learning_rate}",
    )
