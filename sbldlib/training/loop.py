"""Training: a generator that yields one StepRecord a step, and `train` over it.

The way of one step: a batch -> callbacks set the active layers -> forward, loss, backward,
optimiser -> one StepRecord that plots, panel and ledger all read.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..dropping.blocks import NoBlocksError
from ..dropping.skipping import Skipping, attach
from ..environment import environment
from ..losses import device_of, next_token_loss, to_device
from ..measure import FlopCount, count_flops
from ..records import RunRecord, StepRecord
from .callbacks import Callback, StepContext
from .config import TrainConfig
from .controls import Controls
from .finite import check_finite_step

Evaluation = Callable[[nn.Module], float]


class _Sequence:
    """A list of batches as a batch source: one after the other, around and around."""

    def __init__(self, batches: Sequence[Any], accumulate: int):
        if len(batches) == 0:
            raise ValueError("data=[] holds no batch to train on")
        self._batches, self._accumulate = batches, accumulate

    def batch(self, step: int, micro_batch: int = 0) -> Any:
        return self._batches[(step * self._accumulate + micro_batch) % len(self._batches)]


class _Run:
    """The moving parts of one run; `step` is one optimiser step."""

    def __init__(self, model, data, optimizer, config: TrainConfig, callbacks, loss):
        self.model, self.optimizer, self.config = model, optimizer, config
        self.data = data if hasattr(data, "batch") else _Sequence(data, config.accumulate)
        self.callbacks, self.loss = tuple(callbacks), loss
        self.device = device_of(model)
        self.skipping = _attach_where_possible(model)
        first = self.data.batch(0)
        self.tokens_per_step = _num_tokens(first) * config.accumulate
        self.flop_count: FlopCount = count_flops(model, first, loss=loss)
        self.num_steps = config.budget.num_steps(self.tokens_per_step)
        self.steps, self.flops, self.seconds = 0, 0.0, 0.0
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        if config.compile_blocks and self.skipping is not None:
            for block in self.skipping.blocks:
                block.module.compile()

    @property
    def is_over(self) -> bool:
        if self.num_steps is not None:
            return self.steps >= self.num_steps
        return self.spent >= 1

    @property
    def spent(self) -> float:
        return self.config.budget.spent(steps=self.steps, flops=self.flops, seconds=self.seconds)

    @property
    def progress(self) -> float:
        if self.num_steps is not None:
            return self.steps / max(1, self.num_steps - 1)
        return min(1.0, self.spent)

    def step(self, controls: dict[str, Any]) -> StepRecord:
        """One optimiser step: what was applied, not what was asked."""
        began = time.perf_counter()
        context = StepContext(
            step=self.steps,
            num_steps=self.num_steps,
            progress=self.progress,
            model=self.model,
            controls=controls,
        )
        for callback in self.callbacks:
            callback.before_step(context)
        learning_rate = self._set_learning_rate(context.progress)
        loss_nats, gradient_norm = self._forward_backward()
        self.optimizer.step()
        layers_run = self._layers_run()
        record = StepRecord(
            step=self.steps,
            progress=context.progress,
            loss_nats=loss_nats,
            learning_rate=learning_rate,
            gradient_norm=gradient_norm,
            seconds=time.perf_counter() - began,
            tokens=self.tokens_per_step,
            flops=self.flop_count.of(layers_run) * self.config.accumulate,
            flops_full=self.flop_count.full * self.config.accumulate,
            keep_probability=context.keep_probability,
            layers_run=layers_run,
            controls=controls,
        )
        for callback in self.callbacks:
            callback.after_step(record)
        self.steps += 1
        self.flops += record.flops
        self.seconds += record.seconds
        return record

    def _forward_backward(self) -> tuple[float, float]:
        self.model.train()
        # None, not zeros: AdamW leaves the weights of a skipped layer alone.
        self.optimizer.zero_grad(set_to_none=True)
        if self.skipping is not None:
            self.skipping.reset_calls()
        total: Tensor | float = 0.0
        batch: Any = None
        for micro_batch in range(self.config.accumulate):
            batch = to_device(self.data.batch(self.steps, micro_batch), self.model)
            # Autocast and grad mode are thread-local: entered here, in the thread that trains.
            with torch.enable_grad(), self._autocast():
                share = self.loss(self.model, batch) / self.config.accumulate
            share.backward()
            total = total + share.detach()
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        loss_nats, gradient_norm = float(total), float(norm)
        check_finite_step(
            self.model,
            self.skipping,
            step=self.steps,
            loss_nats=loss_nats,
            gradient_norm=gradient_norm,
            batch=batch,
            loss=self.loss,
        )
        return loss_nats, gradient_norm

    def _autocast(self):
        kind, precision = self.device.type, self.config.precision
        enabled = precision == "bfloat16" or (precision == "auto" and kind == "cuda")
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled)

    def _set_learning_rate(self, progress: float) -> float:
        factor = self.config.learning_rate_factor(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def _layers_run(self) -> tuple[int, ...]:
        if self.skipping is None:
            return ()
        return tuple(layer for layer, calls in enumerate(self.skipping.calls) if calls)

    def close(self) -> None:
        if self.skipping is not None:
            self.skipping.set_dropped(())


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
) -> Iterator[StepRecord]:
    """Train, one optimiser step at each `next`; arguments as for `train`."""
    config, evaluations = config or TrainConfig(), evaluations or {}
    run = _Run(model, data, optimizer, config, callbacks, loss)
    try:
        while not run.is_over:
            if controls is not None and not controls.begin_step(run.steps):
                return
            record = run.step(controls.values() if controls is not None else {})
            every = config.evaluate_every
            if run.is_over or (every and run.steps % every == 0):
                results = {name: float(measure(model)) for name, measure in evaluations.items()}
                record = dataclasses.replace(record, evaluations=results)
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
        data: anything with `.batch(step, micro_batch)`, or a sequence of batches to go around.
        optimizer: its learning rates are the base rates that the schedule scales.
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
    for record in generator:
        steps.append(record)
        if on_step is not None:
            on_step(record)
    return make_run_record(model, steps, config=config, callbacks=callbacks, controls=controls)


def make_run_record(
    model: nn.Module,
    steps: Sequence[StepRecord],
    *,
    config: TrainConfig,
    callbacks: Sequence[Callback] = (),
    controls: Controls | None = None,
) -> RunRecord:
    """The record of a run from its steps, for those who drive the generator themselves."""
    skipping = _attach_where_possible(model)
    stopped = controls is not None and controls["stop"]
    return RunRecord(
        name=config.name,
        configuration={
            **dataclasses.asdict(config),
            "callbacks": [c.describe() for c in callbacks],
        },
        environment=environment(),
        num_layers=skipping.num_layers if skipping is not None else 0,
        num_parameters=sum(p.numel() for p in model.parameters()),
        steps=tuple(steps),
        controls_log=tuple(controls.log) if controls is not None else (),
        seconds=sum(step.seconds for step in steps),
        outcome="stopped" if stopped else "completed",
    )


def _attach_where_possible(model: nn.Module) -> Skipping | None:
    try:
        return attach(model)
    except NoBlocksError:
        return None


def _num_tokens(batch: Any) -> int:
    if isinstance(batch, Tensor):
        return batch.numel()
    return _num_tokens(next(iter(batch.values())) if isinstance(batch, dict) else batch[0])
