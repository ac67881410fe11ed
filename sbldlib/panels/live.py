"""The live panel: a GPT trains, alone or in a race, and a hand steers what it drops.

A view of a `LiveSession`: widgets ask it, and all that is shown is read from its step records.
"""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from IPython.display import Image, display
from torch import Tensor, nn

from ..errors import check_range
from ..live.arm import Sample, Setting
from ..live.recipe import CHECKPOINTS_KEPT, recipe_of, recipe_parts, values_of
from ..live.record import LiveRecord
from ..live.session import LiveSession
from ..losses import next_token_loss
from ..pretraining.config import PretrainConfig
from ..records import RunRecord, SensitivityData
from ..training.callbacks import Callback
from ..training.checkpoints import CheckpointConfig
from ..training.config import TrainConfig
from ..training.controls import Controls, LogEntry
from ..training.loop import Evaluation
from .board import Board
from .driver import CHUNKED, INLINE, Driver, choose_driver, describe_driver, watch
from .export import save_live
from .kernels import answer_widgets, kernel_here, wait_for
from .picture import WIDTH_PIXELS
from .screen import REFRESH_SECONDS, Screen
from .view import LiveView


class LiveTraining:
    """Trains a model while a hand steers its layer dropping; against another method, if asked.

    Example:
        >>> panel = LiveTraining(model, data, make_optimizer(model), against="none").start()
        >>> await panel.wait()  # on Colab, in the same cell
        >>> run = panel.record()

    Attributes:
        session: what trains; its `arms` hold every step so far.
        controls: the values in force, and the log of every change.
        board: the widgets.
        view: what the run has come to so far, and its picture.
        driver: how it runs, see `choose_driver`; None before the start.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        optimizer: torch.optim.Optimizer,
        *,
        config: TrainConfig | None = None,
        sensitivity_data: SensitivityData | None = None,
        against: str | None = None,
        seed: int = 0,
        replay: Iterable[LogEntry] | None = None,
        callbacks: Sequence[Callback] = (),
        evaluations: Mapping[str, Evaluation] | None = None,
        sample: Sample | None = None,
        loss: Callable[[nn.Module, Any], Tensor] = next_token_loss,
        folder: str | Path | None = None,
        checkpoints: CheckpointConfig | None = None,
        resume: str | int = "auto",
        refresh_seconds: float = REFRESH_SECONDS,
        **values: Any,
    ):
        """
        Args:
            model, data, optimizer, config, callbacks, evaluations, loss: as for `train`. An
                evaluation that is named validation_loss says who is ahead in a race. Callbacks
                take part in the steered run alone.
            sensitivity_data: what sbld needs; without it, sbld is not offered.
            against: makes it a race with a copy of model and optimiser on the same data: a method
                in `METHODS`, such as "uniform", or "none" for full depth.
            seed: of the draws.
            replay: the controls log of an earlier run; it steers then, and the hand does not.
            sample: lets the model write a text, before the first step and after the last.
            folder, checkpoints, resume: as for `train`; a run that goes on has the values in force
                that it had, whatever is given here. A race has a folder in it for each run.
            refresh_seconds: between two looks at what is new.
            values: in force at the first step, such as dropping=True, method="sbld", saving=0.25;
                every name is in `sbldlib.live.values`.

        Raises:
            ValueError: an unknown name, a value out of range, or a saving that cannot be held.
        """
        seconds = check_range("refresh_seconds", refresh_seconds, 0, math.inf, low_open=True)
        self.session = LiveSession(
            model,
            optimizer,
            Setting(
                data=data,
                config=config or TrainConfig(),
                callbacks=tuple(callbacks),
                evaluations=dict(evaluations or {}),
                loss=loss,
                checkpoints=checkpoints or CheckpointConfig(keep_last=CHECKPOINTS_KEPT),
                sample=sample,
            ),
            values=values,
            against=against,
            sensitivity_data=sensitivity_data,
            seed=seed,
            replay=replay,
            folder=folder,
            resume=resume,
        )
        self.driver: str | None = None
        self.view = LiveView(self.session)
        self.board = Board(
            self.session,
            measured=self.view.measured_block,
            width_pixels=WIDTH_PIXELS,
            steered=replay is None,
            on_step=self._step_once,
            on_chunk=self._run_chunk,
            on_stop=self._stop_asked,
            on_against=lambda against: self._screen.draw_against(against),
        )
        self._screen = Screen(self.view, self.board, self._state, refresh_seconds=seconds)
        self._driver = Driver(self.session.steps, stop=self.session.stop)
        self._recipe: dict[str, Any] | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def from_config(
        cls,
        config: PretrainConfig,
        *,
        checkpoints: CheckpointConfig | None = None,
        **options: Any,
    ) -> LiveTraining:
        """A panel that trains one of the kit's GPTs; its record alone is enough to replay it.

        Args:
            config: what to train; its method and saving are in force at the first step.
            checkpoints: by default every ten minutes.
            options: of `LiveTraining`, but model, data, optimiser and what goes with them.
        """
        parts, setting = recipe_parts(config)
        panel = cls(
            parts.model,
            setting.data,
            parts.optimizer,
            config=setting.config,
            evaluations=setting.evaluations,
            sample=setting.sample,
            checkpoints=checkpoints,
            **{"seed": config.seed, **values_of(config), **options},
        )
        panel._recipe = recipe_of(config)
        return panel

    @property
    def controls(self) -> Controls:
        """The steered run's: the values in force, and the log of every change."""
        return self.session.controls

    def start(self, driver: str | None = None) -> LiveTraining:
        """Train, and show the panel where there is a page for it.

        Args:
            driver: see `choose_driver`, which also gives the default; with "inline", this returns
                when all is done.

        Raises:
            RuntimeError: it was started before.
        """
        if self.driver is not None:
            raise RuntimeError("this panel was started before; make another to train again")
        self.driver = choose_driver(driver)
        self._screen.begin()
        is_clicked = self.driver == CHUNKED
        self.board.serve_chunks(describe_driver(self.driver), are_clicked=is_clicked)
        if self.driver == INLINE:
            self._driver.run()
            self._refresh()
            self.check()
            return self
        if kernel_here() is not None:
            answer_widgets(kernel_here())
            self.show()
        if not is_clicked:
            self._driver.run_in_thread()
            watching = watch(self._driver, self._refresh)
            self._task = asyncio.get_running_loop().create_task(watching)
        return self

    def show(self) -> None:
        """Display the panel, once more where its page was loaded again."""
        display(self.board.widget)

    async def wait(self) -> None:
        """Wait for the end of training while the panel stays alive, then `check`.

        An interrupt ends the run at its next step, saved where it has a folder. A run that goes on
        by clicks is not waited for: nobody could click.
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
        """The steered run as it was, once it is over; errors as for `live_record`."""
        return self.live_record().lead

    def records(self) -> dict[str, RunRecord]:
        """Every run of the session by its name, once it is over; the steered one is the first."""
        whole = self.live_record()
        return dict(zip(whole.names, whole.runs, strict=True))

    def live_record(self) -> LiveRecord:
        """All of it, once it is over: runs, changes, what they went by; enough to replay it.

        Raises:
            RuntimeError: it is still training, or was not started.
        """
        if not self._driver.is_over:
            raise RuntimeError("there is no record yet: start(), then await panel.wait()")
        self.check()
        return self.session.live_record(recipe=self._recipe)

    def export(self, folder: str | Path) -> tuple[Path, Path]:
        """Write what `live_record` gives as JSON, and the picture beside it; their paths.

        `sbld replay FOLDER` replays it where the panel was made by `from_config`.
        """
        return save_live(self.live_record(), self.view.picture.png(), folder)

    def picture(self) -> Image:
        """The picture as it stands, for a page that no kernel serves."""
        return Image(data=self.view.picture.png(), width=WIDTH_PIXELS)

    @property
    def text(self) -> str:
        """What the panel says beside its picture, in words."""
        return "\n".join([self._state(), *self.view.lines()])

    def _step_once(self) -> None:
        if self.driver == CHUNKED:
            self._run_chunk(1)
        else:
            self.session.step_once()

    def _stop_asked(self) -> None:
        self.session.stop()
        if self.driver == CHUNKED:  # nobody else takes the step at which it ends
            self._driver.stop()
            self._refresh()

    def _run_chunk(self, num_steps: int) -> None:
        """So many steps of every arm, here and now, where the run goes on by clicks."""
        self._driver.run_chunk(num_steps * len(self.session.arms))
        self._refresh()

    def _refresh(self) -> float:
        """Show what is new, and write the files at the end; seconds until the next call."""
        is_over = self._driver.is_over
        seconds = self._screen.refresh(is_over=is_over)
        if is_over and self.session.folder is not None and self._driver.error is None:
            self.export(self.session.folder)
        return seconds

    def _state(self) -> str:
        error = self._driver.error
        if self.driver is None and error is None:
            return "Not started."
        if self._driver.is_over or error is not None:
            return self.view.ended(error)
        return self.view.doing(is_held=self.session.is_paused or self.driver == CHUNKED)
