"""One run of one arm, and its record: one JSON a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..environment import environment
from ..measure import FlopCount, count_flops, first_tensor
from ..methods import LayerDropping, make_method
from ..methods.pilot import random_state
from ..records import Record, RunRecord, StepRecord
from ..training.checkpoints import CheckpointConfig
from ..training.config import Budget, TrainConfig
from ..training.loop import train
from .analysis import Analysis, method_options, owed_seconds
from .arms import Arm
from .costs import Cost, Prices, flop_cost, planned_cost, steps_within
from .prices import Stopwatch, clock_of
from .settings import Comparison, Table
from .subject import Subject

OnStep = Callable[[StepRecord], None]
MakeModel = Callable[[int, int], nn.Module]  # seed, number of layers


WHILE_IT_TRAINS = CheckpointConfig(every_minutes=2, keep_last=1)


@dataclass(frozen=True, kw_only=True)
class ComparedRun(Record):
    """What one arm did at one budget from one seed.

    Attributes:
        comparison: its name.
        shared: the settings that all its arms have in common.
        subject: the subject's key.
        arm, budget, seed: what this run is.
        amount: of the budget, in its unit: steps, FLOPs or priced seconds.
        owed: what the pre-analysis cost, in the same unit (FLOPs for a budget in steps).
        paid: the part of it that was taken from the budget.
        environment: versions and machine.
        method: the method's own description.
        num_layers, num_steps: of the model and of the run; no step where the pre-analysis alone
            is more than the budget.
        losses: training loss of every step, nats per token.
        results: what was evaluated at the end, at full depth; {} where nothing was trained.
        realised_drop, realised_backward_drop: share of layer runs left out.
        layer_runs: each layer's share of the steps in which it ran.
        flops: operations of the run, pre-analysis not counted.
        saved_flops: share of them that full depth would have run on top.
        priced_seconds, seconds, wall_seconds: of training: by the prices, on the prices' clock,
            by the wall clock; evaluation not counted.
    """

    comparison: str
    shared: dict[str, Any]
    subject: str
    arm: dict[str, Any]
    budget: str
    seed: int
    amount: float
    owed: float
    paid: float
    environment: dict[str, Any]
    method: dict[str, Any]
    num_layers: int
    num_steps: int
    losses: tuple[float, ...] = ()
    results: dict[str, float] = dataclasses.field(default_factory=dict)
    realised_drop: float = 0.0
    realised_backward_drop: float = 0.0
    layer_runs: tuple[float, ...] = ()
    flops: float = 0.0
    saved_flops: float = 0.0
    priced_seconds: float = 0.0
    seconds: float = 0.0
    wall_seconds: float = 0.0

    @property
    def name(self) -> str:
        """The arm's."""
        return self.arm["name"]


def file_name(budget: str, arm: str, seed: int) -> str:
    """Where this run lies, within the folder of runs."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in arm)
    return f"{budget}--{plain}--seed{seed}.json"


def load_runs(folder: str | Path) -> list[ComparedRun]:
    """Every run of a comparison's folder, by file name."""
    return [ComparedRun.load(path) for path in sorted((Path(folder) / "runs").glob("*.json"))]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One run to be done, with all that decides it."""

    comparison: Comparison
    subject: Subject
    table: Table
    arm: Arm
    seed: int
    start: MakeModel
    analysis: Analysis | None
    prices: Prices

    @property
    def file_name(self) -> str:
        """Of its record."""
        return file_name(self.table.budget, self.arm.name, self.seed)

    @property
    def num_layers(self) -> int:
        """Of the arm's model."""
        return self.comparison.layers_at(self.arm.depth)


def run_task(task: Task, *, folder: Path, on_step: OnStep | None = None) -> ComparedRun:
    """Train one arm to its budget and measure it; deterministic but for its measured seconds.

    Args:
        folder: of the run while it trains, so that one that was killed goes on where it was.
        on_step: told every step.
    """
    known, seed = task.comparison, task.seed
    with random_state(seed):
        model = _starting_model(task)
        data = task.subject.make_data(seed)
        method = make_method(
            task.arm.method,
            model,
            saving=known.saving,
            seed=seed,
            **{"mode": known.mode, **method_options(task.arm, known, task.analysis)},
        )
        first = data.batch(0)
        count = count_flops(model, first, loss=task.subject.loss)
        rows = len(first_tensor(first))
        amount, owed, steps = affordable(task, method, count, rows)
        paid = owed if task.arm.charged and task.table.budget != "steps" else 0.0
        record = ComparedRun(
            comparison=known.name,
            shared=known.shared(),
            subject=task.subject.key,
            arm=dataclasses.asdict(task.arm),
            budget=task.table.budget,
            seed=seed,
            amount=amount,
            owed=owed,
            paid=paid,
            environment=environment(),
            method=method.describe(),
            num_layers=task.num_layers,
            num_steps=steps,
        )
        if steps == 0:
            return record
        watch = Stopwatch(clock_of(known)[1])
        run = train(
            model,
            data,
            task.subject.make_optimizer(model, task.arm.learning_rate_scale),
            folder=folder,
            checkpoints=WHILE_IT_TRAINS,
            config=TrainConfig(
                budget=Budget(steps=steps),
                precision=known.precision,
                compile_blocks=known.compile_blocks,
                name=task.arm.name,
            ),
            callbacks=[watch, method],
            evaluations=task.subject.evaluations,
            loss=task.subject.loss,
            on_step=on_step,
        )
    return _with_results(record, run, task, watch)


def affordable(
    task: Task, method: LayerDropping, count: FlopCount, num_rows: int
) -> tuple[float, float, int]:
    """The budget, what the pre-analysis costs in its unit, and the steps that are left for it."""
    known, budget = task.comparison, task.table.budget
    full_depth = flop_cost(count) if task.arm.depth == "full" else _full_depth_cost(task)
    owed = 0.0 if task.analysis is None else task.analysis.charge(task.arm, full_depth)
    if budget == "steps":
        return float(known.steps), owed, known.steps
    cost, reference = flop_cost(count), full_depth
    if budget == "seconds":
        cost, reference = task.prices.cost(task.num_layers), task.prices.cost(known.num_layers)
        if task.analysis is not None:
            owed = owed_seconds(task.analysis, task.arm, task.prices, known.num_layers)
    blocks = reference.full - reference.outside
    amount = known.steps * (reference.outside + (1 - known.saving) * blocks)
    left = amount - (owed if task.arm.charged else 0.0)
    if left <= 0:
        return amount, owed, 0
    steps = steps_within(
        left, lambda steps: planned_cost(method, cost, steps, num_rows), guess=known.steps
    )
    return amount, owed, steps


def _full_depth_cost(task: Task) -> Cost:
    model = task.subject.make_model(task.seed, task.comparison.num_layers)
    first = task.subject.make_data(task.seed).batch(0)
    return flop_cost(count_flops(model, first, loss=task.subject.loss))


def _starting_model(task: Task) -> nn.Module:
    known = task.comparison
    if task.arm.depth != "pruned":
        return task.start(task.seed, task.num_layers)
    from ..dropping.export import prune

    assert task.analysis is not None
    least_first = task.analysis.sensitivity_data.ranking()[::-1]
    whole = task.start(task.seed, known.num_layers)
    return prune(whole, least_first[: known.num_layers - task.num_layers])


def _with_results(record: ComparedRun, run: RunRecord, task: Task, watch: Stopwatch) -> ComparedRun:
    price = task.prices.cost(task.num_layers)
    return dataclasses.replace(
        record,
        losses=tuple(round(loss, 5) for loss in run.losses),
        results=run.final,
        realised_drop=run.realised_drop,
        realised_backward_drop=run.realised_backward_drop,
        layer_runs=_layer_runs(run),
        flops=sum(step.flops for step in run),
        saved_flops=run.flops_saved,
        priced_seconds=sum(price.of_step(step) for step in run),
        seconds=sum(watch.seconds),
        wall_seconds=run.seconds,
    )


def _layer_runs(run: RunRecord) -> tuple[float, ...]:
    ran = [0] * run.num_layers
    for step in run:
        for layer in step.layers_run:
            ran[layer] += 1
    return tuple(round(times / len(run), 4) for times in ran)
