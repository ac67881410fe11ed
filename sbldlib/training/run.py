"""One run in motion: what a step does, and what is spent so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..dropping.blocks import NoBlocksError
from ..dropping.skipping import Skipping, attach
from ..losses import device_of, to_device
from ..measure import FlopCount, count_flops, first_tensor
from ..records import StepRecord
from .callbacks import StepContext
from .config import TrainConfig
from .finite import check_finite_step

Evaluation = Callable[[nn.Module], float]


class Run:
    """The moving parts of one run; `step` is one optimiser step."""

    def __init__(self, model, data, optimizer, config: TrainConfig, callbacks, loss):
        self.model, self.optimizer, self.config = model, optimizer, config
        self.data = _batch_source(data, config.accumulate)
        self.callbacks, self.loss = tuple(callbacks), loss
        self.device = device_of(model)
        self.skipping = attach_where_possible(model)
        first = self.data.batch(0)
        self.tokens_per_batch = first_tensor(first).numel()
        self.flop_count: FlopCount = count_flops(model, first, loss=loss)
        if config.budget.flops is not None and self.flop_count.full == 0:
            raise ValueError(
                f"flops={config.budget.flops:g} cannot be a budget: no operation of this model is "
                "counted; give steps, tokens or seconds"
            )
        self.num_steps = config.budget.num_steps(self.tokens_per_batch * config.accumulate)
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
        return self.config.budget.spent(flops=self.flops, seconds=self.seconds)

    @property
    def progress(self) -> float:
        """t / (T - 1); a T that is not known is reckoned from the mean cost of a step so far."""
        if self.num_steps is not None:
            return self.steps / max(1, self.num_steps - 1)
        if self.steps == 0:
            return 0.0
        return min(1.0, self.spent / (1 - self.spent / self.steps))

    def step(self, controls: dict[str, Any]) -> StepRecord:
        """One optimiser step: what was applied, not what was asked."""
        began = time.perf_counter()
        first = self.data.batch(self.steps, 0)
        context = StepContext(
            step=self.steps,
            num_steps=self.num_steps,
            progress=self.progress,
            model=self.model,
            controls=controls,
            num_rows=len(first_tensor(first)),
        )
        for callback in self.callbacks:
            callback.before_step(context)
        learning_rate = self._set_learning_rate(context.progress)
        loss_nats, gradient_norm, tokens = self._forward_backward(first)
        self.optimizer.step()
        layers_run, forward_share, backward_share = self._counted()
        batches = tokens / self.tokens_per_batch
        record = StepRecord(
            step=self.steps,
            progress=context.progress,
            loss_nats=loss_nats,
            learning_rate=learning_rate,
            gradient_norm=gradient_norm,
            seconds=time.perf_counter() - began,
            tokens=tokens,
            flops=batches
            * self.flop_count.of(
                layers_run, forward_share=forward_share, backward_share=backward_share
            ),
            flops_full=self.flop_count.full * batches,
            keep_probability=context.keep_probability,
            layers_run=layers_run,
            forward_share=forward_share,
            backward_share=backward_share,
            controls=controls,
        )
        for callback in self.callbacks:
            callback.after_step(record)
        self.steps += 1
        self.flops += record.flops
        self.seconds += record.seconds
        return record

    def _forward_backward(self, first: Any) -> tuple[float, float, int]:
        """Loss, gradient norm before clipping, and tokens; the gradients are finite and clipped."""
        if self.steps == 0 or not self.model.training:  # a walk over all modules, not at each step
            self.model.train()
        # None, not zeros: AdamW leaves the weights of a skipped layer alone, see skipped_weights.
        self.optimizer.zero_grad(set_to_none=True)
        if self.skipping is not None:
            self.skipping.reset_calls()
        losses, tokens = [], 0
        # Grad mode and autocast are thread-local: entered here, in the thread that trains.
        with torch.enable_grad():
            for micro_batch in range(self.config.accumulate):
                loss, num = self._forward(micro_batch, first if micro_batch == 0 else None)
                (loss / self.config.accumulate).backward()
                losses.append(loss.detach())
                tokens += num
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters])
        losses, gradient_norm = [float(loss) for loss in losses], float(norm)
        # Before clipping: a norm that is not finite would spread to every gradient.
        check_finite_step(
            self.model,
            self.skipping,
            step=self.steps,
            losses=losses,
            gradient_norm=gradient_norm,
            forward=self._forward,
        )
        nn.utils.clip_grads_with_norm_(parameters, self.config.clip_norm, norm)
        if self.config.skipped_weights == "decay":
            _zero_missing_gradients(groups)
        return sum(losses) / len(losses), gradient_norm, tokens

    def _forward(self, micro_batch: int, batch: Any = None) -> tuple[Tensor, int]:
        """Loss and tokens of one of this step's micro-batches."""
        if batch is None:
            batch = self.data.batch(self.steps, micro_batch)
        batch = to_device(batch, self.model)
        with self._autocast():
            return self.loss(self.model, batch), first_tensor(batch).numel()

    def _autocast(self):
        kind, precision = self.device.type, self.config.precision
        enabled = precision == "bfloat16" or (precision == "auto" and kind == "cuda")
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled)

    def _set_learning_rate(self, progress: float) -> float:
        factor = self.config.learning_rate_factor(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def _counted(self) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
        """Layers that ran in this step, and their shares where some ran in part."""
        if self.skipping is None:
            return (), (), ()
        layers = tuple(layer for layer, calls in enumerate(self.skipping.calls) if calls)
        return layers, *self.skipping.shares()

    def evaluate(self, evaluations: Mapping[str, Evaluation]) -> dict[str, float]:
        """Results by name, in evaluation mode and with nothing dropped."""
        self._drop_nothing()
        self.model.eval()
        try:
            return {name: float(measure(self.model)) for name, measure in evaluations.items()}
        finally:
            self.model.train()

    def close(self) -> None:
        """Nothing dropped any more, and the optimiser at its base rates."""
        self._drop_nothing()
        for group in self.optimizer.param_groups:
            group["lr"] = group.pop("initial_lr", group["lr"])

    def _drop_nothing(self) -> None:
        if self.skipping is not None:
            self.skipping.clear_draw()


def _zero_missing_gradients(groups: list[dict[str, Any]]) -> None:
    """Let the optimiser move weights that got no gradient: by their momentum and weight decay."""
    for group in groups:
        for parameter in group["params"]:
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)


def attach_where_possible(model: nn.Module) -> Skipping | None:
    """The model's Skipping; None where it has no residual blocks."""
    try:
        return attach(model)
    except NoBlocksError:
        return None


class _Sequence:
    """A list of batches as a batch source: one after the other, around and around."""

    def __init__(self, batches: Sequence[Any], accumulate: int):
        if len(batches) == 0:
            raise ValueError("data=[] holds no batch to train on")
        self._batches, self._accumulate = batches, accumulate

    def batch(self, step: int, micro_batch: int = 0) -> Any:
        return self._batches[(step * self._accumulate + micro_batch) % len(self._batches)]


def _batch_source(data: Any, accumulate: int) -> Any:
    if hasattr(data, "batch"):
        return data
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return _Sequence(data, accumulate)
    raise ValueError(
        f"data={type(data).__name__} must have .batch(step, micro_batch), or be a list of batches"
    )
