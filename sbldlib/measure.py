"""What a step costs: floating-point operations block by block, and memory."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .dropping.blocks import NoBlocksError
from .dropping.skipping import attach
from .losses import device_of, next_token_loss, to_device
from .records import Record


@dataclass(frozen=True, kw_only=True)
class FlopCount(Record):
    """Floating-point operations of one training step on one batch, forward and backward.

    Attributes:
        blocks: of each residual block.
        outside: of everything else: embeddings, head, loss.
    """

    blocks: tuple[float, ...]
    outside: float

    @property
    def full(self) -> float:
        """Operations at full depth."""
        return sum(self.blocks) + self.outside

    @property
    def outside_share(self) -> float:
        """Share q of a full step that no layer dropping can save."""
        return self.outside / self.full

    def of(self, layers_run: Iterable[int]) -> float:
        """Operations of a step in which these layers ran."""
        return self.outside + sum(self.blocks[layer] for layer in layers_run)

    def ceiling(self, drop: float) -> float:
        """The most that a mean drop of this share of the layers can save: (1 - q) * drop."""
        return (1 - self.outside_share) * drop


def count_flops(model: nn.Module, batch: Any, *, loss=next_token_loss) -> FlopCount:
    """Count one training step's operations at full depth, on the batch's first row, times its rows.

    Matrix products are counted, attention's at its full T x T size; LSTM kernels count as 0, as
    torch's counter has it. Gradients are cleared; random state is left as it was.
    """
    row, num_rows = _first_row(to_device(batch, model))
    try:
        skipping = attach(model)
        names, depth = [block.name for block in skipping.blocks], skipping.full_depth()
    except NoBlocksError:
        names, depth = [], nullcontext()
    device, counter = device_of(model), FlopCounterMode(display=False)
    cuda = [device] if device.type == "cuda" else []
    # Of the attention kernels, only the plain one is counted on every device.
    with torch.random.fork_rng(devices=cuda), depth, sdpa_kernel(SDPBackend.MATH):
        with torch.enable_grad(), counter:
            loss(model, row).backward()
    model.zero_grad(set_to_none=True)
    counts, root = counter.get_flop_counts(), type(model).__name__
    blocks = [float(sum(counts.get(f"{root}.{name}", {}).values())) * num_rows for name in names]
    total = float(counter.get_total_flops()) * num_rows
    return FlopCount(blocks=tuple(blocks), outside=total - sum(blocks))


def peak_memory_bytes(device: torch.device) -> int | None:
    """Most CUDA memory held by tensors since the last reset; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _first_row(batch: Any) -> tuple[Any, int]:
    if isinstance(batch, Tensor):
        return batch[:1], batch.shape[0]
    if isinstance(batch, dict):
        rows = {name: _first_row(item) for name, item in batch.items()}
        return {name: row for name, (row, _) in rows.items()}, next(iter(rows.values()))[1]
    rows = [_first_row(item) for item in batch]
    return tuple(row for row, _ in rows), rows[0][1]
