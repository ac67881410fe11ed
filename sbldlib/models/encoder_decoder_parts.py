"""What the encoder-decoder is built of: attention, feed-forward, blocks and the two halves.

Legend: B batch, S source tokens (or tokens attended to), T target tokens, D width, H heads, E width
of a head (D / H).
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .encoder_decoder_config import EncoderDecoderConfig
from .from_scratch import causal_mask, scaled_dot_product_attention


class Maps(dict[str, Tensor]):
    """One block's attention weights: "own" of its self-attention, "cross" of the other.

    A class of its own, for a rehearsal of a skipped block copies what has attributes: what that
    looked at is not kept.
    """


class Attention(nn.Module):
    """Each token of x takes from the tokens that it may see, in several heads."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        D = config.width
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.query = nn.Linear(D, D, bias=config.bias)
        self.key = nn.Linear(D, D, bias=config.bias)
        self.value = nn.Linear(D, D, bias=config.bias)
        self.output = nn.Linear(D, D, bias=config.bias)
        self.residual_dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, seen_BSD: Tensor, mask_B11S: Tensor | None) -> Tensor:
        """
        Args:
            mask_B11S: True where a token may be seen; None is causal: those up to its own.
        """
        x_BHTE = F.scaled_dot_product_attention(
            *self._heads(x_BTD, seen_BSD),
            attn_mask=mask_B11S,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=mask_B11S is None,
        )
        return self._join(x_BHTE)

    def explicit(
        self, x_BTD: Tensor, seen_BSD: Tensor, mask_B11S: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The same with each head's weights, [B, H, T, S]; without dropout of them."""
        mask = causal_mask(x_BTD.shape[1], x_BTD.device) if mask_B11S is None else mask_B11S
        x_BHTE, weights_BHTS = scaled_dot_product_attention(*self._heads(x_BTD, seen_BSD), mask)
        return self._join(x_BHTE), weights_BHTS

    def _heads(self, x_BTD: Tensor, seen_BSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x, keys and values of what is seen, each [B, H, tokens, E]."""

        def split(part_BTD: Tensor) -> Tensor:
            return part_BTD.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

        return split(self.query(x_BTD)), split(self.key(seen_BSD)), split(self.value(seen_BSD))

    def _join(self, x_BHTE: Tensor) -> Tensor:
        return self.residual_dropout(self.output(x_BHTE.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """Each token by itself: wider, an activation, and back."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        assert config.hidden_width is not None
        self.hidden = nn.Linear(config.width, config.hidden_width, bias=config.bias)
        self.activation = {"relu": nn.ReLU, "gelu": nn.GELU}[config.activation]()
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden_width, config.width, bias=config.bias)
        self.residual_dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        hidden_BTF = self.dropout(self.activation(self.hidden(x_BTD)))
        return self.residual_dropout(self.output(hidden_BTF))


class EncoderBlock(nn.Module):
    """Self-attention, then the feed-forward, each added to what came in."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.is_pre_norm = config.norm == "pre"
        self.attention = Attention(config)
        self.norm1 = nn.LayerNorm(config.width, bias=config.bias)
        self.feed_forward = FeedForward(config)
        self.norm2 = nn.LayerNorm(config.width, bias=config.bias)

    def forward(self, x_BSD: Tensor, mask_B11S: Tensor, maps: Maps | None = None) -> Tensor:
        def attend(x_BSD: Tensor) -> Tensor:
            return _attend(self.attention, x_BSD, x_BSD, mask_B11S, maps, "own")

        x_BSD = _add(self.is_pre_norm, self.norm1, attend, x_BSD)
        return _add(self.is_pre_norm, self.norm2, self.feed_forward, x_BSD)


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention to the encoder's output, then the feed-forward."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.is_pre_norm = config.norm == "pre"
        self.attention = Attention(config)
        self.norm1 = nn.LayerNorm(config.width, bias=config.bias)
        self.cross_attention = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, bias=config.bias)
        self.feed_forward = FeedForward(config)
        self.norm3 = nn.LayerNorm(config.width, bias=config.bias)

    def forward(
        self, x_BTD: Tensor, memory_BSD: Tensor, mask_B11S: Tensor, maps: Maps | None = None
    ) -> Tensor:
        def attend(x_BTD: Tensor) -> Tensor:
            return _attend(self.attention, x_BTD, x_BTD, None, maps, "own")

        def look_across(x_BTD: Tensor) -> Tensor:
            return _attend(self.cross_attention, x_BTD, memory_BSD, mask_B11S, maps, "cross")

        x_BTD = _add(self.is_pre_norm, self.norm1, attend, x_BTD)
        x_BTD = _add(self.is_pre_norm, self.norm2, look_across, x_BTD)
        return _add(self.is_pre_norm, self.norm3, self.feed_forward, x_BTD)


class Encoder(nn.Module):
    """Blocks over the source; after pre-norm blocks, a last norm."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.num_encoder_layers))
        self.final_norm = _final_norm(config)

    def forward(self, x_BSD: Tensor, mask_B11S: Tensor, kept: list[Maps] | None = None) -> Tensor:
        """
        Args:
            kept: where given, each block's attention weights are put here.
        """
        for block in self.blocks:
            x_BSD = block(x_BSD, mask_B11S, _new_maps(kept))
        return self.final_norm(x_BSD)


class Decoder(nn.Module):
    """Blocks over the target, each of which reads the encoder's output too."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.num_decoder_layers))
        self.final_norm = _final_norm(config)

    def forward(
        self,
        x_BTD: Tensor,
        memory_BSD: Tensor,
        mask_B11S: Tensor,
        kept: list[Maps] | None = None,
    ) -> Tensor:
        """
        Args:
            kept: where given, each block's attention weights are put here.
        """
        for block in self.blocks:
            x_BTD = block(x_BTD, memory_BSD, mask_B11S, _new_maps(kept))
        return self.final_norm(x_BTD)


def _attend(
    attention: Attention,
    x_BTD: Tensor,
    seen_BSD: Tensor,
    mask_B11S: Tensor | None,
    maps: Maps | None,
    name: str,
) -> Tensor:
    """The attention's output; its weights are computed where they are asked for alone."""
    if maps is None:
        return attention(x_BTD, seen_BSD, mask_B11S)
    x_BTD, maps[name] = attention.explicit(x_BTD, seen_BSD, mask_B11S)
    return x_BTD


def _add(
    is_pre_norm: bool, norm: nn.Module, part: Callable[[Tensor], Tensor], x_BTD: Tensor
) -> Tensor:
    """A residual: x and what the part makes of it, normalised before the part or after the sum."""
    if is_pre_norm:
        return x_BTD + part(norm(x_BTD))
    return norm(x_BTD + part(x_BTD))


def _new_maps(kept: list[Maps] | None) -> Maps | None:
    if kept is None:
        return None
    kept.append(Maps())
    return kept[-1]


def _final_norm(config: EncoderDecoderConfig) -> nn.Module:
    """A pre-norm half's last sum is not normalised by any block."""
    if config.norm == "post":
        return nn.Identity()
    return nn.LayerNorm(config.width, bias=config.bias)
