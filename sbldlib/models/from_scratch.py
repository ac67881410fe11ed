"""The transformer's parts written out, to be read: every number comes from a line in this file.

They compute what torch.nn's own parts compute, and are slower; `encoder_decoder` is the one to
train with.

Legend: B batch, T tokens, S tokens attended to, D width, H heads, E width of a head (D / H).

Source: [S] Vaswani et al., "Attention Is All You Need", 2017, arXiv 1706.03762; layer normalisation
from Ba et al. 2016, arXiv 1607.06450.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import check_choice, check_kind, check_positive_int

NORMS = ("post", "pre")


def softmax(scores: Tensor) -> Tensor:
    """Positive shares that sum to 1 along the last dimension; a larger score has a larger share."""
    # Without the largest score exp could overflow; shares are the same for scores that all move.
    shares = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return shares / shares.sum(dim=-1, keepdim=True)


def scaled_dot_product_attention(
    query_BHTE: Tensor, key_BHSE: Tensor, value_BHSE: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What each query takes from the values, [B, H, T, E], and in which shares, [B, H, T, S].

    Args:
        mask: booleans that broadcast to [B, H, T, S], True where a query may look; None is
            everywhere. A query that may look nowhere takes 0.

    Raises:
        ValueError: a mask of another type or shape.

    Source: [S] Vaswani et al. 2017, equation 1: softmax(Q K^T / sqrt(E)) V.
    """
    scores_BHTS = query_BHTE @ key_BHSE.transpose(-2, -1) / math.sqrt(query_BHTE.shape[-1])
    if mask is None:
        weights_BHTS = softmax(scores_BHTS)
    else:
        check_mask("mask", mask, tuple(scores_BHTS.shape))
        lowest = torch.finfo(scores_BHTS.dtype).min
        weights_BHTS = softmax(scores_BHTS.masked_fill(~mask, lowest)).masked_fill(~mask, 0)
    return weights_BHTS @ value_BHSE, weights_BHTS


def causal_mask(num_tokens: int, device: torch.device | None = None) -> Tensor:
    """[T, T], True where the column's token is the row's own or one before it."""
    size = check_positive_int("num_tokens", num_tokens)
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()


def check_mask(field: str, mask: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless these are booleans that broadcast to this shape."""
    check_kind(field, mask, Tensor, "a tensor of booleans, True where a token counts")
    if mask.dtype != torch.bool:
        raise ValueError(f"{field} of type {mask.dtype} must be torch.bool, True where to look")
    held = (1,) * (len(shape) - mask.ndim) + tuple(mask.shape)
    if len(held) != len(shape) or any(
        size not in (1, limit) for size, limit in zip(held, shape, strict=True)
    ):
        raise ValueError(f"{field} of shape {tuple(mask.shape)} must broadcast to {shape}")


def sinusoidal_positions(num_positions: int, width: int) -> Tensor:
    """One row a position, [T, D], in [-1, 1]: sines and cosines in turn, from fast to slow.

    Args:
        num_positions: T, >= 1.
        width: D, >= 1; column 2i turns once in 2 pi * 10000^(2i / D) positions.

    Source: [S] Vaswani et al. 2017, section 3.5.
    """
    T = check_positive_int("num_positions", num_positions)
    D = check_positive_int("width", width)
    position_T1 = torch.arange(T, dtype=torch.float64, device="cpu")[:, None]
    column_D = torch.arange(D, dtype=torch.float64, device="cpu")
    even_D = column_D - column_D % 2  # a sine and its cosine turn alike
    angle_TD = position_T1 / 10000 ** (even_D / D)
    return torch.where(column_D % 2 == 0, angle_TD.sin(), angle_TD.cos()).float()


class Linear(nn.Module):
    """x W^T + b.

    Args:
        num_inputs, num_outputs: widths, >= 1.
        generator: where the weights are drawn from, uniform as in Glorot & Bengio 2010.
    """

    def __init__(self, num_inputs: int, num_outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        inputs = check_positive_int("num_inputs", num_inputs)
        outputs = check_positive_int("num_outputs", num_outputs)
        bound = math.sqrt(6 / (inputs + outputs))
        drawn = torch.empty(outputs, inputs).uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(drawn)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


class LayerNorm(nn.Module):
    """Each token's numbers moved to mean 0 and variance 1, then scaled and shifted by weights.

    Args:
        width: D.
        epsilon: added to the variance, so that equal numbers divide by no 0.
    """

    def __init__(self, width: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        D = check_positive_int("width", width)
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(D))
        self.bias = nn.Parameter(torch.zeros(D))

    def forward(self, x_BTD: Tensor) -> Tensor:
        centred_BTD = x_BTD - x_BTD.mean(dim=-1, keepdim=True)
        variance_BT1 = centred_BTD.square().mean(dim=-1, keepdim=True)
        return centred_BTD / (variance_BT1 + self.epsilon).sqrt() * self.weight + self.bias


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each on its own share of the width.

    Args:
        width: D, a multiple of num_heads.
        num_heads: H.
        generator: where the weights are drawn from.
    """

    def __init__(self, width: int, num_heads: int, generator: torch.Generator) -> None:
        super().__init__()
        D = check_positive_int("width", width)
        self.num_heads = check_positive_int("num_heads", num_heads)
        if D % self.num_heads:
            raise ValueError(f"width={D} must be a multiple of num_heads={self.num_heads}")
        self.query = Linear(D, D, generator)
        self.key = Linear(D, D, generator)
        self.value = Linear(D, D, generator)
        self.output = Linear(D, D, generator)

    def forward(
        self, x_BTD: Tensor, seen_BSD: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What x takes from what it sees, [B, T, D], and each head's weights, [B, H, T, S].

        Self-attention sees x itself; cross-attention sees another sequence.
        """
        x_BHTE, weights_BHTS = scaled_dot_product_attention(
            self._heads(self.query(x_BTD)),
            self._heads(self.key(seen_BSD)),
            self._heads(self.value(seen_BSD)),
            mask,
        )
        return self.output(x_BHTE.transpose(1, 2).flatten(2)), weights_BHTS

    def _heads(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] as [B, H, T, E]: each head gets its share of the width."""
        B, T, D = x_BTD.shape
        return x_BTD.view(B, T, self.num_heads, D // self.num_heads).transpose(1, 2)


class FeedForward(nn.Module):
    """Each token by itself: wider, zero below zero, and back."""

    def __init__(self, width: int, hidden_width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = Linear(width, hidden_width, generator)
        self.output = Linear(hidden_width, width, generator)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.output(self.hidden(x_BTD).clamp(min=0))


class EncoderBlock(nn.Module):
    """Self-attention, then the feed-forward, each added to what came in.

    Args:
        width, num_heads, hidden_width: D, H, and the width between the feed-forward's two maps.
        generator: where the weights are drawn from.
        norm: "post" normalises each sum, as in 2017; "pre" normalises what each part reads.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        hidden_width: int,
        generator: torch.Generator,
        norm: str = "post",
    ) -> None:
        super().__init__()
        self.norm = check_choice("norm", norm, NORMS)
        self.attention = MultiHeadAttention(width, num_heads, generator)
        self.norm1 = LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden_width, generator)
        self.norm2 = LayerNorm(width)

    def forward(self, x_BSD: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.norm == "post":
            x_BSD = self.norm1(x_BSD + self.attention(x_BSD, x_BSD, mask)[0])
            return self.norm2(x_BSD + self.feed_forward(x_BSD))
        read_BSD = self.norm1(x_BSD)
        x_BSD = x_BSD + self.attention(read_BSD, read_BSD, mask)[0]
        return x_BSD + self.feed_forward(self.norm2(x_BSD))


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention to the encoder's output, then the feed-forward.

    Args:
        width, num_heads, hidden_width, generator, norm: as in EncoderBlock.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        hidden_width: int,
        generator: torch.Generator,
        norm: str = "post",
    ) -> None:
        super().__init__()
        self.norm = check_choice("norm", norm, NORMS)
        self.attention = MultiHeadAttention(width, num_heads, generator)
        self.norm1 = LayerNorm(width)
        self.cross_attention = MultiHeadAttention(width, num_heads, generator)
        self.norm2 = LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden_width, generator)
        self.norm3 = LayerNorm(width)

    def forward(
        self, x_BTD: Tensor, memory_BSD: Tensor, memory_mask: Tensor | None = None
    ) -> Tensor:
        """
        Args:
            memory_BSD: the encoder's output.
            memory_mask: booleans that broadcast to [B, H, T, S], True where it may be read.
        """
        causal_TT = causal_mask(x_BTD.shape[1], x_BTD.device)
        if self.norm == "post":
            x_BTD = self.norm1(x_BTD + self.attention(x_BTD, x_BTD, causal_TT)[0])
            x_BTD = self.norm2(x_BTD + self.cross_attention(x_BTD, memory_BSD, memory_mask)[0])
            return self.norm3(x_BTD + self.feed_forward(x_BTD))
        read_BTD = self.norm1(x_BTD)
        x_BTD = x_BTD + self.attention(read_BTD, read_BTD, causal_TT)[0]
        x_BTD = x_BTD + self.cross_attention(self.norm2(x_BTD), memory_BSD, memory_mask)[0]
        return x_BTD + self.feed_forward(self.norm3(x_BTD))
