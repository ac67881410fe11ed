"""What a training step keeps from its forward for its backward pass, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check_positive_int, items
from ..losses import check_loss, next_token_loss, to_device
from ..records import Record
from .step import COUNTING, full_step, tensors_in

OUTSIDE = -1  # of every block


@dataclass(frozen=True, kw_only=True)
class SavedBytes(Record):
    """Bytes that one training step on one batch keeps from its forward for its backward pass.

    Attributes:
        blocks: kept by each residual block: its input and what it computes.
        outside: by everything else, with what blocks share and no gradient passes, as masks.
    """

    blocks: tuple[int, ...]
    outside: int

    def __post_init__(self) -> None:
        blocks = [
            check_positive_int("blocks", size, minimum=0) for size in items("blocks", self.blocks)
        ]
        object.__setattr__(self, "blocks", tuple(blocks))
        check_positive_int("outside", self.outside, minimum=0)

    @property
    def full(self) -> int:
        """Bytes at full depth."""
        return sum(self.blocks) + self.outside

    def of(self, layers_run: Iterable[int]) -> int:
        """Bytes of a step in which these layers ran.

        Args:
            layers_run: layers in 0..L-1.
        """
        return self.outside + sum(self.blocks[layer] for layer in layers_run)


def count_saved_bytes(model: nn.Module, batch: Any, *, loss=next_token_loss) -> SavedBytes:
    """Count what one training step at full depth keeps; each storage once, weights and batch not.

    It runs the forward pass of the whole batch: masks and tables do not grow with its rows, so that
    one row's bytes cannot be multiplied. Counted is what is kept when it ends: under activation
    recomputation, the inputs of what runs again. A compiled model is counted as it is in Python.
    Gradients, mode, running statistics and random state are left as they were.
    """
    batch = to_device(batch, model)
    known = (*model.parameters(), *model.buffers(), *tensors_in(batch))
    with full_step(model) as blocks, COUNTING, torch.compiler.set_stance("force_eager"):
        saved = _Saved(blocks, known)
        try:
            with torch.autograd.graph.saved_tensors_hooks(saved.add, lambda tensor: tensor):
                value = check_loss(loss(model, batch))
        finally:
            saved.close()
    counts = saved.counts()
    del value  # it holds what was saved: no address was given out twice until here
    return SavedBytes(blocks=tuple(counts[:-1]), outside=counts[-1])


@dataclass
class _Storage:
    """One piece of memory: its size, where it was saved, and whether a gradient passes it."""

    num_bytes: int
    places: list[int] = field(default_factory=list)
    takes_gradient: bool = False


class _Saved:
    """Notes each storage that is saved for backward, and in which blocks."""

    def __init__(self, blocks: Sequence[nn.Module], known: Iterable[Tensor]):
        self._known = {_address(tensor) for tensor in known}
        self._storages: dict[int, _Storage] = {}
        self._inputs: dict[int, tuple[int, Tensor]] = {}  # held, so that no address is used again
        self._place, self._num_blocks, self._hooks = OUTSIDE, len(blocks), []
        for layer, block in enumerate(blocks):

            def begin(_: nn.Module, args: tuple, kwargs: dict, layer: int = layer) -> None:
                self._place = layer
                for tensor in tensors_in((args, kwargs)):
                    self._inputs.setdefault(_address(tensor), (layer, tensor))

            self._hooks.append(block.register_forward_pre_hook(begin, with_kwargs=True))
            self._hooks.append(block.register_forward_hook(self._end))

    def add(self, tensor: Tensor) -> Tensor:
        if _address(tensor) not in self._known:
            size = tensor.untyped_storage().nbytes()
            storage = self._storages.setdefault(_address(tensor), _Storage(size))
            storage.places.append(self._place)
            storage.takes_gradient |= tensor.requires_grad
        return tensor

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def counts(self) -> list[int]:
        """Bytes of each block, and last of everything else."""
        counts = [0] * (self._num_blocks + 1)
        for address, storage in self._storages.items():
            place = storage.places[0]
            if not storage.takes_gradient:
                place = place if len(set(storage.places)) == 1 else OUTSIDE
            elif set(storage.places) == {OUTSIDE}:  # what recomputes a block keeps its input
                place, _ = self._inputs.get(address, (OUTSIDE, None))
            counts[place] += storage.num_bytes
        return counts

    def _end(self, *_: Any) -> None:
        self._place = OUTSIDE


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
