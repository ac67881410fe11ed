"""The work behind the commands, replaced by a note of what was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from faults.world import COMPARISON, SENSITIVITY, STEP, Source, World

import sbldlib
from sbldlib import cli, cli_training
from sbldlib.comparison import ComparisonSummary
from sbldlib.data.reading import check_root
from sbldlib.demo import DemoConfig, DemoRecord, run_demo
from sbldlib.errors import check_choice
from sbldlib.live.record import LiveRecord
from sbldlib.live.replay import Replay
from sbldlib.pretraining import PretrainConfig, measure
from sbldlib.pretraining.run import _Pretraining
from sbldlib.pretraining.text import dataset_of
from sbldlib.sensitivity import ESTIMATORS

RUN = sbldlib.RunRecord(
    name="small", configuration={"callbacks": ({"method": "none"},)}, environment={},
    num_layers=3, num_parameters=1,
    steps=(replace(STEP, evaluations={"validation_loss": 1.0, "accuracy": 0.5}),),
)  # fmt: skip

REPLAY = Replay(num_steps=1, difference=None, elsewhere={})
LIVE_RUN = LiveRecord(start={}, against=None, seed=0, names=("steered",), runs=(RUN,))


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """In this folder, with the kit's cache there."""
    before = Path.cwd()
    os.chdir(folder)
    with mock.patch.dict(os.environ, {"SBLD_DATA": str(folder)}):
        try:
            yield
        finally:
            os.chdir(before)


@contextmanager
def replaced_work() -> Iterator[list[str]]:
    """The commands' work as a note of what was asked for, and records of a run made before."""
    asked: list[str] = []
    demo, compared = small_demo(), small_comparison()

    def note(name: str, result: Any) -> Callable[..., Any]:
        return lambda *args, **given: (asked.append(name), result)[1]

    with (
        mock.patch.object(cli, "run_demo", note("the demonstration", demo)),
        mock.patch.object(cli, "save_demo_figures", note("figures", [Path("x.png")])),
        mock.patch.object(cli, "compare", note("the comparison", compared)),
        mock.patch.object(cli, "launch", note("processes", 0)),
        mock.patch.object(cli_training, "launch", note("processes", 0)),
        mock.patch.object(cli_training, "prepare", looked_at),
        mock.patch.object(cli_training, "replay_live", note("the replay", REPLAY)),
        mock.patch.object(
            cli_training,
            "pretrain",
            lambda **given: (looked_at(**given), asked.append("the run"), RUN)[2],
        ),
        mock.patch.object(measure, "calculate_sensitivities", measured),
        mock.patch.object(measure, "text_for", texts_for),
        mock.patch.object(cli.torch, "set_num_threads", lambda num: None),
    ):
        yield asked


def looked_at(**given: Any) -> None:
    """What `pretrain` looks at before it trains; the text itself is not tokenized."""
    given = {"workers": None, "on_stage": None, "on_step": None, **given}

    def found(config: PretrainConfig, *_: Any) -> Any:
        if config.dataset:
            dataset_of(config.dataset, config.columns)
        return texts_for(corpus=config.corpus)

    with mock.patch.object(PretrainConfig, "data", found):
        _Pretraining(**given)


def texts_for(*_: Any, corpus: str | None = None, **__: Any) -> Any:
    """No text, of a corpus that could be one."""
    if corpus is not None:
        check_root(corpus)
    return mock.Mock(train=Source())


def measured(model: Any, *, method: str, **_: Any) -> Any:
    """Sensitivities that were not measured, by a method that could have."""
    check_choice("method", method, ESTIMATORS)
    return SENSITIVITY


@cache
def small_demo() -> DemoRecord:
    """A demonstration's record, of a real one cut to a second."""
    with TemporaryDirectory() as folder, within(Path(folder)):
        return run_demo(tiny_demo(steps=4, saving=0.2))


def tiny_demo(**changes: Any) -> DemoConfig:
    """The demonstration with everything cut to a second."""
    settings = {"warmup_steps": 2, "pilot_steps": 20, "num_pilot_pairs": 1, "batch_size": 2}
    settings |= {"arithmetic_rows": 1, "num_validation_batches": 2, "num_problems": 4}
    return DemoConfig(**{**settings, **changes})


@cache
def small_comparison() -> ComparisonSummary:
    """A comparison's summary, of a real one of the smallest models."""
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        return sbldlib.compare(
            COMPARISON, folder=folder, subject=world.subject, prices=world.prices
        )
