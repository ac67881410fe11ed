"""The record of a run from its steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..environment import environment
from ..records import RunRecord, StepRecord
from .callbacks import Callback
from .config import TrainConfig
from .controls import STOP, Controls
from .optimizer import describe_optimizer
from .run import attach_where_possible


def make_run_record(
    model: nn.Module,
    steps: Sequence[StepRecord],
    *,
    config: TrainConfig,
    callbacks: Sequence[Callback] = (),
    controls: Controls | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    outcome: str | None = None,
    **origin: Any,
) -> RunRecord:
    """The record of a run from its steps, for those who drive the generator themselves.

    Args:
        outcome: where it is known; else "stopped" where the controls stopped it.
        origin: `environment` and `resumes` of a run that was taken up.
    """
    skipping = attach_where_possible(model)
    stopped = controls is not None and controls[STOP]
    return RunRecord(
        name=config.name,
        configuration={
            **dataclasses.asdict(config),
            "callbacks": tuple(c.describe() for c in callbacks),
            "optimizer": describe_optimizer(optimizer) if optimizer is not None else None,
        },
        num_layers=skipping.num_layers if skipping is not None else 0,
        num_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        steps=tuple(steps),
        controls_log=tuple(controls.log) if controls is not None else (),
        seconds=sum(step.seconds for step in steps),
        outcome=outcome or ("stopped" if stopped else "completed"),
        **{"environment": environment(), **origin},
    )
