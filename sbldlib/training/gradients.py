"""The forward and backward passes of a step: from its batches to gradients that may be applied."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..dropping.skipping import Skipping
from ..losses import device_of, to_device
from ..measure import first_tensor
from . import ranks
from .config import TrainConfig
from .finite import NotFiniteError, check_gradient, check_loss, check_weights
from .launch import Workers
from .memory import Piece, Retry, cut

_TOLD = struct.Struct("<dqq")  # loss, tokens and pieces of one rank


@dataclass(frozen=True, kw_only=True)
class Computed:
    """What a step's passes came to, over all ranks.

    Attributes:
        loss_nats: mean loss of the global batch.
        gradient_norm: before clipping.
        tokens: input tokens.
        micro_batches: forward and backward passes, micro-batches that were cut in parts as parts.
    """

    loss_nats: float
    gradient_norm: float
    tokens: int
    micro_batches: int


@dataclass(frozen=True, kw_only=True)
class _Ran:
    """One forward and backward pass."""

    micro_batch: int
    piece: Piece
    loss: Tensor


class Gradients:
    """Computes the gradients of one step after the other, on one rank or on several.

    Attributes:
        retry: in how many parts each micro-batch is run.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        optimizer: torch.optim.Optimizer,
        *,
        config: TrainConfig,
        skipping: Skipping | None,
        loss: Callable[[nn.Module, Any], Tensor],
        workers: Workers,
    ):
        """
        Raises:
            ValueError: the micro-batches cannot be shared out, or the model is sharded over others.
        """
        if config.accumulate % workers.count:
            raise ValueError(
                f"accumulate={config.accumulate} is the number of micro-batches of all "
                f"{workers.count} processes together: make it a multiple of {workers.count}"
            )
        self._model, self._data, self._optimizer = model, data, optimizer
        self._config, self._skipping, self._loss = config, skipping, loss
        self._workers, self._device = workers, device_of(model)
        self._is_sharded = ranks.check_sharding(model, workers)
        self._began = False
        self.retry = Retry()

    def compute(self, step: int, first: Any) -> Computed:
        """Leave the step's gradients on the weights: of all ranks, finite and clipped.

        Args:
            first: this rank's first micro-batch.

        Raises:
            NotFiniteError: a weight, loss or gradient is not finite.
            StepTooLargeError: memory ran out with one row at a time.
            RankMismatchError: the ranks are not at the same.
        """
        if not (self._began and self._model.training):  # a walk over all modules, not at each step
            self._model.train()
            self._began = True
        self.check_weights(step)
        ran = self._forward_backward(step, first)
        told = self._exchange(step, ran) if self._workers.count > 1 else None
        groups = self._optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.grad is not None]
        if told is not None:
            ranks.sum_gradients([p.grad for p in parameters], self._workers)
        norm = self._norm(parameters)
        if told is None:
            told = [self._totals(ran)]
        self._check_losses(step, ran)
        gradient_norm = float(norm)
        # Before clipping: a norm that is not finite would spread to every gradient.
        check_gradient(self._model, self._skipping, gradient_norm, step=step)
        self._clip(parameters, norm)
        if self._config.skipped_weights == "decay":
            _zero_missing_gradients(groups)
        losses, tokens, micro_batches = zip(*told, strict=True)
        return Computed(
            loss_nats=sum(losses) / self._config.accumulate,
            gradient_norm=gradient_norm,
            tokens=sum(tokens),
            micro_batches=sum(micro_batches),
        )

    def check_weights(self, step: int) -> None:
        """Raise NotFiniteError where a weight that is trained is not finite; on all ranks alike."""
        weights = [p for group in self._optimizer.param_groups for p in group["params"]]
        error: NotFiniteError | None = None
        try:
            check_weights(self._model, self._skipping, weights, step=step)
        except NotFiniteError as found:
            error = found
        if self._is_sharded:  # else all ranks hold all of the weights
            flags = self._workers.gather(bytes([error is not None]))
            if error is None and any(map(any, flags)):
                rank = next(rank for rank, flag in enumerate(flags) if any(flag))
                error = NotFiniteError(
                    f"step {step}: a weight is not finite; rank {rank} says which", step=step
                )
        if error is not None:
            raise error

    def _forward_backward(self, step: int, first: Any) -> list[_Ran]:
        if self._is_sharded:
            # FSDP's own exchanges mix weights or hang where ranks differ: compared before them.
            # For the same reason one rank cannot do its step again by itself.
            ranks.compare(self._workers, self._draw(), step=step)
            return self._attempt(step, first)
        return self.retry.until_it_fits(step, lambda: self._attempt(step, first), self._device)

    def _attempt(self, step: int, first: Any) -> list[_Ran]:
        # None, not zeros: AdamW leaves the weights of a skipped layer alone, see skipped_weights.
        self._optimizer.zero_grad(set_to_none=True)
        if self._skipping is not None:
            self._skipping.reset_calls()
        ran, accumulate = [], self._config.accumulate
        # Grad mode and autocast are thread-local: entered here, in the thread that trains.
        with torch.enable_grad():
            for micro_batch in range(self._workers.index, accumulate, self._workers.count):
                batch = self._data.batch(step, micro_batch) if ran else first
                for piece in cut(batch, self.retry.parts):
                    self.retry.rows = (piece.end - piece.start, piece.num_rows)
                    with self._window(piece):
                        loss = self._forward(piece)
                        (loss * piece.share / accumulate).backward()
                    ran.append(_Ran(micro_batch=micro_batch, piece=piece, loss=loss.detach()))
        return ran

    def _forward(self, piece: Piece) -> Tensor:
        batch = to_device(piece.batch, self._model)
        with self._autocast():
            return self._loss(self._model, batch)

    def _window(self, piece: Piece) -> AbstractContextManager[None]:
        """What the piece is to run within, forward and backward."""
        if self._skipping is None or piece.is_whole:
            return nullcontext()
        return self._skipping.window(piece.start, piece.end, num_rows=piece.num_rows)

    def _autocast(self) -> torch.autocast:
        kind, precision = self._device.type, self._config.precision
        enabled = precision == "bfloat16" or (precision == "auto" and kind == "cuda")
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled)

    def _draw(self) -> dict[str, Any]:
        return {} if self._skipping is None else self._skipping.draw()

    def _totals(self, ran: list[_Ran]) -> tuple[float, int, int]:
        """Loss, tokens and number of what this rank ran."""
        loss = sum(one.piece.share * float(one.loss) for one in ran)
        return loss, sum(first_tensor(one.piece.batch).numel() for one in ran), len(ran)

    def _exchange(self, step: int, ran: list[_Ran]) -> list[tuple[float, int, int]]:
        """Every rank's totals, once it is certain that their gradients may be summed."""
        facts = {**self._draw(), **ranks.done_facts(self._model, self._skipping)}
        carried = _TOLD.pack(*self._totals(ran))
        told = ranks.compare(self._workers, facts, step=step, carried=carried)
        totals = [_TOLD.unpack(one) for one in told]
        for rank, (loss, *_) in enumerate(totals):
            if not math.isfinite(loss):
                self._check_losses(step, ran)
                raise NotFiniteError(
                    f"step {step}: the loss of rank {rank} is {loss}; that rank says where",
                    step=step,
                )
        return totals

    def _check_losses(self, step: int, ran: list[_Ran]) -> None:
        for one in ran:
            check_loss(
                self._model,
                self._skipping,
                float(one.loss),
                step=step,
                name=self._name(one),
                forward=None if self._is_sharded else lambda one=one: self._again(one),
            )

    def _again(self, one: _Ran) -> None:
        with self._window(one.piece):
            self._forward(one.piece)

    def _name(self, one: _Ran) -> str:
        rows = "" if one.piece.is_whole else f" of rows {one.piece.start} to {one.piece.end - 1}"
        which = f" of micro-batch {one.micro_batch}" if self._config.accumulate > 1 else ""
        return f"the loss{rows}{which}"

    def _norm(self, parameters: list[Any]) -> Tensor:
        gradients = [parameter.grad for parameter in parameters]
        if self._is_sharded:
            return ranks.total_norm(gradients)
        return nn.utils.get_total_norm(gradients)

    def _clip(self, parameters: list[Any], norm: Tensor) -> None:
        clip = ranks.clip if self._is_sharded else nn.utils.clip_grads_with_norm_
        clip(parameters, self._config.clip_norm, norm)


def _zero_missing_gradients(groups: list[dict[str, Any]]) -> None:
    """Let the optimiser move weights that got no gradient: by their momentum and weight decay."""
    for group in groups:
        for parameter in group["params"]:
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
