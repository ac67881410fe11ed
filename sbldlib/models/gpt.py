"""GPT-2, the baseline: a decoder-only transformer that runs every block it holds.

Legend: B batch, T tokens, D width, V vocabulary, H heads, E width of a head (D / H), L layers.

Source: [S] Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.backends.cuda import flash_sdp_enabled  # of a CPU's kernel too
from torch.utils.checkpoint import checkpoint

from ..errors import check_kind, check_seed
from . import generation
from .cache import KeyValueCache, LayerCache
from .gpt_config import ACTIVATIONS, PRESETS, GPTConfig, flops_per_token
from .language_model import LanguageModel

__all__ = ["GPT", "PRESETS", "Block", "GPTConfig", "flops_per_token"]

NARROW, LONG = 16, 512  # numbers a head, tokens: below and from there a CPU gains by wider heads


class CausalSelfAttention(nn.Module):
    """Each token attends to itself and to those before it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.query_key_value = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.output = nn.Linear(config.width, config.width, bias=config.bias)
        self.residual_dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, cache: LayerCache | None = None) -> Tensor:
        B, T, D = x_BTD.shape
        query_BHTE, key_BHSE, value_BHSE = (
            part_BTD.view(B, T, self.num_heads, -1).transpose(1, 2)
            for part_BTD in self.query_key_value(x_BTD).split(D, dim=2)
        )
        if cache is not None:
            key_BHSE, value_BHSE = cache.extend(key_BHSE, value_BHSE)
        S = key_BHSE.shape[2]
        mask_TS = None
        if T not in (1, S):  # several tokens after cached ones
            mask_TS = x_BTD.new_ones(T, S, dtype=torch.bool).tril(S - T)
        x_BHTE = _attend(
            query_BHTE,
            key_BHSE,
            value_BHSE,
            attn_mask=mask_TS,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=S == T,
        )
        x_BTD = x_BHTE.transpose(1, 2).reshape(B, T, D)
        return self.residual_dropout(self.output(x_BTD))


class MLP(nn.Module):
    """Each token by itself: four times as wide, GELU, and back."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.width, 4 * config.width, bias=config.bias)
        self.activation = nn.GELU(approximate=ACTIVATIONS[config.activation])
        self.output = nn.Linear(4 * config.width, config.width, bias=config.bias)
        self.residual_dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.residual_dropout(self.output(self.activation(self.hidden(x_BTD))))


class Block(nn.Module):
    """A pre-norm residual block; without its two residuals it is the identity."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, bias=config.bias)
        self.attention = CausalSelfAttention(config)
        self.norm2 = nn.LayerNorm(config.width, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x_BTD: Tensor, cache: LayerCache | None = None) -> Tensor:
        x_BTD = x_BTD + self.attention(self.norm1(x_BTD), cache)
        return x_BTD + self.mlp(self.norm2(x_BTD))


class GPT(LanguageModel):
    """GPT-2: tied head, learned positions, pre-norm blocks in `blocks`, a final norm.

    Args:
        config: size and shape.
        seed: of the initial weights; torch's own random state is neither read nor moved. The
            weights are the same on every device.

    Sizes by name: "tiny", "small", "gpt2-124m", "gpt2-medium" and "gpt3-medium".

    Attributes:
        activation_recomputation: keep only each block's input for the backward pass and compute
            the rest again; less memory, about a third more time. False at first.

    Example:
        >>> model = GPT.from_preset("tiny")
        >>> logits_BTV = model(tokens_BT)
    """

    config_class, presets = GPTConfig, PRESETS
    config: GPTConfig

    def __init__(self, config: GPTConfig, seed: int = 0) -> None:
        super().__init__()
        right = "a GPTConfig; GPT.from_preset('tiny') makes a model by name"
        self.config = check_kind("config", config, GPTConfig, right)
        seed = check_seed("seed", seed)
        self.activation_recomputation = False
        # torch's layers draw weights of their own at construction; on "meta" nothing is drawn.
        with torch.device("meta"):
            self.token_embedding = nn.Embedding(config.vocabulary_size, config.width)
            self.position_embedding = nn.Embedding(config.context_length, config.width)
            self.embedding_dropout = nn.Dropout(config.dropout)
            self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
            self.final_norm = nn.LayerNorm(config.width, bias=config.bias)
        self.to_empty(device=torch.get_default_device())
        self._draw_weights(seed)

    @property
    def running_blocks(self) -> nn.ModuleList:
        """The blocks that a forward pass goes through, in order."""
        return self.blocks

    def forward(self, tokens_BT: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Logits of the token after each token, [B, T, V].

        Args:
            tokens_BT: whole numbers in 0..V-1; with a cache, those it has not read yet.
            cache: keys and values of the tokens before these; grows by T.

        Raises:
            ValueError: tokens outside the vocabulary (checked on a CPU; a GPU would have to be
                waited for), more tokens than context_length, or active layers that changed while
                one cache was used.
        """
        return self.head(self.body(tokens_BT, cache))

    def body(self, tokens_BT: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """The vectors that the head reads, [B, T, D]; arguments and errors are `forward`'s."""
        x_BTD = self._embed(tokens_BT, 0 if cache is None else cache.length)
        blocks = self.running_blocks
        layer_caches = [None] * len(blocks) if cache is None else cache.layers[: len(blocks)]
        recompute = self.activation_recomputation and cache is None and torch.is_grad_enabled()
        for block, layer_cache in zip(blocks, layer_caches, strict=True):
            x_BTD = (
                _recomputed(block, x_BTD, self.config.dropout > 0)
                if recompute
                else block(x_BTD, layer_cache)
            )
        if cache is not None:
            cache.advance(tokens_BT.shape[1])
        return self.final_norm(x_BTD)

    def head(self, x_BTD: Tensor) -> Tensor:
        """Logits of each vector, by the token embedding."""
        return F.linear(x_BTD, self.token_embedding.weight)

    def generate(
        self,
        tokens_BT: Tensor,
        num_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
        use_cache: bool = True,
    ) -> Tensor:
        """The prompt and `num_tokens` tokens after it, in evaluation mode (restored after).

        Args:
            tokens_BT: the prompt, at least one token a row.
            num_tokens: tokens to add a row, >= 1.
            temperature: divides the logits, >= 0; 0 takes the likeliest token.
            top_k: draw among the k likeliest only, in 1..V; None is all.
            generator: where the draws come from; None is a new one seeded with 0, so that the same
                call gives the same tokens.
            use_cache: read each token once; False reads all of them again for every new one.

        Raises:
            ValueError: an empty prompt, a token outside the vocabulary, prompt and new tokens
                longer than context_length, a negative temperature, or top_k out of range.
        """
        return generation.generate(
            self,
            tokens_BT,
            num_tokens,
            temperature=temperature,
            top_k=top_k,
            generator=generator,
            use_cache=use_cache,
        )

    def compile_blocks(self, **options: Any) -> GPT:
        """Compile each block by itself, which holds for any set of active layers; returns self.

        Args:
            options: passed to `torch.compile`, such as mode or backend.
        """
        for block in self.blocks:
            block.compile(**options)
        return self


def _attend(query_BHTE: Tensor, key_BHSE: Tensor, value_BHSE: Tensor, **options: Any) -> Tensor:
    """torch's attention; on a CPU long sequences have narrow heads widened by zeros.

    Zeros change no product, and its fused kernel takes a third less time over 16 numbers than 8.
    """
    attend = F.scaled_dot_product_attention
    T, E = query_BHTE.shape[2:]
    is_narrow = E < NARROW and LONG <= T == key_BHSE.shape[2] and query_BHTE.is_cpu
    if not is_narrow or torch.compiler.is_compiling() or not flash_sdp_enabled():
        return attend(query_BHTE, key_BHSE, value_BHSE, **options)
    query_BHTE, key_BHSE, value_BHSE = (
        F.pad(part_BHSE, (0, NARROW - E)) for part_BHSE in (query_BHTE, key_BHSE, value_BHSE)
    )
    return attend(query_BHTE, key_BHSE, value_BHSE, scale=E**-0.5, **options)[..., :E]


def _recomputed(block: nn.Module, x_BTD: Tensor, has_dropout: bool) -> Tensor:
    """The block's output; its inner activations are computed again in the backward pass."""
    output = checkpoint(block, x_BTD, use_reentrant=False, preserve_rng_state=has_dropout)
    assert isinstance(output, Tensor)
    return output
