"""Floating-point operations of a training step, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..losses import check_loss, next_token_loss, to_device
from ..records import Record
from .step import COUNTING, first_row, first_tensor, full_step, tensors_in


@dataclass(frozen=True, kw_only=True)
class FlopCount(Record):
    """Floating-point operations of one training step on one batch, forward and backward.

    Attributes:
        blocks: of each residual block.
        outside: of everything else: embeddings, head, loss.
        blocks_forward: the forward part of each block's; the rest is backward, with what activation
            recomputation runs again. By default a third, as where every operand takes a gradient.
    """

    blocks: tuple[float, ...]
    outside: float
    blocks_forward: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        forward = self.blocks_forward or tuple(block / 3 for block in self.blocks)
        if len(forward) != len(self.blocks):
            raise ValueError(
                f"blocks_forward is for {len(forward)} layers, blocks for {len(self.blocks)}"
            )
        object.__setattr__(self, "blocks_forward", tuple(forward))

    @property
    def full(self) -> float:
        """Operations at full depth."""
        return sum(self.blocks) + self.outside

    @property
    def outside_share(self) -> float:
        """Share q of a full step that no layer dropping can save; 1 where nothing is counted."""
        return self.outside / self.full if self.full else 1.0

    def of(
        self,
        layers_run: Iterable[int],
        *,
        forward_share: Sequence[float] = (),
        backward_share: Sequence[float] = (),
    ) -> float:
        """Operations of a step in which these layers ran, all of them or these shares of rows.

        Args:
            layers_run: layers that ran; not read where `forward_share` is given.
            forward_share, backward_share: one a layer, in [0, 1], as in `StepRecord`.
        """
        if not (forward_share or backward_share):
            return self.outside + sum(self.blocks[layer] for layer in layers_run)
        ran = set(layers_run)
        forward = forward_share or [float(layer in ran) for layer in range(len(self.blocks))]
        backward = backward_share or forward
        parts = zip(self.blocks, self.blocks_forward, forward, backward, strict=True)
        return self.outside + sum(
            ahead * forwards + (whole - ahead) * backwards
            for whole, ahead, forwards, backwards in parts
        )

    def ceiling(self, drop: float) -> float:
        """The most that a mean drop of this share of the layers can save: (1 - q) * drop."""
        return (1 - self.outside_share) * drop


def count_flops(model: nn.Module, batch: Any, *, loss=next_token_loss) -> FlopCount:
    """Count one training step's operations at full depth, on the batch's first row, times its rows.

    Matrix products are counted, attention's at its full T x T size, and what activation
    recomputation runs again; LSTM kernels count as 0, as torch's counter has it. Gradients are
    cleared; mode, running statistics and random state are left as they were.
    """
    num_rows = len(first_tensor(batch))
    row = to_device(first_row(batch, num_rows), model)
    with full_step(model) as blocks:
        forward, counts, total = _count_by_block(blocks, lambda: check_loss(loss(model, row)))
    model.zero_grad(set_to_none=True)
    return FlopCount(
        blocks=tuple(float(count * num_rows) for count in counts),
        outside=float((total - sum(counts)) * num_rows),
        blocks_forward=tuple(float(count * num_rows) for count in forward),
    )


class _BlockCounter:
    """Adds up what runs inside each block: forward, backward, and what is recomputed there.

    A block's backward lies between the gradients of its output and of its input. torch's counter
    names modules from the one called first, and misses inputs given by keyword.
    """

    def __init__(self, blocks: Sequence[nn.Module], total: Callable[[], int]):
        self.counts = [0] * len(blocks)
        self._total, self._in_backward = total, set()
        self._hooks = []
        for layer, block in enumerate(blocks):
            begin, end = partial(self._begin, layer), partial(self._end, layer)
            self._hooks.append(block.register_forward_pre_hook(begin, with_kwargs=True))
            self._hooks.append(block.register_forward_hook(end))

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for layer in tuple(self._in_backward):  # its input takes no gradient
            self._end_backward(layer)

    def _begin(self, layer: int, _block: nn.Module, args: tuple, kwargs: dict) -> None:
        if layer not in self._in_backward:  # else recomputed, and counted with the backward
            self.counts[layer] -= self._total()
            _on_gradient((args, kwargs), lambda: self._end_backward(layer))

    def _end(self, layer: int, _block: nn.Module, _args: tuple, output: Any) -> None:
        if layer not in self._in_backward:
            self.counts[layer] += self._total()
            _on_gradient(output, lambda: self._begin_backward(layer))

    def _begin_backward(self, layer: int) -> None:
        self.counts[layer] -= self._total()
        self._in_backward.add(layer)

    def _end_backward(self, layer: int) -> None:
        if layer in self._in_backward:  # else it ended within a nested backward, in recomputation
            self.counts[layer] += self._total()
            self._in_backward.discard(layer)


def _count_by_block(
    blocks: Sequence[nn.Module], forward: Callable[[], Tensor]
) -> tuple[list[int], list[int], int]:
    """Operations of each block's forward, of its forward and backward, and of all there is."""
    counter = FlopCounterMode(display=False)
    by_block = _BlockCounter(blocks, counter.get_total_flops)
    # Of the attention kernels, only the plain one is counted on every device.
    with COUNTING, sdpa_kernel(SDPBackend.MATH), torch.compiler.set_stance("force_eager"):
        try:
            with counter:
                value = forward()
                ahead = list(by_block.counts)
                value.backward()
        finally:
            by_block.close()
    return ahead, by_block.counts, counter.get_total_flops()


def _on_gradient(tensors: Any, then: Callable[[], None]) -> None:
    """Call `then` when the gradient of the first of the tensors is known, where it takes one."""
    tensor = next((t for t in tensors_in(tensors) if t.is_floating_point()), None)
    if tensor is not None and tensor.requires_grad:
        tensor.register_hook(lambda _gradient: then())
