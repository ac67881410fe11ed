"""What every estimator of sensitivity is given, and what it is called by."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..dropping.skipping import Skipping
from ..errors import shown
from ..losses import evaluate_loss, evaluation_mode, num_targets, to_device
from ..signals import HeldSignals

Loss = Callable[[nn.Module, Any], Tensor]
Instead = Callable[[int, Callable[..., Any], tuple, dict], Any]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measurement: a model at its present weights, in evaluation mode, at full depth.

    Attributes:
        model, skipping: the model and what it is attached to.
        given_batches: as the caller gave them; `batches` moves each to the model's device.
        loss: mean loss of one batch.
        layers: those asked for.
        rows_at_once: rows that a block may be given at once; None lets the estimator choose.
        signals: held back while a batch is measured.
    """

    model: nn.Module
    skipping: Skipping
    given_batches: Sequence[Any]
    loss: Loss
    layers: tuple[int, ...]
    rows_at_once: int | None = None
    signals: HeldSignals = field(default_factory=HeldSignals)

    @property
    def batches(self) -> Iterator[tuple[int, Any]]:
        """The batches with their numbers, on the model's device; between them signals act."""
        for number, batch in enumerate(self.given_batches):
            yield number, to_device(batch, self.model)
            self.signals.let_through()

    def loss_of(self, batch: Any, where: str) -> Tensor:
        """The loss of a batch; ValueError saying where it is not one finite number."""
        loss = self.loss(self.model, batch)
        finite(loss, where)
        return loss

    def finite_score(self, score: float, layer: int, where: str) -> float:
        """A layer's score, or ValueError naming the layer where it is not finite."""
        if not math.isfinite(score):
            raise ValueError(
                f"{self.name(layer)}: the score is {score!r} {where}; it must be finite: look at "
                "the layer's weights, and at what this batch holds"
            )
        return score

    def name(self, layer: int) -> str:
        """A layer's number with its path in the model."""
        return f"layer {layer} ({self.skipping.blocks[layer].name})"


class Estimator(NamedTuple):
    """A way to measure sensitivity.

    Attributes:
        measure: a Measurement -> [layer][batch], larger is more sensitive.
        unit: of what it returns.
    """

    measure: Callable[[Measurement], list[list[float]]]
    unit: str


@contextmanager
def in_place_of_blocks(skipping: Skipping, instead: Instead) -> Iterator[None]:
    """Within this `with`, `instead` is called for every block."""
    skipping.instead = instead
    try:
        yield
    finally:
        skipping.instead = None


class BlockCall(NamedTuple):
    """One call of a block: its first input, and how to call it on another."""

    block: nn.Module
    run: Callable[..., Any]
    args: tuple
    kwargs: dict

    @property
    def given(self) -> Any:
        """The activation that comes in."""
        return self.args[0] if self.args else self.kwargs.get(self._input_name)

    def on(self, activation: Tensor, convert: Callable[[Any], Any] = lambda value: value) -> Any:
        """The block's output on another activation, its other arguments converted."""
        if self.args:
            args = (activation, *map(convert, self.args[1:]))
            return self.run(*args, **{name: convert(v) for name, v in self.kwargs.items()})
        others = {name: convert(v) for name, v in self.kwargs.items() if name != self._input_name}
        return self.run(**{self._input_name: activation, **others})

    @property
    def _input_name(self) -> str:
        return next(iter(inspect.signature(self.block.forward).parameters), "")


def activation_of(output: Any) -> Any:
    """The activation in what a block returned: a tensor, or the first of a tuple."""
    return output[0] if isinstance(output, tuple) and output else output


def with_activation(output: Any, activation: Tensor) -> Any:
    """An output of the same form that holds another activation."""
    return (activation, *output[1:]) if isinstance(output, tuple) else activation


def is_residual(given: Any, output: Any) -> bool:
    """Whether a block turned its input into an activation of the same shape."""
    both = isinstance(given, Tensor) and isinstance(output, Tensor)
    return both and not (given.is_nested or output.is_nested) and given.shape == output.shape


def at_full_depth(batch_number: int) -> str:
    """Where a loss was taken, in words."""
    return f"at full depth, on batch {batch_number}"


def finite(value: Any, where: str) -> float:
    """The loss as a number, or ValueError saying where it was not one finite number."""
    if isinstance(value, Tensor):
        value = value.detach()
    is_number = isinstance(value, (int, float, Tensor)) and getattr(value, "numel", int)() < 2
    if not is_number:
        raise ValueError(f"loss returned {shown(value)} {where}; it must be one number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"loss={number!r} {where}; it must be finite")
    return number


def mean_loss(model: nn.Module, batches: Sequence[Any], loss: Loss, where: str) -> float:
    """The mean over batches in evaluation mode, or ValueError naming one that is not finite."""
    mean = evaluate_loss(model, batches, loss)
    if not math.isfinite(mean):
        with torch.no_grad(), evaluation_mode(model):
            for number, batch in enumerate(batches):
                if num_targets(batch):
                    finite(loss(model, to_device(batch, model)), f"{where}, on batch {number}")
    return finite(mean, where)


def loss_without(
    measurement: Measurement, layer: int, replay: dict[int, Any], batch: Any, number: int
) -> float:
    """The loss of a batch without one layer, some blocks' outputs given by `replay`."""
    where = f"without {measurement.name(layer)}, on batch {number}"
    skipping = measurement.skipping
    skipping.replay = replay
    skipping.set_skipped({layer})
    try:
        return finite(measurement.loss(measurement.model, batch), where)
    finally:
        skipping.replay, skipping.skipped = {}, frozenset()


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that take a gradient.

    Raises:
        ValueError: there are none.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            f"{type(model).__name__} has no parameter with requires_grad=True; this method needs "
            "gradients, 'loss_delta' and 'block_influence' do not"
        )
    return parameters


def squared_norms(gradients: Sequence[Tensor | None]) -> Tensor:
    """Squared norm of each gradient, double precision; 0 where there is none."""
    zero = torch.zeros((), dtype=torch.float64)
    return torch.stack(
        [zero if g is None else g.detach().double().square().sum().cpu() for g in gradients]
    )
