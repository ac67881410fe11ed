"""What the live panel takes from training: steps per second with it and without it.

Both train in a thread, at full depth, with the same live controls; one is watched by the panel at
its own rate. Besides the wall clock, which other programs disturb, the processor time of all but
the training thread is taken: what the panel would cost on a single core. No page is open: sending
the picture to a browser is not counted.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from sbldlib.environment import installed_version
from sbldlib.methods.live import LiveDropping
from sbldlib.models.gpt import GPT
from sbldlib.records import StepRecord
from sbldlib.training.callbacks import Callback
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.controls import Controls
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

from .common import (
    Batch,
    Finding,
    Prepared,
    Question,
    Rounds,
    Setting,
    UnavailableError,
    make_batch,
    make_model,
)
from .timing import differences, ratios, spread

if TYPE_CHECKING:
    from sbldlib.panels import LiveTraining

TARGET = 3.0  # percent of training
LONG_STEP = 0.05  # seconds; the target is for steps of at least this length
STEPS_PER_WINDOW = 15
NUM_WINDOWS = 4  # of one run; the first, in which the axes are first drawn, does not count
NUM_STEPS = STEPS_PER_WINDOW * NUM_WINDOWS
CONFIG = TrainConfig(budget=Budget(steps=NUM_STEPS))
CONTROLS: dict[str, Any] = {"dropping": False, "method": "uniform", "saving": 0.25}


class RandomTokens:
    """A batch source, so that the loss on the picture moves as a loss does."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def batch(self, step: int, micro_batch: int = 0) -> Batch:
        """Another batch at each step."""
        return make_batch(self._setting, seed=step)


class Clock(Callback):
    """At each window's end: the wall clock, and the processor time of all other threads."""

    def __init__(self) -> None:
        self._wall: list[float] = []
        self._others: list[float] = []

    def after_step(self, record: StepRecord) -> None:
        """Look at both clocks where a window ends."""
        if (record.step + 1) % STEPS_PER_WINDOW == 0:
            self._wall.append(time.perf_counter())
            self._others.append(time.process_time() - time.thread_time())

    @property
    def seconds_per_step(self) -> list[float]:
        """Wall seconds a step, one value a window."""
        return [seconds / STEPS_PER_WINDOW for seconds in differences(*_ends(self._wall))]

    @property
    def others_per_second(self) -> list[float]:
        """Processor seconds of the other threads in each wall second, one value a window."""
        return ratios(differences(*_ends(self._others)), differences(*_ends(self._wall)))


def _ends(times: list[float]) -> tuple[list[float], list[float]]:
    """Ends and starts of the windows."""
    return times[1:], times[:-1]


def prepare(setting: Setting) -> Prepared:
    """Runs with and without the panel, and the drawing of its picture."""
    if installed_version("ipywidgets") is None:
        raise UnavailableError("ipywidgets is not installed, so the panel's cost is not measured")
    if torch.get_num_threads() > 1:
        raise UnavailableError("the panel's cost is measured with one thread of torch's")
    drawn = make_panel(make_model(setting), setting).start("sync")

    def drawing() -> dict[str, list[float]]:
        times = [time.process_time()]
        for _ in range(NUM_WINDOWS - 1):
            drawn.picture()
            times.append(time.process_time())
        return {"drawing": differences(*_ends(times))}

    models = {name: make_model(setting) for name in ("without", "with")}
    arms = {
        "without": lambda: without_panel(models["without"], setting),
        "with": lambda: with_panel(models["with"], setting),
        "drawing": drawing,
    }
    return Prepared(arms=arms, own_clock=True)


def without_panel(model: GPT, setting: Setting) -> dict[str, list[float]]:
    """Seconds a step of training in a thread that nobody watches."""
    clock = Clock()
    arguments = (model, RandomTokens(setting), make_optimizer(model))
    options = {
        "config": CONFIG,
        "callbacks": [LiveDropping(model), clock],
        "controls": Controls(CONTROLS),
    }
    thread = threading.Thread(target=train, args=arguments, kwargs=options)
    thread.start()
    thread.join()
    return {"without": clock.seconds_per_step}


def with_panel(model: GPT, setting: Setting) -> dict[str, list[float]]:
    """Seconds a step below a live panel, and what the panel's thread took of each second."""
    clock = Clock()

    async def run() -> None:
        await make_panel(model, setting, clock).start("thread").wait()

    asyncio.run(run())
    return {"with": clock.seconds_per_step, "panel": clock.others_per_second}


def make_panel(model: GPT, setting: Setting, *callbacks: Callback) -> LiveTraining:
    """A live panel over random tokens, its dropping switched off."""
    from sbldlib.panels import LiveTraining

    return LiveTraining(
        model,
        RandomTokens(setting),
        make_optimizer(model),
        config=CONFIG,
        callbacks=callbacks,
        **CONTROLS,
    )


def findings(rounds: Rounds, facts: Mapping[str, Any]) -> tuple[Finding, ...]:
    """The panel's share of training by both clocks, and the time of one drawing."""
    target = TARGET if spread(rounds["without"]).median >= LONG_STEP else None
    cost = [100 * (ratio - 1) for ratio in ratios(rounds["with"], rounds["without"])]
    return (
        Finding(
            claim="the live panel's processor time, of each second of training",
            unit="%",
            spread=spread([100 * share for share in rounds["panel"]]),
            at_most=target,
        ),
        Finding(
            claim="training under the live panel, over training without it, by the wall clock",
            unit="%",
            spread=spread(cost),
            at_most=target,
        ),
        Finding(
            claim="one drawing of the panel's picture",
            unit="ms",
            spread=spread([1e3 * seconds for seconds in rounds["drawing"]]),
        ),
    )


QUESTION = Question(name="panel", rounds={"cpu": 3}, prepare=prepare, findings=findings)
