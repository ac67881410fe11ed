"""BERT: a stack of encoders that reads every token with both sides of it in view.

Legend: B batch, T tokens, D width, V vocabulary, H heads, E width of a head (D / H), L layers.

Source: [S] Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", 2018, arXiv 1810.04805.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import check_kind, check_seed
from .bert_config import PRESETS, BertConfig
from .from_scratch import check_mask
from .generation import check_tokens
from .language_model import NamedModel

__all__ = ["PRESETS", "Bert", "BertBlock", "BertConfig", "BertOutput"]


class BertOutput(NamedTuple):
    """What BERT makes of a batch.

    Attributes:
        hidden_BTD: one vector a token, from both of its sides.
        pooled_BD: one vector a row, from its first token, in (-1, 1).
        masked_logits_BTV: which token stands at each place.
        next_sentence_logits_B2: column 0, the second segment follows the first; 1, it does not.
    """

    hidden_BTD: Tensor
    pooled_BD: Tensor
    masked_logits_BTV: Tensor
    next_sentence_logits_B2: Tensor


class SelfAttention(nn.Module):
    """Each token attends to every token that counts, before it and after it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.residual_dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, mask: Tensor | None) -> Tensor:
        B, T, D = x_BTD.shape
        query_BHTE, key_BHTE, value_BHTE = (
            part_BTD.view(B, T, self.num_heads, -1).transpose(1, 2)
            for part_BTD in self.query_key_value(x_BTD).split(D, dim=2)
        )
        x_BHTE = F.scaled_dot_product_attention(
            query_BHTE,
            key_BHTE,
            value_BHTE,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.residual_dropout(self.output(x_BHTE.transpose(1, 2).reshape(B, T, D)))


class FeedForward(nn.Module):
    """Each token by itself: four times as wide, GELU, and back."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.width, 4 * config.width)
        self.output = nn.Linear(4 * config.width, config.width)
        self.residual_dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.residual_dropout(self.output(F.gelu(self.hidden(x_BTD))))


class BertBlock(nn.Module):
    """An encoder block: self-attention, then the feed-forward, each added to what came in."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.norm = config.norm
        self.attention = SelfAttention(config)
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.feed_forward = FeedForward(config)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_epsilon)

    def forward(self, x_BTD: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.norm == "post":
            x_BTD = self.norm1(x_BTD + self.attention(x_BTD, mask))
            return self.norm2(x_BTD + self.feed_forward(x_BTD))
        x_BTD = x_BTD + self.attention(self.norm1(x_BTD), mask)
        return x_BTD + self.feed_forward(self.norm2(x_BTD))


class Bert(NamedModel):
    """Token, segment and position embeddings, encoder blocks in `blocks`, and two heads.

    The masked-language head's last map is the token embedding, with a bias of its own.

    Args:
        config: size and shape.
        seed: of the initial weights; torch's own random state is neither read nor moved. The
            weights are the same on every device.

    Sizes by name: "tiny", "bert-base" and "bert-large".

    Example:
        >>> model = Bert.from_preset("tiny")
        >>> hidden_BTD, pooled_BD, masked_logits_BTV, next_sentence_logits_B2 = model(tokens_BT)
    """

    config_class, presets = BertConfig, PRESETS
    config: BertConfig

    def __init__(self, config: BertConfig, seed: int = 0) -> None:
        super().__init__()
        right = "a BertConfig; Bert.from_preset('tiny') makes a model by name"
        self.config = check_kind("config", config, BertConfig, right)
        seed = check_seed("seed", seed)
        D, V, epsilon = config.width, config.vocabulary_size, config.norm_epsilon
        # torch's layers draw weights of their own at construction; on "meta" nothing is drawn.
        with torch.device("meta"):
            self.token_embedding = nn.Embedding(V, D)
            self.segment_embedding = nn.Embedding(config.num_segments, D)
            self.position_embedding = nn.Embedding(config.context_length, D)
            self.embedding_norm = nn.LayerNorm(D, eps=epsilon)
            self.embedding_dropout = nn.Dropout(config.dropout)
            self.blocks = nn.ModuleList(BertBlock(config) for _ in range(config.num_layers))
            pre = config.norm == "pre"
            self.final_norm = nn.LayerNorm(D, eps=epsilon) if pre else nn.Identity()
            self.pooler = nn.Linear(D, D)
            self.masked_transform = nn.Linear(D, D)
            self.masked_norm = nn.LayerNorm(D, eps=epsilon)
            self.masked_bias = nn.Parameter(torch.empty(V))
            self.next_sentence = nn.Linear(D, 2)
        self.to_empty(device=torch.get_default_device())
        self._draw_weights(seed)

    def forward(
        self,
        tokens_BT: Tensor,
        segments_BT: Tensor | None = None,
        mask_BT: Tensor | None = None,
    ) -> BertOutput:
        """All that BERT makes of these tokens; arguments as for `encode`."""
        hidden_BTD = self.encode(tokens_BT, segments_BT, mask_BT)
        pooled_BD = self.pool(hidden_BTD)
        return BertOutput(
            hidden_BTD=hidden_BTD,
            pooled_BD=pooled_BD,
            masked_logits_BTV=self.masked_logits(hidden_BTD),
            next_sentence_logits_B2=self.next_sentence(pooled_BD),
        )

    def encode(
        self,
        tokens_BT: Tensor,
        segments_BT: Tensor | None = None,
        mask_BT: Tensor | None = None,
    ) -> Tensor:
        """One vector a token, [B, T, D].

        Args:
            tokens_BT: whole numbers in 0..V-1, [CLS] first, rows filled up with padding.
            segments_BT: whole numbers in 0..num_segments-1; None is 0 everywhere.
            mask_BT: True where a token counts; None is all but padding. What does not count is
                looked at by no token; its own vectors mean nothing.

        Raises:
            ValueError: tokens or segments outside their range (checked on a CPU; a GPU would have
                to be waited for), segments or a mask of another shape, or more tokens than
                context_length.
        """
        x_BTD = self._embed(tokens_BT, segments_BT)
        shape = tuple(tokens_BT.shape)
        if mask_BT is None:
            mask_BT = tokens_BT != self.config.padding
        else:
            check_mask("mask_BT", mask_BT, shape)
            if tuple(mask_BT.shape) != shape:
                raise ValueError(f"mask_BT of shape {tuple(mask_BT.shape)} must be {shape}")
        mask_B11T = mask_BT[:, None, None, :]
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_B11T)
        return self.final_norm(x_BTD)

    def pool(self, hidden_BTD: Tensor) -> Tensor:
        """One vector a row, [B, D], from its first token, which is [CLS]."""
        return self.pooler(hidden_BTD[:, 0]).tanh()

    def masked_logits(self, hidden: Tensor) -> Tensor:
        """Which token stands at these places, [..., V], from their vectors, [..., D].

        In training only the masked places are asked, a seventh of all.
        """
        x = self.masked_norm(F.gelu(self.masked_transform(hidden)))
        return F.linear(x, self.token_embedding.weight, self.masked_bias)

    def _embed(self, tokens_BT: Tensor, segments_BT: Tensor | None) -> Tensor:
        """The normalised sum of token, segment and position embeddings."""
        if not isinstance(tokens_BT, Tensor) or tokens_BT.ndim != 2 or not tokens_BT.numel():
            check_tokens(tokens_BT, self.config.vocabulary_size)
        T = tokens_BT.shape[1]
        if self.config.context_length < T:
            raise ValueError(f"{T} tokens exceed context_length={self.config.context_length}")
        if segments_BT is None:
            segments_BT = torch.zeros_like(tokens_BT)
        elif segments_BT.shape != tokens_BT.shape:
            raise ValueError(
                f"segments_BT of shape {tuple(segments_BT.shape)} must have the tokens' shape "
                f"{tuple(tokens_BT.shape)}"
            )
        try:
            x_BTD = self.token_embedding(tokens_BT) + self.segment_embedding(segments_BT)
        except (IndexError, RuntimeError):  # found out here, for a GPU's tokens must not be read
            check_tokens(tokens_BT, self.config.vocabulary_size)
            _check_segments(segments_BT, self.config.num_segments)
            raise
        x_BTD = x_BTD + self.position_embedding.weight[:T]
        return self.embedding_dropout(self.embedding_norm(x_BTD))

    @torch.no_grad()
    def _draw_weights(self, seed: int) -> None:
        """Normal weights, biases of zero, norms that change nothing."""
        if self.token_embedding.weight.is_meta:
            return
        generator = torch.Generator().manual_seed(seed)
        self.masked_bias.zero_()
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, (nn.Linear, nn.Embedding)):
                drawn = torch.empty(module.weight.shape, dtype=torch.float32, device="cpu")
                drawn.normal_(0.0, self.config.init_std, generator=generator)
                module.weight.copy_(drawn)
                if isinstance(module, nn.Linear):
                    module.bias.zero_()


def _check_segments(segments_BT: Tensor, num_segments: int) -> None:
    lowest, highest = (int(end) for end in torch.aminmax(segments_BT))
    if lowest < 0 or highest >= num_segments:
        outside = lowest if lowest < 0 else highest
        raise ValueError(f"segment {outside} is outside num_segments={num_segments}")
