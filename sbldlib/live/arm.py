"""One run of a live session: its model, its controls, its steps and its folder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..losses import device_of, next_token_loss
from ..records import RunRecord, StepRecord
from ..storage.settings import read_signed, write_signed
from ..training.callbacks import Callback
from ..training.checkpoints import CHECKPOINTS, CheckpointConfig, CheckpointStore
from ..training.config import TrainConfig
from ..training.controls import Controls
from ..training.folder import ANALYSIS, RECORD
from ..training.ledger import read_ledger
from ..training.loop import Evaluation, train_steps
from ..training.record import make_run_record
from .draws import OwnDraws
from .dropping import LiveDropping

SAMPLES = "samples.json"
Sample = Callable[[nn.Module], str]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all arms of a session train with; as for `train`."""

    data: Any
    config: TrainConfig = field(default_factory=TrainConfig)
    callbacks: Sequence[Callback] = ()
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    loss: Callable[[nn.Module, Any], Tensor] = next_token_loss
    checkpoints: CheckpointConfig | None = None
    sample: Sample | None = None


class Arm:
    """A run whose steps somebody else takes, one at a time.

    Attributes:
        name: in legends and tables.
        controls: the values in force, and the log of every change.
        dropping: what draws its layers.
        num_steps: done so far, those of earlier processes too.
        last: the newest of them, or None.
        samples: number of steps done -> what the model wrote then.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        controls: Controls,
        dropping: LiveDropping,
        setting: Setting,
        folder: Path | None,
        races: bool = False,
    ):
        """
        Args:
            races: whether another arm takes its steps in between, so that each needs a random
                state of its own; alone, a run draws from the process's as `train` does.
        """
        self.name, self.model, self.controls, self.dropping = name, model, controls, dropping
        self.num_steps, self.last = 0, None
        self.samples: dict[int, str] = {}
        # A folder holds every step already: memory stays flat there.
        self._kept: list[StepRecord] | None = [] if folder is None else None
        self._unread: deque[StepRecord] = deque()
        self._optimizer, self._setting, self._folder = optimizer, setting, folder
        self._own_draws = OwnDraws(device_of(model)).here if races else nullcontext

    @property
    def progress(self) -> float:
        """Of the last step; -1 before the first."""
        return -1.0 if self.last is None else self.last.progress

    @property
    def records(self) -> list[StepRecord]:
        """Every step so far; of a run in a folder they are read from there."""
        return self._ledger() if self._kept is None else list(self._kept)

    def take_unread(self) -> list[StepRecord]:
        """The steps since the last call; for one reader, on any thread."""
        return [self._unread.popleft() for _ in range(len(self._unread))]

    def forget(self) -> None:
        """Nothing was done: the run begins, or goes on, in another `steps`."""
        self.num_steps, self.last = 0, None
        self._unread.clear()
        if self._kept is not None:
            self._kept.clear()

    def going(self, resume: str | int) -> Generator[StepRecord, None, None]:
        """`steps`; in a race each with this arm's own random state, and so is the end."""
        steps = self.steps(resume)
        try:
            while True:
                with self._own_draws():
                    record = next(steps, None)
                if record is None:
                    return
                yield record
        finally:
            with self._own_draws():
                steps.close()

    def steps(self, resume: str | int) -> Generator[StepRecord, None, None]:
        """Train; the steps that the folder has already are there at once, and not yielded."""
        setting = self._setting
        self.forget()
        begins = resume == "never" or not self._ledger()
        self.samples = self._sampled(0) if begins else self._kept_samples()
        steps = train_steps(
            self.model,
            setting.data,
            self._optimizer,
            config=setting.config,
            callbacks=(self.dropping, *setting.callbacks),
            evaluations=setting.evaluations,
            controls=self.controls,
            loss=setting.loss,
            folder=self._folder,
            checkpoints=setting.checkpoints,
            resume=resume,
        )
        with closing(steps):
            first = next(steps, None)
            for record in self._ledger():
                if first is None or record.step < first.step:
                    self._add(record)
            if first is not None:
                self._add(first)
                yield first
            for record in steps:
                self._add(record)
                yield record
        if self.num_steps not in self.samples:
            self.samples.update(self._sampled(self.num_steps))
        if self._folder is not None and self.samples:
            kept = {str(num_steps): text for num_steps, text in self.samples.items()}
            write_signed(self._folder / ANALYSIS / SAMPLES, kept)

    def record(self) -> RunRecord:
        """The run, once it is over."""
        if self._folder is not None:
            return RunRecord.load(self._folder / RECORD)
        setting = self._setting
        return make_run_record(
            self.model,
            self._kept or (),
            config=setting.config,
            callbacks=(self.dropping, *setting.callbacks),
            controls=self.controls,
            optimizer=self._optimizer,
        )

    def checkpoints(self) -> list[int]:
        """Steps done of every checkpoint in its folder, ascending."""
        if self._folder is None:
            return []
        return CheckpointStore(self._folder / CHECKPOINTS, CheckpointConfig()).steps

    def _add(self, record: StepRecord) -> None:
        if self._kept is not None:
            self._kept.append(record)
        self.last, self.num_steps = record, self.num_steps + 1
        self._unread.append(record)

    def _ledger(self) -> list[StepRecord]:
        return [] if self._folder is None else read_ledger(self._folder)

    def _sampled(self, num_steps: int) -> dict[int, str]:
        sample = self._setting.sample
        return {} if sample is None else {num_steps: sample(self.model)}

    def _kept_samples(self) -> dict[int, str]:
        """What the model wrote before this process; nothing where that file is gone or damaged."""
        if self._folder is None:
            return {}
        try:
            kept = read_signed(self._folder / ANALYSIS / SAMPLES)
            return {int(num_steps): str(text) for num_steps, text in kept.items()}
        except (OSError, ValueError):
            return {}
