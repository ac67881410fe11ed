"""Measure what the parts of a step take: steps of several kinds in turns, medians of each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ..dropping.skipping import attach
from ..environment import environment
from ..records import PilotData, StepRecord
from ..training.callbacks import Callback, StepContext
from ..training.config import Budget, TrainConfig
from ..training.loop import train
from .costs import Prices
from .settings import Comparison
from .subject import Subject

ROUNDS = 21
WARMUP = 2  # rounds that do not count


def clock_of(comparison: Comparison) -> tuple[str, Callable[[], float]]:
    """The clock's name and the clock: the process's own where one thread does all the work."""
    if comparison.device == "cpu" and comparison.threads == 1:
        return "process", time.process_time
    return "wall", time.perf_counter


class Stopwatch(Callback):
    """Seconds of every step on a clock; first among the callbacks, so that it times the others."""

    def __init__(self, clock: Callable[[], float]):
        self._clock, self._began = clock, 0.0
        self.seconds: list[float] = []

    def before_step(self, context: StepContext) -> None:
        """Note when the step begins."""
        self._began = self._clock()

    def after_step(self, record: StepRecord) -> None:
        """Note what it took."""
        self.seconds.append(self._clock() - self._began)

    def state_dict(self) -> dict[str, Any]:
        """What the steps so far took."""
        return {"seconds": list(self.seconds)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after these steps."""
        self.seconds[:] = state["seconds"]


class _InTurn(Callback):
    """Each kind of step in turn: which layers are dropped, which run forward alone."""

    def __init__(self, model: torch.nn.Module, kinds: dict[str, tuple[set[int], set[int]]]):
        self._skipping, self._kinds = attach(model), list(kinds.values())

    def before_step(self, context: StepContext) -> None:
        """Set this step's kind."""
        dropped, forward_only = self._kinds[context.step % len(self._kinds)]
        self._skipping.clear_draw()
        self._skipping.set_dropped(dropped)
        if forward_only:
            self._skipping.set_forward_only(forward_only, gradient="identity")


def measure_prices(comparison: Comparison, subject: Subject, *, rounds: int = ROUNDS) -> Prices:
    """The prices on this machine, at this comparison's model and batch; some seconds.

    Args:
        rounds: interleaved steps of each kind; twice as many, and again, where something comes out
            as taking no time, which others on the same cores can bring about.

    Raises:
        RuntimeError: it still does.
    """
    name, clock = clock_of(comparison)
    for rounds_now in (rounds, 2 * rounds, 4 * rounds):
        medians = _medians(comparison, subject, clock, rounds_now)
        found = solve_prices(medians, comparison.num_layers)
        if min(found.values()) > 0:
            return Prices(
                **found,
                fit=_fit_seconds(comparison, clock),
                clock=name,
                rounds=rounds_now,
                machine=environment(),
            )
    raise RuntimeError(
        f"prices={found} came out of {rounds_now} rounds, and nothing takes no time: this machine "
        "has too much else to do; measure when it is quiet, or with more layers or width"
    )


def solve_prices(medians: Mapping[str, float], num_layers: int) -> dict[str, float]:
    """Seconds of a block's forward, its backward, and all else, from those of each kind of step.

    Args:
        medians: seconds by the names of `step_kinds`.
    """
    kinds = step_kinds(num_layers)
    runs = {kind: num_layers - len(dropped) for kind, (dropped, _) in kinds.items()}
    del runs["forward"]
    block, outside = np.polyfit(list(runs.values()), [medians[kind] for kind in runs], 1)
    backward = (medians["full"] - medians["forward"]) / len(kinds["forward"][1])
    return {
        "block_forward": float(block - backward),
        "block_backward": float(backward),
        "outside": float(outside),
    }


def step_kinds(num_layers: int) -> dict[str, tuple[set[int], set[int]]]:
    """Kind of step -> the layers that are dropped, and those that run forward alone."""
    half, most = set(range(1, num_layers, 2)), set(range(1, num_layers))
    dropping = {"full": (set(), set()), "half": (half, set()), "few": (most, set())}
    return {**dropping, "forward": (set(), half)}


def _medians(
    comparison: Comparison, subject: Subject, clock: Callable[[], float], rounds: int
) -> dict[str, float]:
    """Seconds of each kind of step."""
    kinds = step_kinds(comparison.num_layers)
    model = subject.make_model(0, comparison.num_layers)
    watch = Stopwatch(clock)
    train(
        model,
        subject.make_data(0),
        subject.make_optimizer(model, 1.0),
        config=TrainConfig(
            budget=Budget(steps=len(kinds) * (rounds + WARMUP)),
            precision=comparison.precision,
            compile_blocks=comparison.compile_blocks,
        ),
        callbacks=[watch, _InTurn(model, kinds)],
        loss=subject.loss,
    )
    return {
        kind: statistics.median(watch.seconds[place + WARMUP * len(kinds) :: len(kinds)])
        for place, kind in enumerate(kinds)
    }


def _fit_seconds(comparison: Comparison, clock: Callable[[], float]) -> float:
    """What fitting the variance of a pilot of this size takes; 0 where no arm asks for one."""
    if not any(arm.needs_variance for table in comparison.tables for arm in table.arms):
        return 0.0
    from ..dropping.variance import create_variance_based_scheduler  # needs scipy

    noise = np.random.default_rng(0).normal(
        size=(2, comparison.pilot_pairs, comparison.pilot_steps)
    )
    baseline, dropping = (tuple(map(tuple, runs)) for runs in noise.tolist())
    pilot = PilotData(
        baseline_losses=baseline,
        dropping_losses=dropping,
        seeds=tuple(range(comparison.pilot_pairs)),
        mean_keep=1 - comparison.saving,
        seconds=0.0,
    )
    began = clock()
    create_variance_based_scheduler(pilot)
    return clock() - began
