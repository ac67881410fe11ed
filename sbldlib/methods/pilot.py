"""Pilot runs: the same training with and without dropping, for the variance between them.

With a folder each run is kept as it ends, so that a pilot that was killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..dropping.blocks import check_model
from ..environment import installed_version
from ..errors import check_callable, check_folder, check_kind, check_seeds
from ..losses import device_of
from ..records import PilotData, Record, StepRecord
from ..signals import HeldSignals
from ..storage.settings import first_difference, read_signed, write_signed
from ..training.callbacks import Callback
from ..training.config import TrainConfig
from ..training.loop import train

ARMS = ("baseline", "dropping")


@dataclass(frozen=True, kw_only=True)
class PilotRun(Record):
    """One run of a pilot, as its file holds it.

    Attributes:
        settings: everything that decides the run, as plain values.
        losses: one a step, nats per token.
        mean_keep: the mean keep probability that was applied, in (0, 1].
        seconds, flops: what it cost when it ran: wall-clock, and operations run.
    """

    settings: dict[str, Any]
    losses: tuple[float, ...]
    mean_keep: float
    seconds: float
    flops: float


def run_pilot(
    make_model: Callable[[int], nn.Module],
    make_data: Callable[[int], Any],
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    make_dropping: Callable[[nn.Module, int], Callback],
    *,
    seeds: Sequence[int],
    config: TrainConfig,
    on_run: Callable[[str], None] | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
    folder: str | Path | None = None,
    key: str = "",
) -> PilotData:
    """Train each seed twice, at full depth and with dropping, and return the losses of both.

    Both runs of a pair share seed, data order and initial weights, so that what differs between
    them is the dropping alone.

    Args:
        make_model, make_data: from a seed; equal seeds must give equal weights and batches.
        make_optimizer: from a model.
        make_dropping: from a model and a seed: the method whose variance is asked.
        seeds: one a pair; different ones.
        config: of every run.
        on_run: told the name of each run as it begins; a run read from the folder does not begin.
        on_step: told every step of every run that is trained.
        folder: where each run is kept as soon as it ends, one file for each seed and method, so
            that the pilots of several methods share their baselines. What is there is read, with
            the cost that it had when it ran, and not trained again.
        key: names the model and the data, which a file cannot tell; needed with a folder.

    Raises:
        ValueError: no seeds, one named twice, a budget that gives the two runs different steps, a
            folder without a key, or a file in it that is damaged or of other settings.

    Source: the variance between baseline and layer dropping over training time is the paper's [P];
        pairs from shared seeds are ours [O], METHOD section 3.
    """
    for name, make in (
        ("make_model", make_model),
        ("make_data", make_data),
        ("make_optimizer", make_optimizer),
        ("make_dropping", make_dropping),
    ):
        check_callable(name, make, "a function")
    for name, told in (("on_run", on_run), ("on_step", on_step)):
        if told is not None:
            check_callable(name, told, "a function, or None")
    seeds = check_seeds("seeds", seeds)
    check_kind("config", config, TrainConfig, "a TrainConfig")
    if config.budget.flops is not None or config.budget.seconds is not None:
        raise ValueError(f"budget={config.budget} must be steps or tokens: pairs have equal steps")
    if folder is not None:
        folder = check_folder("folder", folder)
        if not check_kind("key", key, str, "text that names the model and the data"):
            raise ValueError("key='' must name the model and the data where a folder is given")
    runner = _Runner(
        make_model, make_data, make_optimizer, make_dropping, config, on_run, on_step, folder, key
    )
    with HeldSignals() as signals:
        pairs = [[runner.run(arm, seed, signals) for arm in ARMS] for seed in seeds]
    runs = [run for pair in pairs for run in pair]
    return PilotData(
        baseline_losses=tuple(baseline.losses for baseline, _ in pairs),
        dropping_losses=tuple(dropping.losses for _, dropping in pairs),
        seeds=seeds,
        mean_keep=sum(dropping.mean_keep for _, dropping in pairs) / len(pairs),
        seconds=sum(run.seconds for run in runs),
        flops=sum(run.flops for run in runs),
    )


@dataclass(frozen=True)
class _Runner:
    """What all runs of a pilot share; `run` trains one of them, or reads it where it is kept."""

    make_model: Callable[[int], nn.Module]
    make_data: Callable[[int], Any]
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    make_dropping: Callable[[nn.Module, int], Callback]
    config: TrainConfig
    on_run: Callable[[str], None] | None
    on_step: Callable[[StepRecord], None] | None
    folder: Path | None
    key: str

    def run(self, arm: str, seed: int, signals: HeldSignals) -> PilotRun:
        with random_state(seed):
            began = time.perf_counter()
            model = check_model(self.make_model(seed))
            callbacks = [self.make_dropping(model, seed)] if arm == "dropping" else []
            for made in callbacks:
                right = "a dropping method, such as sbld(model, sensitivity_data)"
                check_kind("make_dropping(model, seed)", made, Callback, right)
            data = self.make_data(seed)
            optimizer = check_kind(
                "make_optimizer(model)",
                self.make_optimizer(model),
                torch.optim.Optimizer,
                "an optimizer of torch, such as make_optimizer(model)",
            )
            settings = self._settings(arm, seed, model, optimizer, callbacks)
            # Pilots of several methods may share a folder, and their baselines with it.
            name = (settings["dropping"] or {}).get("method", arm)
            file = None if self.folder is None else self.folder / f"{name}-{seed}.json"
            if file is not None and file.exists():
                return _read(file, settings)
            if self.on_run is not None:
                self.on_run(f"pilot {arm}, seed {seed}")
            signals.let_through()  # within the run, it is the run that looks
            done = train(
                model,
                data,
                optimizer,
                config=replace(self.config, name=f"pilot {arm} {seed}"),
                callbacks=callbacks,
                on_step=self.on_step,
            )
            run = PilotRun(
                settings=settings,
                losses=done.losses,
                mean_keep=1 - done.realised_drop,
                seconds=time.perf_counter() - began,
                flops=sum(step.flops for step in done),
            )
            if file is not None:
                write_signed(file, run.to_dict())
            return run

    def _settings(
        self,
        arm: str,
        seed: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        callbacks: Sequence[Callback],
    ) -> dict[str, Any]:
        """Everything that decides a run."""
        groups = [
            {name: value for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        config = {name: value for name, value in asdict(self.config).items() if name != "name"}
        return {
            "arm": arm,
            "seed": seed,
            "key": self.key,
            "config": config,
            "optimizer": {"class": type(optimizer).__name__, "groups": groups},
            "dropping": callbacks[0].identity() if callbacks else None,
            "device": device_of(model).type,
            "versions": {name: installed_version(name) for name in ("sbldlib", "torch")},
        }


def _read(file: Path, settings: dict[str, Any]) -> PilotRun:
    """The run that a file holds, or ValueError where it is damaged or of other settings."""
    try:
        run = PilotRun.from_dict(read_signed(file))
    except ValueError as error:
        raise ValueError(
            f"{error}; {file} is not a pilot's run of this version: delete it"
        ) from None
    if (differing := first_difference(run.settings, settings)) is not None:
        field, there, asked = differing
        raise ValueError(
            f"{field}={asked} is asked for, but {file} is of {field}={there}: give another folder, "
            "or delete the file"
        )
    return run


@contextmanager
def random_state(seed: int) -> Iterator[None]:
    """torch's own state, which dropout inside a model draws from, seeded here and put back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
