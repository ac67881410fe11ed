"""What `train` is given, looked at before anything is trained or written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import (
    check_callable,
    check_choice,
    check_folder,
    check_kind,
    check_positive_int,
    items,
    shown,
)
from .callbacks import Callback
from .checkpoints import CheckpointConfig
from .config import TrainConfig
from .controls import Controls
from .launch import Workers

RESUME = ("auto", "always", "never")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The arguments of `train` that have a default, each of its kind."""

    config: TrainConfig
    callbacks: Sequence[Callback]
    evaluations: Mapping[str, Callable[[nn.Module], float]]
    controls: Controls | None
    folder: Path | None
    checkpoints: CheckpointConfig
    resume: str | int
    workers: Workers | None


def check_arguments(
    model: Any, optimizer: Any, loss: Any, on_step: Any = None, **given: Any
) -> Asked:
    """The arguments as they are meant.

    Raises:
        ValueError: one of them is of another kind; it is named with its value.
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    check_kind("optimizer", optimizer, torch.optim.Optimizer, "a torch optimizer")
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(parameter) in moved for parameter in model.parameters()):
        raise ValueError(
            f"optimizer={type(optimizer).__name__} holds no weight of the model: make it with "
            "make_optimizer(model)"
        )
    check_callable("loss", loss, "a function of the model and a batch")
    if on_step is not None:
        check_callable("on_step", on_step, "a function of a StepRecord, or None")
    kinds = {
        "config": (TrainConfig, "a TrainConfig, such as TrainConfig(budget=Budget(steps=300))"),
        "controls": (Controls, "Controls"),
        "checkpoints": (CheckpointConfig, "a CheckpointConfig"),
        "workers": (Workers, "Workers, such as workers_here()"),
    }
    for name, (kind, right) in kinds.items():
        if given[name] is not None:
            check_kind(name, given[name], kind, f"{right}, or None")
    check_resume(given["resume"])
    return Asked(
        config=given["config"] or TrainConfig(),
        callbacks=_callbacks(given["callbacks"]),
        evaluations=_evaluations(given["evaluations"]),
        controls=given["controls"],
        folder=None if given["folder"] is None else check_folder("folder", given["folder"]),
        checkpoints=given["checkpoints"] or CheckpointConfig(),
        resume=given["resume"],
        workers=given["workers"],
    )


def check_resume(resume: Any) -> None:
    """Raise ValueError where it is neither one of `RESUME` nor a number of steps."""
    if isinstance(resume, str):
        check_choice("resume", resume, RESUME)
    else:
        check_positive_int("resume", resume, minimum=0)


def _callbacks(callbacks: Any) -> tuple[Callback, ...]:
    found = tuple(items("callbacks", callbacks))
    for place, callback in enumerate(found):
        right = "a Callback, such as sbld(model, sensitivity_data)"
        check_kind(f"callbacks[{place}]", callback, Callback, right)
    return found


def _evaluations(evaluations: Any) -> dict[str, Callable[[nn.Module], float]]:
    if evaluations is None:
        return {}
    right = "a dict of names and functions of the model, or None"
    found = dict(check_kind("evaluations", evaluations, Mapping, right))
    for name, measure in found.items():
        if not isinstance(name, str):
            raise ValueError(f"evaluations: the name {shown(name)} must be text")
        check_callable(f"evaluations[{name!r}]", measure, "a function of the model")
    return found
