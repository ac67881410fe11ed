"""One run in motion: what a step does, and what is spent so far."""

from __future__ import annotations

import dataclasses
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ..dropping.blocks import NoBlocksError
from ..dropping.skipping import Skipping, attach
from ..errors import shown
from ..losses import device_of
from ..measure import FlopCount, count_flops, first_tensor
from ..records import StepRecord
from . import ranks
from .callbacks import StepContext
from .config import TrainConfig
from .controls import LEARNING_RATE_SCALE
from .gradients import Gradients
from .launch import Workers

Evaluation = Callable[[nn.Module], float]
_TOLD = struct.Struct("<d?")  # seconds of a step, and whether the run is to stop


class Run:
    """The moving parts of one run; `step` is one optimiser step.

    With several workers each of them is a rank of one data-parallel run: it runs its share of the
    step's micro-batches, and all of them come to the same weights and records.

    Attributes:
        workers: the ranks, and which of them this is.
    """

    def __init__(
        self,
        model,
        data,
        optimizer,
        config: TrainConfig,
        callbacks,
        loss,
        workers: Workers | None = None,
    ):
        self.model, self.optimizer, self.config = model, optimizer, config
        self.data = batch_source(data, config.accumulate)
        self.callbacks, self.loss = tuple(callbacks), loss
        self.device = device_of(model)
        self.skipping = attach_where_possible(model)
        self.workers = workers or Workers()
        self._gradients = Gradients(
            model,
            self.data,
            optimizer,
            config=config,
            skipping=self.skipping,
            loss=loss,
            workers=self.workers,
        )
        self._stop_requested = self._stop_agreed = False
        if self.workers.count > 1:
            ranks.join(self.workers, model, self._settings())
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
    def parts(self) -> int:
        """In how many parts each micro-batch is run, once memory ran out; holds for later steps."""
        return self._gradients.retry.parts

    @parts.setter
    def parts(self, parts: int) -> None:
        self._gradients.retry.parts = parts

    def count_again(self) -> None:
        """Count a step's operations, which change where the model does."""
        self.flop_count = count_flops(self.model, self.data.batch(0), loss=self.loss)

    def check_weights(self) -> None:
        """Raise NotFiniteError where a weight is not finite: before a step, and before a save."""
        self._gradients.check_weights(self.steps)

    def request_stop(self) -> None:
        """Ask that the run end at a step boundary, the same one on all ranks: see `stop_agreed`."""
        self._stop_requested = True

    @property
    def stop_agreed(self) -> bool:
        """Whether a rank asked to stop and all ranks know: at once where there is one rank, else
        at the end of the step in which one asked."""
        return self._stop_requested if self.workers.count == 1 else self._stop_agreed

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
        first = self.data.batch(self.steps, self.workers.index)
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
            if context.model_changed:
                self.count_again()
                context.model_changed = False
        learning_rate = self._set_learning_rate(
            context.progress, scale=controls.get(LEARNING_RATE_SCALE, 1.0)
        )
        computed = self._gradients.compute(self.steps, first)
        self.optimizer.step()
        layers_run, forward_share, backward_share = self._counted()
        batches = computed.tokens / self.tokens_per_batch
        record = StepRecord(
            step=self.steps,
            progress=context.progress,
            loss_nats=computed.loss_nats,
            learning_rate=learning_rate,
            gradient_norm=computed.gradient_norm,
            seconds=self._agreed(time.perf_counter() - began),
            tokens=computed.tokens,
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
            micro_batches=computed.micro_batches,
        )
        for callback in self.callbacks:
            callback.after_step(record)
        self.steps += 1
        self.flops += record.flops
        self.seconds += record.seconds
        return record

    def _agreed(self, seconds: float) -> float:
        """Rank 0's seconds of the step, for all ranks to end at the same one."""
        if self.workers.count == 1:
            return seconds
        told = self.workers.gather(_TOLD.pack(seconds, self._stop_requested))
        self._stop_agreed = any(_TOLD.unpack(one)[1] for one in told)
        return _TOLD.unpack(told[0])[0]

    def _settings(self) -> dict[str, Any]:
        callbacks = [callback.describe() for callback in self.callbacks]
        return {**dataclasses.asdict(self.config), "callbacks": callbacks}

    def _set_learning_rate(self, progress: float, *, scale: float) -> float:
        factor = scale * self.config.learning_rate_factor(progress)
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
            found = {
                name: _number(name, measure(self.model)) for name, measure in evaluations.items()
            }
        finally:
            self.model.train()
        if self.workers.count > 1 and found:  # rank 0's, for the records to be the same
            packed = struct.Struct(f"<{len(found)}d")
            told = self.workers.gather(packed.pack(*found.values()))
            found = dict(zip(found, packed.unpack(told[0]), strict=True))
        return found

    def close(self) -> None:
        """Nothing dropped any more, and the optimiser at its base rates."""
        self._drop_nothing()
        for group in self.optimizer.param_groups:
            group["lr"] = group.pop("initial_lr", group["lr"])

    def _drop_nothing(self) -> None:
        if self.skipping is not None:
            self.skipping.clear_draw()


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        right = "a function that returns a number"
        raise ValueError(f"evaluations[{name!r}] returned {shown(value)}: give {right}") from None


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


def batch_source(data: Any, accumulate: int) -> Any:
    """The data as what has `.batch(step, micro_batch)`; a list goes around."""
    if hasattr(data, "batch"):
        return data
    is_text = isinstance(data, (str, bytes))
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not is_text:
        return _Sequence(data, accumulate)
    raise ValueError(
        f"data={shown(data)} must have .batch(step, micro_batch), or be a list of batches"
    )
