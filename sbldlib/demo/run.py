"""The whole method once through, on a small GPT: what `sbld demo` and the first notebook show.

Warm-up, sensitivities, lists, pilot variance, PWEGD fit; then full depth, PLD, SBLD and, as a
control, a full-depth model with as many layers as SBLD runs on average, all from one seed at equal
steps, each with its learning rate decayed to its own end. One seed shows how the parts work
together; it is no evidence that one method is better (METHOD section 7).
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ..data.arithmetic import chance_level, exact_match
from ..data.lesson import LessonData, prepare_lesson_data
from ..dropping.allocation import lowest_mean_keep
from ..dropping.lists import create_block_allow_lists
from ..dropping.schedules import tabulate
from ..dropping.variance import VarianceScheduler, create_variance_based_scheduler
from ..environment import environment
from ..errors import check_folder, check_kind
from ..losses import evaluate_loss
from ..measure import count_flops
from ..methods import LayerDropping, make_method, sbld
from ..methods.pilot import run_pilot
from ..models.gpt import GPT, PRESETS
from ..records import LayerLists, PilotData, RunRecord, SensitivityData, StepRecord
from ..sensitivity import calculate_sensitivities
from ..storage.settings import sha256_of_values
from ..training.config import Budget, TrainConfig
from ..training.ledger import read_ledger
from ..training.loop import train, train_steps
from ..training.optimizer import make_optimizer
from ..training.race import race
from ..training.record import make_run_record
from .record import DemoConfig, DemoRecord
from .table import table_rows

UNREACHED = 1_000_000  # a step beyond every run
SENSITIVITY_BATCHES = 32
ARMS = ("full depth", "pld", "sbld", "shallower")
OnStage = Callable[[str, int], None]  # what begins, and how many steps it takes
OnStep = Callable[[StepRecord], None]


@dataclass(frozen=True, kw_only=True)
class PreAnalysis:
    """What SBLD knows before it trains: sensitivities, lists, and the variance scheduler."""

    sensitivity: SensitivityData
    lists: LayerLists
    pilot: PilotData
    scheduler: VarianceScheduler
    seconds: dict[str, float] = field(default_factory=dict)


class Demo:
    """The demonstration, part by part; `run_demo` goes through all of them.

    Attributes:
        config: its sizes.
        data: text and problems, one for all runs.
    """

    def __init__(
        self,
        config: DemoConfig,
        *,
        folder: str | Path | None = None,
        on_stage: OnStage | None = None,
        on_step: OnStep | None = None,
    ):
        right = "a DemoConfig, such as DemoConfig(steps=100)"
        self.config = check_kind("config", config, DemoConfig, right)
        self._check_arms()
        # Named by what is asked: a folder may hold the runs of several demonstrations.
        asked = sha256_of_values(dataclasses.asdict(config))[:12]
        self.folder = None if folder is None else check_folder("folder", folder) / asked
        self._on_stage, self._on_step = on_stage or (lambda *_: None), on_step or (lambda _: None)
        self.data = self._prepare(config.seed)
        self.validation = self.data.validation[: config.num_validation_batches]
        self.problems = self.data.problems[: config.num_problems]

    def _check_arms(self) -> None:
        """Refuse before the warm-up what the arms would refuse after it."""
        method = make_method("pld", self.model(), saving=self.config.saving)
        tabulate(method.schedule, self.config.steps)  # few steps hold less than many

    def model(self, seed: int | None = None) -> GPT:
        """A fresh model; equal seeds give equal weights."""
        return GPT.from_preset(self.config.preset, seed=self.config.seed if seed is None else seed)

    def optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        """AdamW at the demonstration's base rate."""
        return make_optimizer(model, learning_rate=self.config.learning_rate)

    def analyse(self) -> PreAnalysis:
        """Warm-up, sensitivities, lists, pilot runs and the fit, each with its seconds."""
        seconds: dict[str, float] = {}
        sensitivity = self._sensitivity(seconds)
        lists = create_block_allow_lists(sensitivity)
        pilot = self._pilot(sensitivity, lists)
        seconds["pilot"] = pilot.seconds
        self._on_stage("PWEGD fit", 0)
        began = time.perf_counter()
        scheduler = scheduler_from(pilot, lists, saving=self.config.saving)
        seconds["fit"] = time.perf_counter() - began
        return PreAnalysis(
            sensitivity=sensitivity,
            lists=lists,
            pilot=pilot,
            scheduler=scheduler,
            seconds=seconds,
        )

    def arms(self, known: PreAnalysis) -> dict[str, RunRecord]:
        """All arms from one seed, a step each in turn, at equal steps."""
        self._on_stage(f"{', '.join(ARMS)} in turn", self.config.steps * len(ARMS))
        models = {arm: self._arm_model(arm) for arm in ARMS}
        methods = {arm: self._method(arm, models[arm], known) for arm in ARMS}
        optimizers = {arm: self.optimizer(model) for arm, model in models.items()}
        config = {arm: self._config(self.config.steps, arm) for arm in ARMS}
        evaluations = {"validation_loss": self.validation_loss, "accuracy": self.accuracy}
        running = {
            arm: train_steps(
                model,
                self.data.train,
                optimizers[arm],
                config=config[arm],
                callbacks=[methods[arm]],
                evaluations=evaluations,
                folder=self._place(arm),
            )
            for arm, model in models.items()
        }
        steps: dict[str, list[StepRecord]] = {arm: [] for arm in ARMS}
        for arm, record in race(running):
            steps[arm].append(record)
            self._on_step(record)
        if self.folder is not None:  # there may be steps from before this call
            steps = {arm: read_ledger(self.folder / arm) for arm in ARMS}
        return {
            arm: make_run_record(
                models[arm],
                steps[arm],
                config=config[arm],
                callbacks=[methods[arm]],
                optimizer=optimizers[arm],
            )
            for arm in ARMS
        }

    def validation_loss(self, model: nn.Module) -> float:
        """Loss on text that no run has seen, nats per token."""
        return evaluate_loss(model, self.validation)

    def accuracy(self, model: nn.Module) -> float:
        """Share of unseen arithmetic problems answered exactly, in [0, 1]."""
        return exact_match(model, self.problems, self.data.tokenizer)

    def _place(self, name: str) -> Path | None:
        """Where a run is kept while it trains."""
        return None if self.folder is None else self.folder / name

    def _sensitivity(self, seconds: dict[str, float]) -> SensitivityData:
        self._on_stage("warm-up", self.config.warmup_steps)
        model = self.model()
        run = train(
            model,
            self.data.train,
            self.optimizer(model),
            config=self._config(self.config.warmup_steps, "warm-up"),
            on_step=self._on_step,
            folder=self._place("warm-up"),
        )
        seconds["warm-up"] = run.seconds
        self._on_stage("sensitivities", 0)
        began = time.perf_counter()
        # Batches of the training text that no step of any run here will draw.
        batches = [self.data.train.batch(UNREACHED + i) for i in range(SENSITIVITY_BATCHES)]
        measured = calculate_sensitivities(
            model, batches=batches, iteration=self.config.warmup_steps
        )
        seconds["sensitivities"] = time.perf_counter() - began
        return measured

    def _pilot(self, sensitivity: SensitivityData, lists: LayerLists) -> PilotData:
        config = self._config(self.config.pilot_steps, "pilot")
        # Seeds of their own: the schedule is fitted to runs that are not the arms'.
        seeds = [self.config.seed + 1 + pair for pair in range(self.config.num_pilot_pairs)]
        return run_pilot(
            self.model,
            lambda seed: self._prepare(seed).train,
            self.optimizer,
            lambda model, seed: sbld(
                model, sensitivity, lists=lists, saving=self.config.saving, seed=seed
            ),
            seeds=seeds,
            config=config,
            on_run=lambda name: self._on_stage(name, self.config.pilot_steps),
            on_step=self._on_step,
            folder=self._place("pilot"),
            key=f"{self.config.preset}, text {self.data.fingerprint}",
        )

    def _prepare(self, seed: int) -> LessonData:
        shape = PRESETS[self.config.preset]
        return prepare_lesson_data(
            vocabulary_size=shape.vocabulary_size,
            context_length=shape.context_length,
            batch_size=self.config.batch_size,
            arithmetic_rows=self.config.arithmetic_rows,
            seed=seed,
        )

    def _arm_model(self, arm: str) -> GPT:
        if arm != "shallower":
            return self.model()
        num_layers = round((1 - self.config.saving) * PRESETS[self.config.preset].num_layers)
        return GPT.from_preset(self.config.preset, self.config.seed, num_layers=num_layers)

    def _method(self, arm: str, model: GPT, known: PreAnalysis) -> LayerDropping:
        seed = self.config.seed
        if arm in ("full depth", "shallower"):
            return make_method("none", model, seed=seed)
        if arm == "pld":
            return make_method("pld", model, saving=self.config.saving, seed=seed)
        return sbld(
            model, known.sensitivity, scheduler=known.scheduler, lists=known.lists, seed=seed
        )

    def _config(self, steps: int, name: str) -> TrainConfig:
        return TrainConfig(budget=Budget(steps=steps), name=name)


def run_demo(
    config: DemoConfig | None = None,
    *,
    folder: str | Path | None = None,
    on_stage: OnStage | None = None,
    on_step: OnStep | None = None,
) -> DemoRecord:
    """Go through the whole method once and return what was measured.

    Args:
        config: sizes; the defaults take minutes on two cores.
        folder: of its runs until all are done, so that a demonstration that was stopped goes on
            where it was; what was done by then is not told again.
        on_stage: told the name and number of steps of each part as it begins.
        on_step: told every training step.
    """
    config = DemoConfig() if config is None else config
    demo = Demo(config, folder=folder, on_stage=on_stage, on_step=on_step)
    known = demo.analyse()
    runs = demo.arms(known)
    sbld_run = runs["sbld"]
    if demo.folder is not None:
        shutil.rmtree(demo.folder, ignore_errors=True)
    return DemoRecord(
        settings=dataclasses.asdict(config),
        environment=environment(),
        data={"description": demo.data.description, "chance_level": chance_level(demo.problems)},
        sensitivity=known.sensitivity.to_dict(),
        lists=known.lists.to_dict(),
        pilot=known.pilot.to_dict(),
        fit={"reason": known.scheduler.reason, **known.scheduler.fit.to_dict()},
        preanalysis_seconds=known.seconds,
        table=tuple(table_rows(runs, outside_share=_outside_share(demo))),
        losses={arm: run.losses for arm, run in runs.items()},
        keep_probability=tuple(step.keep_probability for step in sbld_run),
        layers_run=tuple(step.layers_run for step in sbld_run),
    )


def scheduler_from(pilot: PilotData, lists: LayerLists, *, saving: float) -> VarianceScheduler:
    """The variance-based scheduler of a pilot, never below what the lists can hold."""
    return create_variance_based_scheduler(
        pilot, saving=saving, mean_keep_min=lowest_mean_keep(lists)
    )


def _outside_share(demo: Demo) -> float:
    return count_flops(demo.model(), demo.data.train.batch(0)).outside_share
