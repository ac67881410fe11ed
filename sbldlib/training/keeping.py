"""A run that is kept in a folder: taken up where it was, saved while it goes on, and at its end."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import unknown_name
from ..records import RunRecord, StepRecord
from ..storage.checkpoints import CheckpointError
from .checkpoints import CheckpointConfig
from .controls import Controls, LogEntry
from .folder import RunFolder
from .optimizer import describe_optimizer
from .run import Run
from .state import (
    batch_sha256,
    capture,
    conditions,
    restore,
    weights_sha256,
    why_not_exact,
)


class Keeper:
    """What the loop tells everything that must outlast the process.

    Attributes:
        resumes: where this run was taken up, and whether exactly.
        evaluation_due: whether the last step's evaluation was not done before the process ended.
    """

    def __init__(
        self,
        folder: str | Path,
        run: Run,
        controls: Controls | None,
        config: CheckpointConfig,
        *,
        evaluations: Iterable[str],
        resume: str | int,
    ):
        """
        Raises:
            RunBusyError: another process writes in the folder.
            RunMismatchError: it holds a run of other settings, or of other starting weights.
            CheckpointError: it holds no checkpoint that was asked for, or a damaged one.
        """
        if config.keep_best is not None and config.keep_best not in (names := list(evaluations)):
            raise unknown_name("keep_best", config.keep_best, names)
        self._run, self._controls, self._config = run, controls, config
        self.resumes: list[dict[str, Any]] = []
        self.evaluation_due = False
        self._saved: tuple[int, bool] | None = None
        self._saved_at = time.monotonic()
        self._folder = RunFolder(folder, config)
        try:
            self._begin(list(evaluations), resume)
        except BaseException:
            self._folder.close()
            raise

    def origin(self) -> dict[str, Any]:
        """Where the run began, and where it was taken up."""
        return {"environment": self._folder.environment, "resumes": tuple(self.resumes)}

    @property
    def path(self) -> Path:
        """Of the folder."""
        return self._folder.path

    @property
    def last_checkpoint(self) -> str | None:
        """Where the newest one lies, for messages."""
        steps = self._folder.checkpoints.steps
        return str(self._folder.checkpoints.path(steps[-1])) if steps else None

    def steps(self) -> list[StepRecord]:
        """Every step so far, of earlier processes too."""
        return self._folder.steps()

    def add_changes(self) -> None:
        """Write what changed at the start of a step, before it runs."""
        if self._controls is not None:
            self._folder.add_changes(self._controls.log)

    def add_step(self, record: StepRecord, *, evaluation_due: bool) -> None:
        """Write a step, and save where it is time to."""
        self._folder.add_step(record)
        self.evaluation_due = evaluation_due
        every = self._config.every_steps
        minutes = (time.monotonic() - self._saved_at) / 60
        is_time = (every and self._run.steps % every == 0) or minutes >= self._config.every_minutes
        if is_agreed(self._run, evaluation_due or bool(is_time)):
            self.save()

    def add_evaluations(self, evaluations: dict[str, float]) -> None:
        """Write what was measured after the last step."""
        step = self._run.steps
        self._folder.add_evaluations(step - 1, evaluations)
        self._folder.checkpoints.note(step, evaluations)
        self.evaluation_due = False

    def save(self) -> None:
        """Save now, unless this very state is saved already.

        Raises:
            CheckpointError: the disk refused it; the checkpoints before it are still there.
            NotFiniteError: a weight is not finite; such a model is not saved.
        """
        if is_agreed(self._run, self._saved == (self._run.steps, self.evaluation_due)):
            return
        self._run.check_weights()
        tree = capture(self._run, self._controls)
        tree["position"] = self._folder.position(self._run.steps)
        tree["best"] = self._folder.checkpoints.best
        tree["evaluation_due"] = self.evaluation_due
        tree["resumes"] = self.resumes
        self._folder.checkpoints.save(self._run.steps, tree)
        self._saved, self._saved_at = (self._run.steps, self.evaluation_due), time.monotonic()

    def save_alone(self) -> None:
        """Save where that needs no other process: on pause, which may be one process's alone."""
        if self._run.workers.count == 1:
            self.save()

    def finish(self, record: RunRecord) -> None:
        """Write the record of the run as it ended."""
        self._folder.finish(record)

    def close(self) -> None:
        """Give the folder back."""
        self._folder.close()

    def _begin(self, evaluations: list[str], resume: str | int) -> None:
        folder, run = self._folder, self._run
        if resume == "never":
            folder.clear()
        elif resume != "auto" and not folder.checkpoints.steps:
            raise CheckpointError(f"resume={resume!r}, but {folder.path} holds no checkpoint")
        folder.begin(
            settings(run, self._controls, evaluations),
            start=weights_sha256(run.model),
            any_start=resume not in ("auto", "never"),
        )
        if not folder.checkpoints.steps:  # begun, and ended before anything was saved
            folder.open()
            return
        step, tree = folder.checkpoints.load(None if isinstance(resume, str) else resume)
        where = str(folder.checkpoints.path(step))
        position, log = _place(tree, where)
        try:
            later = folder.take_up(
                position,
                log,
                replay=isinstance(resume, str),
                mend=resume == "always",
            )
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {self._way_on(step)}") from error
        restore(run, tree, self._controls, where=where)
        if run.steps != step:
            raise CheckpointError(
                f"{where} is of step {run.steps}: it is not a checkpoint of this run"
            )
        folder.checkpoints.go_back(step, tree.get("best"))
        if self._controls is not None:
            self._controls.replay(later)
        self.evaluation_due = _known(tree, "evaluation_due", bool, where)
        self.resumes = _known(tree, "resumes", list, where)
        self._saved = (step, self.evaluation_due)
        if not run.is_over:
            why = why_not_exact(_known(tree, "conditions", dict, where), conditions(run))
            self.resumes.append({"step": step, "exact": not why, "why_not": why})

    def _way_on(self, step: int) -> str:
        """What can be done where the ledger, or the changes of controls, are damaged."""
        store = self._folder.checkpoints
        for earlier in reversed([other for other in store.steps if other <= step]):
            try:
                position, _ = _place(store.load(earlier)[1], "")
            except CheckpointError:
                continue
            if self._folder.holds(position):
                return f"resume={earlier} goes on from there, without later changes of controls"
        return "resume='always' goes on from the newest checkpoint, without the damaged lines"


def is_agreed(run: Run, mine: bool) -> bool:
    """What rank 0 says: the others' clocks are not its clock."""
    return run.workers.gather(b"1" if mine else b"0")[0] == b"1"


def settings(run: Run, controls: Controls | None, evaluations: list[str]) -> dict[str, Any]:
    """Everything that decides a run but its starting weights, as plain values."""
    config = dataclasses.asdict(run.config)
    del config["name"]
    shapes = "".join(f"{name} {tuple(p.shape)}\n" for name, p in run.model.named_parameters())
    loss = run.loss
    return {
        "config": config,
        "model": {
            "class": type(run.model).__name__,
            "num_parameters": sum(p.numel() for p in run.model.parameters()),
            "shapes_sha256": hashlib.sha256(shapes.encode()).hexdigest(),
        },
        "optimizer": describe_optimizer(run.optimizer),
        "callbacks": {str(i): callback.identity() for i, callback in enumerate(run.callbacks)},
        "controls": None if controls is None else controls.first,
        "data": {
            "class": type(run.data).__name__,
            "first_batch_sha256": batch_sha256(run.data.batch(0)),
        },
        "loss": f"{loss.__module__}.{loss.__qualname__}" if hasattr(loss, "__qualname__") else None,
        "evaluations": evaluations,
    }


def _known(tree: dict[str, Any], name: str, kind: type, where: str) -> Any:
    if not isinstance(tree.get(name), kind):
        raise CheckpointError(f"{where} has no {name}: it is not a run's checkpoint")
    return tree[name]


def _place(tree: dict[str, Any], where: str) -> tuple[dict[str, Any], list[LogEntry]]:
    """Where ledger and controls stood at a checkpoint."""
    try:
        at, log = tree["position"], (tree["controls"] or {"log": []})["log"]
        position: dict[str, Any] = {
            name: int(at[name]) for name in ("steps", "num_bytes", "controls_bytes")
        }
        position["sha256"] = str(at["sha256"])
        return position, [(int(step), name, old, new) for step, name, old, new in log]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{where} does not say where its ledger stood ({error!r}): it is not a run's checkpoint"
        ) from error
