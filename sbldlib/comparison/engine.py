"""Run a comparison: what is there is kept, what is missing is done, whole pairs first."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load, save
from torch import nn

from ..records import Record, StepRecord
from ..storage.checkpoints import CheckpointError
from ..storage.files import write_atomically
from ..storage.lock import FolderLock
from ..training.config import Budget, TrainConfig
from ..training.folder import RunMismatchError
from ..training.launch import Workers, workers_here
from ..training.loop import train
from .analysis import Analysis, analyse
from .costs import Prices
from .door import check_arguments
from .folder import prepare_folder
from .prices import measure_prices
from .runs import ComparedRun, Task, run_task
from .settings import Comparison
from .subject import Subject, gpt_subject
from .summary import ComparisonSummary, summarise

T = TypeVar("T", bound=Record)
RUNNING = "running"  # the folders of runs that are not done
OnStep = Callable[[StepRecord], None]


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What a comparison does next.

    Attributes:
        title: in words.
        steps: that it takes at most; 0 where that is not known.
        done, total: runs before it in the list, and of the whole comparison.
        seconds_left: until all of them are done, at the pace so far.
    """

    title: str
    steps: int
    done: int
    total: int
    seconds_left: float


OnBegin = Callable[[Begun], None]


def compare(
    comparison: Comparison,
    *,
    folder: str | Path,
    subject: Subject | None = None,
    prices: Prices | None = None,
    stop_after: float | None = None,
    on_begin: OnBegin | None = None,
    on_step: OnStep | None = None,
) -> ComparisonSummary:
    """Train every arm of every table from every seed, and say what can be told from it.

    A run is one file; what lies in the folder already is not done again, so a comparison that was
    stopped, or killed, goes on. Started by several processes at once through accelerate, the runs
    are shared out.

    Args:
        comparison: tables, seeds and the settings that all arms share.
        folder: of its files; one comparison a folder.
        subject: model and data; the default is the kit's GPT on Python's source and arithmetic.
        prices: measured before, on this machine; the default is measured here, once a folder.
        stop_after: begin no run that would end later than so many seconds from now, but for the
            first of all.
        on_begin: told what begins.
        on_step: told every training step.

    Returns:
        The tables; `missing` names the runs that are not there yet.

    Raises:
        ValueError: the folder holds another comparison; the field that differs is named.
        MixedRunsError: it holds runs of another version or machine.
        RunBusyError: another process compares in the folder.
    """
    told = on_begin, on_step
    path, seconds = check_arguments(comparison, folder, subject, prices, stop_after, *told)
    torch.set_num_threads(comparison.threads)
    workers = workers_here(comparison.device)
    work = _Work(
        comparison=comparison,
        subject=subject or gpt_subject(comparison),
        folder=path,
        workers=workers,
        on_begin=on_begin or (lambda _: None),
        on_step=on_step or (lambda _: None),
        deadline=None if seconds is None else time.monotonic() + seconds,
    )
    return work.all(prices)


@dataclass(kw_only=True)
class _Work:
    comparison: Comparison
    subject: Subject
    folder: Path
    workers: Workers
    on_begin: OnBegin
    on_step: OnStep
    deadline: float | None
    spent: float = 0.0  # seconds of the runs done here
    priced: float = 0.0  # what the prices say of them

    def all(self, prices: Prices | None) -> ComparisonSummary:
        if self.workers.index > 0:
            return self._all(prices)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FolderLock(self.folder):  # one comparer a folder, with all its workers
            return self._all(prices)

    def _all(self, prices: Prices | None) -> ComparisonSummary:
        if self.workers.index == 0:
            prepare_folder(self.folder, self.comparison, self.subject.key, self._needs_pilots)
            self._kept("prices.json", Prices, lambda: prices or self._measure_prices())
        self.workers.wait()
        known = Prices.load(self.folder / "prices.json")
        seeds = self.comparison.seeds
        for seed in self.workers.share(seeds):
            self._kept(f"analysis-seed{seed}.json", Analysis, lambda seed=seed: self._analyse(seed))
        self.workers.wait()
        tasks = list(self._tasks(known))
        for place, task in self.workers.take(list(enumerate(tasks)), self.folder):
            if self._is_there(task):
                continue
            if self._is_too_late(self._estimate(task)) and any(map(self._is_there, tasks)):
                break
            self._run(task, place, [later for later in tasks[place:] if not self._is_there(later)])
        self.workers.wait()
        there = [task for task in tasks if self._is_there(task)]
        missing = [task.file_name for task in tasks if task not in there]
        runs = [ComparedRun.load(self._path(task)) for task in there]
        summary = summarise(runs, prices=known.to_dict(), missing=missing)
        if self.workers.index == 0 and not missing:
            summary.save(self.folder / "summary.json")
        return summary

    def _kept(self, name: str, kind: type[T], make: Callable[[], T]) -> T:
        """What the file holds; made and written where it is not there."""
        path = self.folder / name
        if not path.exists():
            make().save(path)
        return kind.load(path)

    def _measure_prices(self) -> Prices:
        self._begin("prices", 0, 0.0)
        return measure_prices(self.comparison, self.subject)

    def _analyse(self, seed: int) -> Analysis:
        known = self.comparison
        steps = known.warmup_steps + self._needs_pilots * 2 * known.pilot_pairs * known.pilot_steps
        self._begin(f"pre-analysis, seed {seed}", steps, 0.0)

        def start(own: int) -> nn.Module:
            if known.pretrain_steps:
                return self._pretrained(seed)
            return self.subject.make_model(own, known.num_layers)

        return analyse(
            known,
            self.subject,
            seed,
            start=start,
            folder=self.folder / f"pilot-seed{seed}",
            on_step=self.on_step,
        )

    @property
    def _needs_pilots(self) -> bool:
        return any(arm.needs_variance for table in self.comparison.tables for arm in table.arms)

    def _tasks(self, prices: Prices) -> Iterator[Task]:
        """Seed by seed, so that whole pairs are there first."""
        for seed in self.comparison.seeds:
            analysis = Analysis.load(self.folder / f"analysis-seed{seed}.json")
            for table in self.comparison.tables:
                for arm in table.arms:
                    yield Task(
                        comparison=self.comparison,
                        subject=self.subject,
                        table=table,
                        arm=arm,
                        seed=seed,
                        start=self._start,
                        analysis=analysis,
                        prices=prices,
                    )

    def _start(self, seed: int, num_layers: int) -> nn.Module:
        if self.comparison.pretrain_steps:
            return self._pretrained(seed)
        return self.subject.make_model(seed, num_layers)

    def _pretrained(self, seed: int) -> nn.Module:
        """The model that every arm of this seed starts from; trained once and kept."""
        known, path = self.comparison, self.folder / f"start-seed{seed}.safetensors"
        model = self.subject.make_model(seed, known.num_layers)
        if not path.exists():
            data = self.subject.pretraining_data or self.subject.make_data
            self._begin(f"pre-training, seed {seed}", known.pretrain_steps, 0.0)
            train(
                model,
                data(seed),
                self.subject.make_optimizer(model, 1.0),
                config=TrainConfig(budget=Budget(steps=known.pretrain_steps)),
                loss=self.subject.loss,
                on_step=self.on_step,
            )
            weights = {name: value.clone() for name, value in model.state_dict().items()}
            write_atomically(path, save(weights))
        model.load_state_dict(load(path.read_bytes()))
        return model

    def _run(self, task: Task, place: int, left: list[Task]) -> None:
        pace = self.spent / self.priced if self.priced else 1.0
        seconds_left = pace * sum(map(self._priced, left)) / self.workers.count
        self.on_begin(
            Begun(
                title=f"{task.arm.name}, equal {task.table.budget}, seed {task.seed}",
                steps=self.comparison.steps,
                done=place,
                total=self._num_runs(),
                seconds_left=seconds_left,
            )
        )
        began = time.monotonic()
        running = self.folder / RUNNING / self._path(task).stem
        try:
            done = run_task(task, folder=running, on_step=self.on_step)
        except (RunMismatchError, CheckpointError):  # left by another version, or damaged
            shutil.rmtree(running, ignore_errors=True)
            done = run_task(task, folder=running, on_step=self.on_step)
        done.save(self._path(task))
        shutil.rmtree(running, ignore_errors=True)
        self.spent += time.monotonic() - began
        self.priced += self._priced(task)

    def _begin(self, title: str, steps: int, seconds_left: float) -> None:
        self.on_begin(Begun(title=title, steps=steps, done=0, total=0, seconds_left=seconds_left))

    def _path(self, task: Task) -> Path:
        return self.folder / "runs" / task.file_name

    def _num_runs(self) -> int:
        known = self.comparison
        return len(known.seeds) * sum(len(table.arms) for table in known.tables)

    def _is_there(self, task: Task) -> bool:
        return self._path(task).exists()

    def _priced(self, task: Task) -> float:
        """About what a run takes, in priced seconds."""
        cost, known = task.prices.cost(task.num_layers), self.comparison
        dropping = task.arm.method != "none" or task.table.budget != "steps"
        blocks = (cost.full - cost.outside) * (1 - known.saving * dropping)
        return known.steps * (cost.outside + blocks)

    def _estimate(self, task: Task) -> float:
        pace = self.spent / self.priced if self.priced else 1.0
        return pace * self._priced(task)

    def _is_too_late(self, seconds: float) -> bool:
        return self.deadline is not None and time.monotonic() + seconds > self.deadline
