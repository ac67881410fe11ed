"""The tiny run that every fault is done to: small, and with everything that a run can remember.

Dropping that a hand steers, dropout, draws from every global generator, a callback with a memory,
accumulation, evaluations, and a loss whose digits say all of it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from faults.judge import found
from faults.lives import announce
from torch import Tensor, nn

from sbldlib.dropping.schedules import constant
from sbldlib.live.dropping import LiveDropping
from sbldlib.losses import evaluate_loss
from sbldlib.methods import make_method
from sbldlib.models.gpt import GPT, GPTConfig
from sbldlib.records import SensitivityData, StepRecord
from sbldlib.storage.files import write_atomically
from sbldlib.training.callbacks import Callback, StepContext
from sbldlib.training.checkpoints import CheckpointConfig
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.controls import Controls
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

V, T = 16, 8  # vocabulary, tokens
NUM_LAYERS = 3
METHODS = ("uniform", "sbld")
SAVINGS = (0.1, 0.15, 0.2, 0.25)
SENSITIVITY = SensitivityData(values=(0.9, 0.1, 0.3), standard_errors=(0.1,) * 3, num_batches=2)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run, as the process that trains it is told it.

    Attributes:
        scope: "per_batch" has the live method, which changes in the run; "per_sequence" one method.
        script: changes of the controls that are made at their steps whoever trains.
        hand: of a random hand on the controls in this life; None for none.
        write: where to write what the run came to.
        perturb: break the promise on purpose: move the weights a little where it is taken up.
    """

    folder: str | None = None
    seed: int = 0
    steps: int = 24
    scope: str = "per_batch"
    method: str = "uniform"
    width: int = 8
    evaluate_every: int = 5
    every_steps: int = 4
    keep_last: int = 2
    keep_best: bool = True
    resume: str | int = "auto"
    script: tuple[tuple[int, str, Any, Any], ...] = ()
    hand: int | None = None
    write: str | None = None
    perturb: bool = False


class Source:
    """Rows that count on from a random start; a pure function of seed, step and micro-batch."""

    def __init__(self, seed: int, rows: int = 2):
        self.seed, self.rows = seed, rows

    def batch(self, step: int, micro_batch: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(10_000 * self.seed + 10 * step + micro_batch)
        starts_B1 = torch.randint(0, V, (self.rows, 1), generator=generator)
        tokens_BT = (starts_B1 + torch.arange(T + 1)) % V
        return tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()


class Steered(Callback):
    """One method whose saving a hand may change."""

    def __init__(self, method: Any):
        self._method, self._saving = method, None

    def before_step(self, context: StepContext) -> None:
        saving = context.controls["saving"]
        if saving != self._saving:
            self._method.schedule, self._saving = constant(1 - saving), saving
        self._method.before_step(context)

    def after_step(self, record: StepRecord) -> None:
        self._method.after_step(record)

    def describe(self) -> dict[str, Any]:
        return self._method.describe()

    def state_dict(self) -> dict[str, Any]:
        return self._method.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._method.load_state_dict(state)


class Restless(Callback):
    """Remembers the losses and moves a weight by them, and by all global generators."""

    def __init__(self, weight: Tensor):
        self._weight, self.mean = weight, 0.0

    def before_step(self, context: StepContext) -> None:
        draw = random.random() + float(np.random.random())
        with torch.no_grad():
            self._weight.add_(1e-4 * self.mean * draw)

    def after_step(self, record: StepRecord) -> None:
        self.mean = 0.9 * self.mean + 0.1 * record.loss_nats

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean = state["mean"]


@dataclass
class Parts:
    """What `train` is given for a job."""

    model: GPT
    optimizer: torch.optim.Optimizer
    controls: Controls
    arguments: dict[str, Any]


def make_parts(job: Job) -> Parts:
    """Model, optimizer and all else of a job, from its seed; the global generators as well."""
    torch.manual_seed(job.seed)
    np.random.seed(job.seed)
    random.seed(job.seed)
    model = GPT(
        GPTConfig(
            vocabulary_size=V,
            context_length=T,
            num_layers=NUM_LAYERS,
            num_heads=2,
            width=job.width,
            dropout=0.1,
            init_std=0.3,
        ),
        seed=job.seed,
    )
    controls = Controls(
        {"dropping": True, "method": job.method, "saving": 0.2},
        replay=[tuple(entry) for entry in job.script],
    )
    optimizer = make_optimizer(model, learning_rate=1e-2)
    held_out = [Source(job.seed + 1000).batch(step) for step in range(2)]
    arguments = {
        "config": TrainConfig(
            budget=Budget(steps=job.steps), accumulate=2, evaluate_every=job.evaluate_every
        ),
        "callbacks": [make_dropping(job, model), Restless(next(iter(model.parameters())))],
        "evaluations": {"validation_loss": lambda model: evaluate_loss(model, held_out)},
        "controls": controls,
    }
    return Parts(model, optimizer, controls, arguments)


def make_dropping(job: Job, model: nn.Module) -> Callback:
    """The live method, or one that drops row by row."""
    if job.scope == "per_batch":
        return LiveDropping(model, sensitivity_data=SENSITIVITY, seed=job.seed)
    return Steered(
        make_method(
            job.method,
            model,
            saving=0.2,
            seed=job.seed,
            sensitivity_data=SENSITIVITY,
            scope="per_sequence",
        )
    )


def run_job(job: Job, on_step: Callable[[StepRecord], None] | None = None) -> dict[str, Any]:
    """Train a job in this process; what it came to."""
    parts = make_parts(job)
    hand = Hand(parts.controls, job) if job.hand is not None else None

    def after_step(record: StepRecord) -> None:
        if hand is not None:
            hand.move()
        if on_step is not None:
            on_step(record)

    if job.perturb:
        parts.arguments["callbacks"].append(Perturbing(parts.model))
    record = train(
        parts.model,
        Source(job.seed),
        parts.optimizer,
        **parts.arguments,
        on_step=after_step,
        folder=job.folder,
        checkpoints=checkpoint_config(job),
        resume=job.resume,
    )
    return found(record, parts.model, parts.optimizer)


def checkpoint_config(job: Job) -> CheckpointConfig:
    """When a job is saved."""
    return CheckpointConfig(
        every_steps=job.every_steps,
        keep_last=job.keep_last,
        keep_best="validation_loss" if job.keep_best else None,
    )


class Hand:
    """Changes the controls now and then, as a person would."""

    def __init__(self, controls: Controls, job: Job):
        self._controls, self._draw = controls, random.Random(job.hand)
        self._may_choose = job.scope == "per_batch"

    def move(self) -> None:
        """Perhaps change something, from the next step on."""
        if self._draw.random() < 0.3:
            self._controls.set("saving", self._draw.choice(SAVINGS))
        if self._may_choose and self._draw.random() < 0.2:
            self._controls.set("method", self._draw.choice(METHODS))
        if self._may_choose and self._draw.random() < 0.1:
            self._controls.set("dropping", not self._controls["dropping"])


class Perturbing(Callback):
    """Moves one weight at the first step of a life that is not the run's first."""

    def __init__(self, model: nn.Module):
        self._weight, self._done = next(iter(model.parameters())), False

    def before_step(self, context: StepContext) -> None:
        if context.step and not self._done:
            with torch.no_grad():
                self._weight[0, 0] += 1e-6
        self._done = True


# ---- tasks


def undisturbed(job: dict[str, Any]) -> None:
    """A run that no folder keeps."""
    announce("begins")
    write(replace(job_of(job), folder=None))


def live(job: dict[str, Any]) -> None:
    """One life of a run that a folder keeps."""
    announce("begins")
    write(job_of(job))


def write(job: Job) -> None:
    """Train, telling when the first step is done, and write what it came to."""
    assert job.write is not None
    told: list[bool] = []

    def on_step(_: StepRecord) -> None:
        if not told:
            announce("trains")
        told.append(True)

    write_atomically(job.write, json.dumps(run_job(job, on_step)).encode())


def job_of(values: dict[str, Any]) -> Job:
    """A job from its plain values."""
    return Job(**{**values, "script": tuple(map(tuple, values.get("script", ())))})


def plain(job: Job) -> dict[str, Any]:
    """A job as plain values."""
    return asdict(job)
