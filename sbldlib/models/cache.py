"""Keys and values of the tokens read so far, so that generation reads each token once.

Legend: B batch, H heads, T new tokens, S tokens cached, E width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """One layer's keys and values; empty where its block has not run."""

    def __init__(self) -> None:
        self.keys_BHSE: Tensor | None = None
        self.values_BHSE: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of tokens cached."""
        return 0 if self.keys_BHSE is None else self.keys_BHSE.shape[2]

    def extend(self, keys_BHTE: Tensor, values_BHTE: Tensor) -> tuple[Tensor, Tensor]:
        """Append the new tokens' keys and values; returns those of all tokens."""
        if self.keys_BHSE is None or self.values_BHSE is None:
            self.keys_BHSE, self.values_BHSE = keys_BHTE, values_BHTE
        else:
            self.keys_BHSE = torch.cat((self.keys_BHSE, keys_BHTE), dim=2)
            self.values_BHSE = torch.cat((self.values_BHSE, values_BHTE), dim=2)
        return self.keys_BHSE, self.values_BHSE


class KeyValueCache:
    """Keys and values of every layer, for one batch of sequences that grow together.

    The number of tokens read is counted here, once a forward, and never read from a layer: layer 0
    may be skipped like any other.

    Attributes:
        layers: one LayerCache a layer.
        length: tokens read so far; the position of the next one.
    """

    def __init__(self, num_layers: int) -> None:
        self.layers = tuple(LayerCache() for _ in range(num_layers))
        self.length = 0

    def advance(self, num_tokens: int) -> None:
        """Count the tokens of one forward, after its last block.

        Raises:
            ValueError: the blocks that ran are not those that ran before. The cache is of no use
                from then on.
        """
        length = self.length + num_tokens
        cached = [layer.length for layer in self.layers]
        changed = [layer for layer, held in enumerate(cached) if held not in (0, length)]
        if changed:
            raise ValueError(
                f"the active layers changed in mid-generation: after {length} tokens, layers "
                f"{changed} hold {[cached[layer] for layer in changed]}; keep the same layers "
                "active while one cache is used"
            )
        self.length = length
