"""Training: a generator that yields one StepRecord a step, and `train` over it.

The way of one step: a batch -> callbacks set the active layers -> forward, loss, backward,
optimiser -> one StepRecord that plots, panel, ledger and checkpoint all read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..losses import next_token_loss
from ..records import RunRecord, StepRecord
from .callbacks import Callback
from .checkpoints import CheckpointConfig
from .config import TrainConfig
from .controls import STOP, Controls
from .door import Asked, check_arguments
from .finite import NotFiniteError
from .following import keep
from .interrupts import Interrupts
from .keeping import Keeper
from .launch import Workers
from .record import make_run_record
from .run import Evaluation, Run


def train_steps(
    model: nn.Module,
    data: Any,
    optimizer: torch.optim.Optimizer,
    *,
    config: TrainConfig | None = None,
    callbacks: Sequence[Callback] = (),
    evaluations: Mapping[str, Evaluation] | None = None,
    controls: Controls | None = None,
    loss: Callable[[nn.Module, Any], Tensor] = next_token_loss,
    folder: str | Path | None = None,
    checkpoints: CheckpointConfig | None = None,
    resume: str | int = "auto",
    workers: Workers | None = None,
) -> Generator[StepRecord, None, None]:
    """Train, one optimiser step at each `next`; arguments as for `train`.

    Closing the generator, or dropping it, ends the run early, saves it where it has a folder, and
    leaves the model at full depth. Ctrl-C within a step ends it at that step's end.
    """
    asked = check_arguments(
        model,
        optimizer,
        loss,
        config=config,
        callbacks=callbacks,
        evaluations=evaluations,
        controls=controls,
        folder=folder,
        checkpoints=checkpoints,
        resume=resume,
        workers=workers,
    )
    training = _Training(asked, Interrupts())
    training.open(model, data, optimizer, loss)
    yield from training.steps()
    training.end()


def train(
    model: nn.Module,
    data: Any,
    optimizer: torch.optim.Optimizer,
    *,
    config: TrainConfig | None = None,
    callbacks: Sequence[Callback] = (),
    evaluations: Mapping[str, Evaluation] | None = None,
    controls: Controls | None = None,
    loss: Callable[[nn.Module, Any], Tensor] = next_token_loss,
    on_step: Callable[[StepRecord], None] | None = None,
    folder: str | Path | None = None,
    checkpoints: CheckpointConfig | None = None,
    resume: str | int = "auto",
    workers: Workers | None = None,
) -> RunRecord:
    """Train a model to its budget and return the record of the run, iterable over its steps.

    With a folder nothing is lost: called again after a kill, an interrupt or a restart, it goes on
    where it was, on a CPU bit for bit. A run that is done is not trained again: the model gets its
    weights, and the record is returned.

    Args:
        model: any torch module; its residual blocks are found where it has any.
        data: anything with `.batch(step, micro_batch)`, or a sequence of batches to go around; the
            first batch's size is what operations and a tokens budget are reckoned with.
        optimizer: its learning rates are the base rates that the schedule scales; it has them back
            when the run ends.
        config: budget, warm-up, accumulation, precision, ...; 300 steps by default.
        callbacks: a dropping method (`sbld(...)`), or what watches.
        evaluations: name -> function of the model, measured after the last step and every
            `config.evaluate_every` steps, at full depth.
        controls: values that may change while it trains, for callbacks to read; one that is named
            learning_rate_scale multiplies the learning rate.
        loss: mean loss of one batch, in nats per token.
        on_step: called with every record, evaluations included; for progress bars.
        folder: of this run alone, see `sbldlib.training.folder`; None keeps nothing.
        checkpoints: when it is saved, and what stays.
        resume: "auto" goes on where the folder's run has these settings and starting weights;
            "always" whatever the model's weights are, and only where there is a checkpoint; a
            number of steps takes that checkpoint; "never" removes the run that is there.
        workers: the processes that train this run together, such as `workers_here()` under
            torchrun: each runs its share of a step's `config.accumulate` micro-batches, so that
            they come to what one process would; the first of them writes the folder.

    Raises:
        NotFiniteError: a loss, gradient or weight was not finite; the weights are those before
            that step, and the last checkpoint is named.
        TrainingInterrupted: Ctrl-C, or the kernel's interrupt; at a step boundary, and saved.
        RunMismatchError: the folder holds a run of other settings; the field is named.
        RunBusyError: another process writes in the folder.
        CheckpointError: a checkpoint cannot be written, or is damaged.
        ValueError: data without a batch, or settings out of range, before any step.
    """
    asked = check_arguments(
        model,
        optimizer,
        loss,
        on_step,
        config=config,
        callbacks=callbacks,
        evaluations=evaluations,
        controls=controls,
        folder=folder,
        checkpoints=checkpoints,
        resume=resume,
        workers=workers,
    )
    training = _Training(asked, Interrupts())
    kept: list[StepRecord] = []
    with training.interrupts:
        training.open(model, data, optimizer, loss)
        with closing(training.steps()) as steps:
            for record in steps:
                if folder is None:
                    kept.append(record)
                if on_step is not None:
                    on_step(record)
        done = training.record(kept) if folder is None else training.kept_record
    training.end(done)
    return done


class _Training:
    """One run from its first step here to its end, with all that takes part."""

    def __init__(self, asked: Asked, interrupts: Interrupts):
        self._asked, self._controls, self._evaluations = asked, asked.controls, asked.evaluations
        self.interrupts = interrupts
        self._run: Run
        self._keeper: Keeper | None = None
        self.kept_record: RunRecord
        self._outcome = "completed"

    def open(self, model: nn.Module, data: Any, optimizer: Any, loss: Any) -> None:
        """Make ready, and take up what the folder holds."""
        asked = self._asked
        with self.interrupts:
            self._run = Run(
                model, data, optimizer, asked.config, asked.callbacks, loss, asked.workers
            )
            if asked.folder is None:
                return
            try:
                self._keeper = keep(
                    asked.folder,
                    self._run,
                    self._controls,
                    asked.checkpoints,
                    evaluations=self._evaluations,
                    resume=asked.resume,
                )
            except BaseException:
                self._run.close()
                raise

    def steps(self) -> Generator[StepRecord, None, None]:
        """Every step that is left, each saved as the folder asks; then the end."""
        run = self._run
        try:
            with self.interrupts:
                self._evaluate_what_is_due()
            while not run.is_over:
                with self.interrupts:
                    if not self._may_go_on():
                        break
                    record = self._step()
                try:
                    yield record
                except GeneratorExit:
                    self._outcome = "stopped"
                    self._end()
                    raise
            with self.interrupts:
                self._end()
        except NotFiniteError as error:
            error.checkpoint = self._keeper.last_checkpoint if self._keeper is not None else None
            raise
        finally:
            run.close()
            if self._keeper is not None:
                self._keeper.close()

    def end(self, record: RunRecord | None = None) -> None:
        """Pass an interrupt on, now that the run is at a step boundary."""
        if self._outcome != "interrupted" and self.interrupts.asked is None:
            return
        message = f"{self._outcome} after {self._run.steps} steps"
        if self._keeper is None:
            message += "; nothing is kept: give a folder to be able to go on"
        else:
            message += f", saved in {self._keeper.path}; the same call goes on from there"
        self.interrupts.end(message, record)

    def record(self, steps: Sequence[StepRecord]) -> RunRecord:
        """The run's record from its steps."""
        keeper = self._keeper
        return make_run_record(
            self._run.model,
            steps,
            config=self._run.config,
            callbacks=self._run.callbacks,
            controls=self._controls,
            optimizer=self._run.optimizer,
            outcome=self._outcome,
            **({} if keeper is None else keeper.origin()),
        )

    def _may_go_on(self) -> bool:
        """Whether the next step is to be done; its controls are then in force."""
        if self.interrupts.asked is not None:
            self._run.request_stop()
        if self._run.stop_agreed:
            self._outcome = "interrupted"
            return False
        controls, keeper = self._controls, self._keeper
        if controls is None:
            return True
        going = controls.begin_step(
            self._run.steps,
            on_pause=None if keeper is None else keeper.save_alone,
            is_interrupted=lambda: self.interrupts.asked is not None,
        )
        if keeper is not None:
            keeper.add_changes()
        if not going:
            self._outcome = "stopped" if controls[STOP] else "interrupted"
        return going

    def _step(self) -> StepRecord:
        run, keeper, every = self._run, self._keeper, self._run.config.evaluate_every
        record = run.step(self._controls.values() if self._controls is not None else {})
        is_due = run.is_over or bool(every and run.steps % every == 0)
        is_due = is_due and bool(self._evaluations)
        if keeper is not None:
            keeper.add_step(record, evaluation_due=is_due)
        return dataclasses.replace(record, evaluations=self._evaluate()) if is_due else record

    def _evaluate(self) -> dict[str, float]:
        found = self._run.evaluate(self._evaluations)
        if self._keeper is not None:
            self._keeper.add_evaluations(found)
        return found

    def _evaluate_what_is_due(self) -> None:
        if self._keeper is not None and self._keeper.evaluation_due:
            self._evaluate()

    def _end(self) -> None:
        """Save, and write the record."""
        if self._keeper is not None:
            self._keeper.save()
            self.kept_record = self.record(self._keeper.steps())
            self._keeper.finish(self.kept_record)
