"""The live panel: dropping toggled, its method and saving changed, while a model trains.

Controls plus one function over plain data: widgets write values, `train_steps` reads them at its
next step, and all that is shown is read from the step records.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from IPython.display import Image, display
from torch import Tensor, nn

from ..dropping.schedules import tabulate
from ..dropping.skipping import attach
from ..errors import check_range, unknown_name
from ..losses import next_token_loss
from ..methods import METHODS
from ..methods.live import LiveDropping
from ..records import RunRecord, SensitivityData, StepRecord
from ..training.callbacks import Callback
from ..training.checkpoints import CheckpointConfig
from ..training.config import TrainConfig
from ..training.controls import STOP, Controls, LogEntry
from ..training.folder import RECORD
from ..training.ledger import read_ledger
from ..training.loop import Evaluation, train_steps
from ..training.record import make_run_record
from .board import SAVING_STEP, Board
from .driver import Driver, answer_widgets, choose_mode, kernel_here, wait_for, watch
from .picture import WIDTH_PIXELS, LivePicture
from .summary import RunSummary

MAX_SAVING = 0.4
REFRESH_SECONDS = 1 / 3
DRAWING_SHARE = 0.015  # of the time; where a drawing takes longer, there are fewer of them
DRAWING_CREDIT_SECONDS = 0.15  # so that the first pictures, and a change, do not wait


class LiveTraining:
    """Trains a model while a hand steers its layer dropping.

    Example:
        >>> panel = LiveTraining(model, data, make_optimizer(model)).start()
        >>> await panel.wait()  # on Colab, in the same cell
        >>> run = panel.record()

    Attributes:
        controls: the values in force, and the log of every change.
        board: the widgets.
        summary: what the run has come to so far.
        mode: "thread" or "sync", see `choose_mode`; None before the start.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        optimizer: torch.optim.Optimizer,
        *,
        config: TrainConfig | None = None,
        sensitivity_data: SensitivityData | None = None,
        dropping: bool = True,
        method: str | None = None,
        saving: float = 0.25,
        seed: int = 0,
        replay: Iterable[LogEntry] | None = None,
        callbacks: Sequence[Callback] = (),
        evaluations: Mapping[str, Evaluation] | None = None,
        loss: Callable[[nn.Module, Any], Tensor] = next_token_loss,
        folder: str | Path | None = None,
        checkpoints: CheckpointConfig | None = None,
        resume: str | int = "auto",
    ):
        """
        Args:
            model, data, optimizer, config, callbacks, evaluations, loss: as for `train`.
            folder, checkpoints, resume: as for `train`; a run that goes on has the values in force
                that it had, whatever is given here.
            sensitivity_data: what sbld needs; without it, sbld is not offered.
            dropping, method, saving: in force at the first step; the method is sbld where it is
                offered, else uniform. saving is the asked mean drop, in [0, 0.4].
            seed: of the draws.
            replay: the controls log of an earlier run; it steers then, and the hand does not.

        Raises:
            ValueError: an unknown method, sbld without sensitivities, or a saving that the method
                cannot hold on this model.
        """
        config = config or TrainConfig()
        live = LiveDropping(model, sensitivity_data=sensitivity_data, seed=seed)
        method = method or ("uniform" if sensitivity_data is None else "sbld")
        live.method(method, saving)  # refused here where it cannot be held
        offered = largest_savings(live, config.budget.steps)
        if method not in offered:
            raise unknown_name("method", method, offered)
        check_range("saving", saving, 0, offered[method])
        values = {"dropping": dropping, "method": method, "saving": saving}
        self.controls = Controls(values, replay=replay or ())
        self.mode: str | None = None
        self._model, self._config, self._callbacks = model, config, (live, *callbacks)
        self._folder = None if folder is None else Path(folder)
        self._driver = Driver(
            lambda: self._steps(
                train_steps(
                    model,
                    data,
                    optimizer,
                    config=config,
                    callbacks=self._callbacks,
                    evaluations=evaluations,
                    controls=self.controls,
                    loss=loss,
                    folder=folder,
                    checkpoints=checkpoints,
                    resume=resume,
                )
            ),
            stop=self.controls.stop,
        )
        num_layers = attach(model).num_layers
        self.summary = RunSummary(num_layers, config.budget.steps)
        self._picture = LivePicture(num_layers, config.budget.steps)
        self.board = Board(self.controls, offered, steered=replay is None)
        self._num_shown, self._began, self._drawing_seconds = 0, 0.0, 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self, mode: str | None = None) -> LiveTraining:
        """Train: in a thread, with the panel shown; or inline, which returns when all is done.

        Args:
            mode: "thread" or "sync"; the default is `choose_mode`'s.

        Raises:
            RuntimeError: it was started before.
        """
        if self.mode is not None:
            raise RuntimeError("this panel was started before; make another to train again")
        self.mode, self._began = choose_mode(mode), time.monotonic()
        if self.mode == "thread":
            loop = asyncio.get_running_loop()
            if kernel_here() is not None:
                answer_widgets(kernel_here())
                display(self.board.widget)
            self._driver.run_in_thread()
            self._task = loop.create_task(watch(self._driver, self._refresh))
            return self
        self._driver.run()
        self._refresh()
        self.check()
        return self

    async def wait(self) -> None:
        """Wait for the end of training while the panel stays alive, then `check`.

        An interrupt ends the run at its next step, saved where it has a folder.
        """
        if self._task is not None:
            try:
                await wait_for(self._task)
            except (asyncio.CancelledError, KeyboardInterrupt) as error:
                self.stop()
                raise type(error)(self._state()) from None
        self.check()

    def stop(self) -> None:
        """End the run at its next step, and wait until it has ended; a minute at most."""
        if not self._driver.stop():
            warnings.warn(
                "the step in progress takes long: the run ends after it; check() says when it has",
                RuntimeWarning,
                stacklevel=2,
            )

    def check(self) -> None:
        """Raise what training raised."""
        self._driver.check()

    def record(self) -> RunRecord:
        """The run as it was, once it is over.

        Raises:
            RuntimeError: it is still training, or was not started.
        """
        if self.mode is None or self._driver.is_running:
            raise RuntimeError("there is no record yet: start(), then await panel.wait()")
        self.check()
        if self._folder is not None:
            return RunRecord.load(self._folder / RECORD)
        return make_run_record(
            self._model,
            self._driver.records,
            config=self._config,
            callbacks=self._callbacks,
            controls=self.controls,
        )

    def picture(self) -> Image:
        """The picture as it stands, for a page that no kernel serves."""
        return Image(data=self._picture.png(), width=WIDTH_PIXELS)

    @property
    def text(self) -> str:
        """What the panel says under its picture, in words."""
        return f"{self._state()} {self.summary.line()}"

    def _steps(self, steps: Generator[StepRecord, None, None]) -> Iterator[StepRecord]:
        """The steps that the folder holds already, then the new ones."""
        with closing(steps):
            first = next(steps, None)
            before = [] if self._folder is None else read_ledger(self._folder)
            yield from before if first is None else before[: first.step]
            if first is not None:
                yield first
            yield from steps

    def _refresh(self) -> float:
        """Show what is new; returns the seconds until it should be called again."""
        is_over = not self._driver.is_running
        new = self._driver.records[self._num_shown :]
        self._num_shown += len(new)
        for record in new:
            self.summary.add(record)
        self._picture.add(new, self.controls.log)
        self.board.follow()
        last = self.summary.last
        self.board.show(
            state=self._state(),
            numbers=self.summary.line(),
            progress=0.0 if last is None else last.progress,
        )
        allowed = DRAWING_SHARE * (time.monotonic() - self._began) + DRAWING_CREDIT_SECONDS
        if is_over or (last is not None and self._drawing_seconds <= allowed):
            began = time.thread_time()
            self.board.image.value = self._picture.png()
            self._drawing_seconds += time.thread_time() - began
        if is_over:
            self.board.close()
        return REFRESH_SECONDS

    def _state(self) -> str:
        num_steps = len(self._driver.records)
        if self._driver.error is not None:
            error = self._driver.error
            return f"Failed after {num_steps} steps: {type(error).__name__}: {error}."
        if self.mode is None:
            return "Not started."
        if not self._driver.is_running:
            if not self.controls[STOP]:
                return f"Finished after {num_steps} steps."
            kept = "" if self._folder is None else " They are saved: run it again to go on."
            return f"Stopped after {num_steps} steps.{kept}"
        if self.controls.is_paused:
            return f"Paused before step {num_steps + 1}."
        if not self.controls["dropping"]:
            return "Training at full depth."
        method, saving = self.controls["method"], self.controls["saving"]
        return f"Training with {method}, asked saving {saving:.2f}."


def largest_savings(live: LiveDropping, num_steps: int | None) -> dict[str, float]:
    """Method name -> the most that it can hold in this run, up to 0.4; without those at 0.

    Args:
        live: has the model.
        num_steps: of the whole run where that is known: in a short one PLD holds less.
    """
    notches = range(round(MAX_SAVING / SAVING_STEP), 0, -1)
    savings = [round(notch * SAVING_STEP, 4) for notch in notches]
    most = {
        name: next((saving for saving in savings if can_hold(live, name, saving, num_steps)), 0.0)
        for name in METHODS
        if name != "none"  # the toggle is there for that
    }
    return {name: saving for name, saving in most.items() if saving > 0}


def can_hold(live: LiveDropping, name: str, saving: float, num_steps: int | None) -> bool:
    """Whether a method can be asked for this saving in a run of so many steps."""
    try:
        method = live.method(name, saving)
        if num_steps is not None:
            method.allocation(float(tabulate(method.schedule, num_steps).min()))
    except ValueError:
        return False
    return True
