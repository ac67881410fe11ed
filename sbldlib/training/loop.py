"""Training: a generator that yields one StepRecord a step, and `train` over it.

The way of one step: a batch -> callbacks set the active layers -> forward, loss, backward,
optimiser -> one StepRecord that plots, panel and ledger all read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from ..environment import environment
from ..losses import next_token_loss
from ..records import RunRecord, StepRecord
from .callbacks import Callback
from .config import TrainConfig
from .controls import Controls
from .run import Evaluation, Run, attach_where_possible


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
) -> Generator[StepRecord, None, None]:
    """Train, one optimiser step at each `next`; arguments as for `train`.

    Closing the generator, or dropping it, ends the run early and leaves the model at full depth.
    """
    config, evaluations = config or TrainConfig(), evaluations or {}
    run = Run(model, data, optimizer, config, callbacks, loss)
    try:
        while not run.is_over:
            if controls is not None and not controls.begin_step(run.steps):
                return
            record = run.step(controls.values() if controls is not None else {})
            every = config.evaluate_every
            if run.is_over or (every and run.steps % every == 0):
                record = dataclasses.replace(record, evaluations=run.evaluate(evaluations))
            yield record
    finally:
        run.close()


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
) -> RunRecord:
    """Train a model to its budget and return the record of the run, iterable over its steps.

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
        controls: values that may change while it trains.
        loss: mean loss of one batch, in nats per token.
        on_step: called with every record, evaluations included; for progress bars.

    Raises:
        NotFiniteError: a loss or gradient was not finite; the weights are those before that step.
        ValueError: data without a batch, or settings out of range, before any step.
    """
    config = config or TrainConfig()
    steps: list[StepRecord] = []
    generator = train_steps(
        model,
        data,
        optimizer,
        config=config,
        callbacks=callbacks,
        evaluations=evaluations,
        controls=controls,
        loss=loss,
    )
    with closing(generator):  # an interrupt in on_step must not leave layers dropped
        for record in generator:
            steps.append(record)
            if on_step is not None:
                on_step(record)
    return make_run_record(
        model,
        steps,
        config=config,
        callbacks=callbacks,
        controls=controls,
        optimizer=optimizer,
    )


def make_run_record(
    model: nn.Module,
    steps: Sequence[StepRecord],
    *,
    config: TrainConfig,
    callbacks: Sequence[Callback] = (),
    controls: Controls | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> RunRecord:
    """The record of a run from its steps, for those who drive the generator themselves."""
    skipping = attach_where_possible(model)
    stopped = controls is not None and controls["stop"]
    return RunRecord(
        name=config.name,
        configuration={
            **dataclasses.asdict(config),
            "callbacks": tuple(c.describe() for c in callbacks),
            "optimizer": _describe(optimizer) if optimizer is not None else None,
        },
        environment=environment(),
        num_layers=skipping.num_layers if skipping is not None else 0,
        num_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        steps=tuple(steps),
        controls_log=tuple(controls.log) if controls is not None else (),
        seconds=sum(step.seconds for step in steps),
        outcome="stopped" if stopped else "completed",
    )


def _describe(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    groups = tuple(
        {name: _plain(value) for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    )
    return {"name": type(optimizer).__name__, "groups": groups}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) else value
