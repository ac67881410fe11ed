"""Models of a few hundred weights whose blocks differ in what they take, return and share.

Legend: B batch, T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

D = 8


class Block(nn.Module):
    """A residual block; `extra` is what it returns beside its activation, None for a tensor."""

    def __init__(self, dropout: float = 0.0, extra: tuple | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.up = nn.Linear(D, 2 * D)
        self.down = nn.Linear(2 * D, D)
        self.dropout = nn.Dropout(dropout)
        self.extra = extra

    def forward(self, x_BTD: Tensor, scale: float = 1.0):
        update_BTD = self.down(torch.tanh(self.up(self.norm(x_BTD))))
        y_BTD = x_BTD + scale * self.dropout(update_BTD)
        return y_BTD if self.extra is None else (y_BTD, *self.extra)


class Stack(nn.Module):
    """Blocks one after the other between an embedding and a head.

    Args:
        blocks: built outside, so that any can stand here.
        by_keyword: whether blocks get their input by its name.
        recompute: None, or the `use_reentrant` of activation recomputation.
    """

    def __init__(self, *blocks: nn.Module, by_keyword: bool = False, recompute: bool | None = None):
        super().__init__()
        self.embedding = nn.Linear(D, D)
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(D, D)
        self.by_keyword, self.recompute = by_keyword, recompute

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = self.embedding(x_BTD)
        for block in self.blocks:
            if self.recompute is not None:
                output = checkpoint(block, x_BTD, use_reentrant=self.recompute)
            else:
                output = block(x_BTD=x_BTD) if self.by_keyword else block(x_BTD)
            x_BTD = output[0] if isinstance(output, tuple) else output
        return self.head(x_BTD)


class Widening(nn.Module):
    """Stands among residual blocks, with a norm and two matrices, and changes the shape."""

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.up = nn.Linear(D, D * factor)
        self.mix = nn.Linear(D * factor, D * factor)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.mix(self.up(self.norm(x_BTD)))


class Handing(Block):
    """Hands its residual to the next block beside its activation, as Mamba's blocks do."""

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        y_BTD = super().forward(x_BTD)
        return y_BTD, x_BTD


def stack(num_layers: int = 4, *, seed: int = 0, dropout: float = 0.0, extra=None, **settings):
    """A Stack of like blocks, its weights drawn from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Stack(*(Block(dropout, extra) for _ in range(num_layers)), **settings)


def inputs(seed: int = 0, rows: int = 2, tokens: int = 3) -> Tensor:
    """Activations [B, T, D]."""
    return torch.randn(rows, tokens, D, generator=torch.Generator().manual_seed(seed))
