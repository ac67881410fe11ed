"""The checkpoints of one run: which are there, which stay, and the newest that is whole."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import check_positive_int, check_range
from ..storage.checkpoints import (
    CheckpointError,
    check_checkpoint,
    read_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from ..storage.settings import read_signed, write_signed

CHECKPOINTS = "checkpoints"
BEST = "best.json"
_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When a run with a folder is saved, and how much of that stays.

    It is always saved before an evaluation, on pause, on interrupt, on SIGTERM and at its end.

    Attributes:
        every_minutes: of wall-clock between saves, > 0; inf for none.
        every_steps: steps between saves; 0 for none.
        keep_last: the newest ones that stay, >= 1.
        keep_best: name of an evaluation; the checkpoint where it was lowest stays as well.
    """

    every_minutes: float = 10.0
    every_steps: int = 0
    keep_last: int = 2
    keep_best: str | None = None

    def __post_init__(self) -> None:
        checked = {
            "every_minutes": check_range(
                "every_minutes", self.every_minutes, 0, math.inf, low_open=True
            ),
            "every_steps": check_positive_int("every_steps", self.every_steps, minimum=0),
            "keep_last": check_positive_int("keep_last", self.keep_last),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.keep_best is not None and not isinstance(self.keep_best, str):
            raise ValueError(f"keep_best={self.keep_best!r} must be the name of an evaluation")


class CheckpointStore:
    """The folder of a run's checkpoints, one folder a step.

    Attributes:
        best: (step, value) of the checkpoint that is kept as the best, where there is one.
    """

    def __init__(self, folder: Path, config: CheckpointConfig):
        self.folder, self._config = folder, config
        self.best = _read_best(folder / BEST)

    @property
    def steps(self) -> list[int]:
        """Steps done of every checkpoint that is there, whole or not; ascending."""
        if not self.folder.is_dir():
            return []
        names = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> Path:
        """Where the checkpoint of this step lies."""
        return self.folder / f"step-{step:08}"

    def save(self, step: int, tree: dict[str, Any]) -> Path:
        """Write a checkpoint and, once it is whole, remove those that need not stay.

        Raises:
            CheckpointError: the disk refused it; the ones before it are all still there.
        """
        try:
            path = write_checkpoint(self.path(step), tree)
        except CheckpointError as error:
            others = [other for other in self.steps if other < step]
            rest = f"; the one of step {others[-1]} is kept" if others else ""
            raise CheckpointError(f"{error}{rest}") from error
        self._prune()
        return path

    def load(self, step: int | None = None) -> tuple[int, dict[str, Any]]:
        """The steps done and the tree of a checkpoint; the newest where no step is named.

        Raises:
            CheckpointError: there is none, or it is damaged: then the newest whole one before it
                is named.
        """
        there = self.steps
        if not there:
            raise CheckpointError(f"{self.folder} holds no checkpoint")
        asked = there[-1] if step is None else step
        if asked not in there:
            raise CheckpointError(f"step={step} has no checkpoint in {self.folder}; it has {there}")
        try:
            return asked, read_checkpoint(self.path(asked))
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {self._offer(asked)}") from error

    def go_back(self, step: int, best: Any) -> None:
        """Remove the checkpoints of later steps, and mark the one that was the best by this one.

        Args:
            best: its step and value, as the checkpoint of this step holds them, or None.
        """
        for later in reversed(self.steps):
            if later > step:
                remove_checkpoint(self.path(later))
        self._mark(tuple(best) if best and self.path(best[0]).exists() else None)

    def note(self, step: int, evaluations: dict[str, float]) -> None:
        """Make this step's checkpoint the best where its evaluation is the lowest so far."""
        value = evaluations.get(self._config.keep_best or "")
        if value is None or not math.isfinite(value) or not self.path(step).exists():
            return
        if self.best is None or value < self.best[1]:
            self._mark((step, value))
            self._prune()

    def _mark(self, best: tuple[int, float] | None) -> None:
        self.best = best
        if best is None:
            (self.folder / BEST).unlink(missing_ok=True)
        elif _read_best(mark := self.folder / BEST) != best:
            try:
                write_signed(mark, {"step": best[0], "value": best[1]})
            except OSError as error:
                raise CheckpointError(f"{mark} could not be written: {error}") from error

    def _prune(self) -> None:
        there = self.steps
        kept = {*there[-self._config.keep_last :], *([self.best[0]] if self.best else [])}
        for step in there:
            if step not in kept:
                remove_checkpoint(self.path(step))

    def _offer(self, damaged: int) -> str:
        for step in reversed([step for step in self.steps if step < damaged]):
            try:
                check_checkpoint(self.path(step))
            except CheckpointError:
                continue
            return f"the one of step {step} is whole: resume={step} goes on from there"
        return "there is no whole one before it: resume='never' begins anew"


def load_weights(model: nn.Module, folder: str | Path, *, step: int | str | None = None) -> int:
    """Put the weights of a run's checkpoint into a model of the same shape.

    Args:
        model: as it was trained; untouched where an error is raised.
        folder: of the run.
        step: steps done; None is the newest, "best" the one with the lowest `keep_best`.

    Returns:
        The steps that were done.

    Raises:
        CheckpointError: there is none, it is damaged, or it is of another model.
    """
    store = CheckpointStore(Path(folder) / CHECKPOINTS, CheckpointConfig())
    if step == "best":
        if store.best is None:
            mark = store.folder / BEST
            why = f"{mark} is damaged" if mark.exists() else "it keeps no best; see keep_best"
            raise CheckpointError(f"step='best' of {folder} is not known: {why}")
        step = store.best[0]
    elif step is not None:
        step = check_positive_int("step", step, minimum=0)
    done, tree = store.load(step)
    put_weights(model, tree.get("model"), str(store.path(done)))
    return done


def put_weights(model: nn.Module, weights: Any, where: str) -> None:
    """Copy a checkpoint's state into a model, or raise CheckpointError before any of it.

    A model that grows is grown to the stage that the state is of.
    """
    mine = model.state_dict()
    if not isinstance(weights, dict) or any(not torch.is_tensor(w) for w in weights.values()):
        raise CheckpointError(f"{where} holds no weights")
    if callable(grow := getattr(model, "grow_to_fit", None)):
        try:
            grow(weights)
        except ValueError as error:
            raise CheckpointError(f"{where}: {error}") from error
        mine = model.state_dict()
    for name in (*mine, *sorted(weights.keys() - mine.keys())):
        sides = [_kind(side[name]) if name in side else None for side in (mine, weights)]
        if sides[0] != sides[1]:
            raise CheckpointError(f"{name} is {sides[0]} in this model, {sides[1]} in {where}")
    model.load_state_dict(weights)


def _kind(weight: Any) -> str:
    return f"{tuple(weight.shape)} {str(weight.dtype).removeprefix('torch.')}"


def _read_best(path: Path) -> tuple[int, float] | None:
    """A mark that cannot be read marks nothing: the checkpoints know which one was the best."""
    try:
        body = read_signed(path)
        return int(body["step"]), float(body["value"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
