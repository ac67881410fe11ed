"""What the live panel takes from training: steps per second with it and without it.

All arms train in a thread, at full depth or so close to it that the work is the same, with the same
live controls; three are watched by the panel: at three refreshes a second, at one, and at three
while its slider sends 1,000 events a second, as a hand's does, but without a rest. Besides the wall
clock, which other programs disturb, the processor time of all but the training thread is taken:
what the panel would cost on a single core. No page is open: sending the picture to a browser, and
a kernel's taking a message apart, are not counted.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from sbldlib.environment import installed_version
from sbldlib.models.gpt import GPT
from sbldlib.records import StepRecord
from sbldlib.training.callbacks import Callback
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.controls import Controls
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

from . import panel_events
from .common import (
    Batch,
    Finding,
    Prepared,
    Question,
    Rounds,
    Setting,
    UnavailableError,
    bare_step,
    make_batch,
    make_model,
)
from .panel_events import SAVINGS, as_logged, send_events
from .timing import differences, ratios, spread

if TYPE_CHECKING:
    from sbldlib.panels import LiveTraining

LONG_STEP = 0.05  # seconds; the targets are for steps of at least this length
NUM_WINDOWS = 4  # of one run; the first, in which the axes are first drawn, does not count
SECONDS_PER_WINDOW = 11.0  # about; so that events come for 30 seconds
CONTROLS: dict[str, Any] = {"dropping": True, "method": "uniform", "saving": SAVINGS[0]}
# Arm -> refreshes a second, events a second, and the most that it may take, in percent.
WATCHED = {
    "three a second": (3.0, 0, 3.0),
    "one a second": (1.0, 0, 1.0),
    "events": (3.0, 1000, 5.0),
}


class RandomTokens:
    """A batch source, so that the loss on the picture moves as a loss does."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def batch(self, step: int, micro_batch: int = 0) -> Batch:
        """Another batch at each step."""
        return make_batch(self._setting, seed=step)


class Clock(Callback):
    """At each window's end: the wall clock, and the processor time of all other threads.

    Attributes:
        savings: the asked saving in force at each step so far.
    """

    def __init__(self, steps_per_window: int) -> None:
        self.savings: list[float] = []
        self._steps_per_window = steps_per_window
        self._wall: list[float] = []
        self._others: list[float] = []

    def after_step(self, record: StepRecord) -> None:
        """Look at both clocks where a window ends."""
        self.savings.append(record.controls["saving"])
        if (record.step + 1) % self._steps_per_window == 0:
            self._wall.append(time.perf_counter())
            self._others.append(time.process_time() - time.thread_time())

    @property
    def seconds_per_step(self) -> list[float]:
        """Wall seconds a step, one value a window."""
        return [seconds / self._steps_per_window for seconds in differences(*_ends(self._wall))]

    @property
    def others_per_second(self) -> list[float]:
        """Processor seconds of the other threads in each wall second, one value a window."""
        return ratios(differences(*_ends(self._others)), differences(*_ends(self._wall)))


def _ends(times: list[float]) -> tuple[list[float], list[float]]:
    """Ends and starts of the windows."""
    return times[1:NUM_WINDOWS], times[: NUM_WINDOWS - 1]


def prepare(setting: Setting) -> Prepared:
    """Runs with and without the panel, and the drawing of its picture."""
    if installed_version("ipywidgets") is None:
        raise UnavailableError("ipywidgets is not installed, so the panel's cost is not measured")
    if torch.get_num_threads() > 1:
        raise UnavailableError("the panel's cost is measured with one thread of torch's")
    models = {name: make_model(setting) for name in ("without", *WATCHED)}
    steps_per_window = math.ceil(SECONDS_PER_WINDOW / _seconds_per_step(setting))
    arms = {"without": partial(without_panel, models["without"], setting, steps_per_window)}
    for name in WATCHED:
        arms[name] = partial(with_panel, models[name], setting, steps_per_window, name)
    return Prepared(
        arms={**arms, "drawing": partial(drawing, setting)},
        facts={"steps_per_window": steps_per_window},
        own_clock=True,
    )


def _seconds_per_step(setting: Setting, num_steps: int = 5) -> float:
    model = make_model(setting)
    step = bare_step(model, make_batch(setting), setting, optimizer=make_optimizer(model))
    step()
    began = time.perf_counter()
    for _ in range(num_steps):
        step()
    return (time.perf_counter() - began) / num_steps


def _config(steps_per_window: int) -> TrainConfig:
    return TrainConfig(budget=Budget(steps=steps_per_window * NUM_WINDOWS))


def without_panel(model: GPT, setting: Setting, steps_per_window: int) -> dict[str, list[float]]:
    """Seconds a step of training in a thread that nobody watches."""
    from sbldlib.live.dropping import LiveDropping

    clock = Clock(steps_per_window)
    arguments = (model, RandomTokens(setting), make_optimizer(model))
    options = {
        "config": _config(steps_per_window),
        "callbacks": [LiveDropping(model), clock],
        "controls": Controls(CONTROLS),
    }
    thread = threading.Thread(target=train, args=arguments, kwargs=options)
    thread.start()
    thread.join()
    return {"without": clock.seconds_per_step}


def with_panel(
    model: GPT, setting: Setting, steps_per_window: int, name: str
) -> dict[str, list[float]]:
    """Seconds a step below a live panel, and what the panel's thread took of each second."""
    clock = Clock(steps_per_window)
    refreshes, events, _ = WATCHED[name]
    found: dict[str, list[float]] = {}

    async def run() -> None:
        config = _config(steps_per_window)
        seconds = 1 / refreshes
        panel = make_panel(model, setting, clock, config=config, refresh_seconds=seconds)
        panel.start("thread")
        if events:
            end = steps_per_window * NUM_WINDOWS - panel_events.STEPS_AFTER
            sending = send_events(panel, clock.savings, events, steps_per_window, end)
            found.update(await sending)
        await panel.wait()
        if events:
            found["steps as logged"] = [as_logged(clock.savings, panel.controls.log)]

    asyncio.run(run())
    return {name: clock.seconds_per_step, f"{name}, panel": clock.others_per_second, **found}


def make_panel(model: GPT, setting: Setting, *callbacks: Callback, **options: Any) -> LiveTraining:
    """A live panel over random tokens."""
    from sbldlib.panels import LiveTraining

    return LiveTraining(
        model,
        RandomTokens(setting),
        make_optimizer(model),
        callbacks=callbacks,
        **{**CONTROLS, **options},
    )


def drawing(setting: Setting) -> dict[str, list[float]]:
    """Seconds of one drawing of a short run's picture."""
    config = TrainConfig(budget=Budget(steps=60))
    panel = make_panel(make_model(setting), setting, config=config).start("inline")
    times = [time.process_time()]
    for _ in range(NUM_WINDOWS - 1):
        panel.picture()
        times.append(time.process_time())
    return {"drawing": differences(times[1:], times[:-1])}


def findings(rounds: Rounds, facts: Mapping[str, Any]) -> tuple[Finding, ...]:
    """The panel's share of training by both clocks in each arm, its drawing, and lost events."""
    is_long = spread(rounds["without"]).median >= LONG_STEP
    found = []
    for name, (refreshes, events, target) in WATCHED.items():
        where = f"at {refreshes:g} refreshes a second"
        where += f" and {panel_events.per_second(rounds):,.0f} events a second" if events else ""
        cost = [100 * (ratio - 1) for ratio in ratios(rounds[name], rounds["without"])]
        at_most = target if is_long else None
        found += [
            Finding(
                claim=f"the live panel {where}: its processor time, of each second of training",
                unit="%",
                spread=spread([100 * share for share in rounds[f"{name}, panel"]]),
                at_most=at_most,
            ),
            Finding(
                claim="the same, over training without it, by the wall clock",
                unit="%",
                spread=spread(cost),
                at_most=at_most,
            ),
        ]
    drawn = [1e3 * seconds for seconds in rounds["drawing"]]
    found.append(
        Finding(claim="one drawing of the panel's picture", unit="ms", spread=spread(drawn))
    )
    return (*found, *panel_events.findings(rounds))


QUESTION = Question(name="panel", rounds={"cpu": 3}, prepare=prepare, findings=findings)
