"""A peer to time against: GPT-2 in the layout of nanoGPT's published description, written here.

Separate `c_attn` and `c_proj`, a language-model head tied to the token table, positions looked up
by index, exact GELU, scaled dot-product attention, and the loss taken inside `forward` over
flattened targets. It is a peer for speed: no initialisation, generation or loading.

Legend: B batch, T tokens, D width, V vocabulary, H heads, E width of a head.

Source: [S] the model description of github.com/karpathy/nanoGPT (Karpathy, 2022); no line of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbldlib.models.gpt import GPTConfig


class Attention(nn.Module):
    """Causal self-attention with one matrix for query, key and value."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.c_attn = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.c_proj = nn.Linear(config.width, config.width, bias=config.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        query_BTD, key_BTD, value_BTD = self.c_attn(x_BTD).chunk(3, dim=-1)
        shape = (B, T, self.num_heads, D // self.num_heads)
        mixed_BHTE = F.scaled_dot_product_attention(
            query_BTD.view(shape).transpose(1, 2),
            key_BTD.view(shape).transpose(1, 2),
            value_BTD.view(shape).transpose(1, 2),
            is_causal=True,
        )
        return self.c_proj(mixed_BHTE.transpose(1, 2).contiguous().view(B, T, D))


class PublishedBlock(nn.Module):
    """Pre-norm attention and a four times wider MLP, each with its residual."""

    def __init__(self, config: GPTConfig, activation: nn.Module) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width, bias=config.bias)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.width, bias=config.bias)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 4 * config.width, bias=config.bias),
            activation,
            nn.Linear(4 * config.width, config.width, bias=config.bias),
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attn(self.ln_1(x_BTD))
        return x_BTD + self.mlp(self.ln_2(x_BTD))


class PublishedGPT(nn.Module):
    """The whole model; `forward` returns the loss, in nats per token.

    Args:
        config: size and shape; dropout is taken to be 0.
        activation: of the MLP; the published one is `nn.GELU()`.
    """

    def __init__(self, config: GPTConfig, activation: nn.Module) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocabulary_size, config.width)
        self.wpe = nn.Embedding(config.context_length, config.width)
        self.h = nn.ModuleList(PublishedBlock(config, activation) for _ in range(config.num_layers))
        self.ln_f = nn.LayerNorm(config.width, bias=config.bias)
        self.lm_head = nn.Linear(config.width, config.vocabulary_size, bias=False)
        nn.init.normal_(self.wte.weight, std=config.init_std)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        positions_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        x_BTD = self.wte(tokens_BT) + self.wpe(positions_T)
        for block in self.h:
            x_BTD = block(x_BTD)
        logits_BTV = self.lm_head(self.ln_f(x_BTD))
        return F.cross_entropy(
            logits_BTV.view(-1, logits_BTV.shape[-1]), targets_BT.view(-1), ignore_index=-100
        )
