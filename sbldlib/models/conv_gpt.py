"""ConvGPT: a GPT whose inner blocks work on fewer, wider vectors, each of several tokens.

On the way in, a compressor (a convolution as wide as its stride) merges M neighbours into one wider
vector; on the way out an expander undoes it. An attention and feed-forward block stands before and
after each of them, so that most blocks see a sequence that is M, M^2, ... times shorter.

Two targets. "ahead", as in the source: position i predicts token i + M^3. What a vector knows ends
with its own group of M^3 tokens, so the target is never seen. "next": position i predicts token
i + 1. There the groups are cut M - 1 places earlier at each level, so that none holds a token later
than the first position that reads it, and each level adds what it held on the way in.

Legend: B batch, T tokens, D width, V vocabulary, M merge, G vectors of the next level (T / M).

Source: [S] the convolution-attention variant that this kit's sources describe; "next" after Nawrot
et al., "Hierarchical Transformers Are More Efficient Language Models", 2021, arXiv 2110.13711.
[O] where the source is silent: positions, initial weights, the place of the norms.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import check_kind, check_seed
from . import generation
from .conv_gpt_config import PRESETS, ConvGPTConfig
from .gpt import Block
from .language_model import LanguageModel

__all__ = ["PRESETS", "ConvGPT", "ConvGPTConfig"]


class Compressor(nn.Module):
    """M neighbours become one wider vector: torch's Conv1d of kernel and stride M, as one matrix.

    Args:
        merge: M.
        shift: places by which the groups are cut earlier, in 0..M-1; zeros stand before the first.
    """

    def __init__(self, merge: int, width: int, wider: int, *, shift: int) -> None:
        super().__init__()
        self.merge, self.shift = merge, shift
        self.map = nn.Linear(merge * width, wider)

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, _ = x_BTD.shape
        if self.shift:
            x_BTD = F.pad(x_BTD, (0, 0, self.shift, 0))[:, :T]
        return self.map(x_BTD.reshape(B, T // self.merge, -1))


class Expander(nn.Module):
    """One vector becomes M narrower ones: torch's ConvTranspose1d of kernel and stride M."""

    def __init__(self, merge: int, width: int, narrower: int) -> None:
        super().__init__()
        self.merge = merge
        self.map = nn.Linear(width, merge * narrower)

    def forward(self, x_BGD: Tensor) -> Tensor:
        B, G, _ = x_BGD.shape
        return self.map(x_BGD).reshape(B, G * self.merge, -1)


class ConvGPT(LanguageModel):
    """A GPT whose context is compressed by strided convolutions and expanded again.

    Args:
        config: size and shape.
        seed: of the initial weights; torch's own random state is neither read nor moved. The
            weights are the same on every device.

    Sizes by name: "tiny" and "small", and each with "-ahead": small-ahead is the source's.

    Example:
        >>> model = ConvGPT.from_preset("tiny")
        >>> logits_BTV = model(tokens_BT)
    """

    config_class, presets = ConvGPTConfig, PRESETS
    config: ConvGPTConfig

    def __init__(self, config: ConvGPTConfig, seed: int = 0) -> None:
        super().__init__()
        right = "a ConvGPTConfig; ConvGPT.from_preset('tiny') makes a model by name"
        self.config = check_kind("config", config, ConvGPTConfig, right)
        seed = check_seed("seed", seed)
        widths, merge = config.widths, config.merge
        shift = merge - 1 if config.target == "next" else 0
        with torch.device("meta"):
            self.token_embedding = nn.Embedding(config.vocabulary_size, widths[0])
            self.position_embedding = nn.Embedding(config.context_length, widths[0])
            self.embedding_dropout = nn.Dropout(config.dropout)
            self.blocks = nn.ModuleList(Block(config.block(level)) for level in config.levels)
            self.compressors = nn.ModuleList(
                Compressor(merge, width, wider, shift=shift) for width, wider in pairwise(widths)
            )
            self.expanders = nn.ModuleList(
                Expander(merge, wider, width) for width, wider in pairwise(widths)
            )
            self.final_norm = nn.LayerNorm(widths[0], bias=config.bias)
        self.to_empty(device=torch.get_default_device())
        self._draw_weights(seed)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits of each position's target, [B, T, V]: see `config.offset`.

        Args:
            tokens_BT: whole numbers in 0..V-1, any number of them up to context_length; what a
                last group lacks is zeros.

        Raises:
            ValueError: tokens outside the vocabulary (checked on a CPU; a GPU would have to be
                waited for), or more tokens than context_length.
        """
        return self.head(self.body(tokens_BT))

    def body(self, tokens_BT: Tensor) -> Tensor:
        """The vectors that the head reads, [B, T, D]; arguments and errors are `forward`'s."""
        x_BTD = self._embed(tokens_BT)
        x_BTD = F.pad(x_BTD, (0, 0, 0, -tokens_BT.shape[1] % self.config.span))
        blocks, held = iter(self.blocks), []
        for compress in self.compressors:
            x_BTD = next(blocks)(x_BTD)
            held.append(x_BTD)
            x_BTD = next(blocks)(compress(x_BTD))
        for expand in reversed(self.expanders):
            x_BTD = expand(next(blocks)(x_BTD))
            if self.config.skip_connections:
                x_BTD = x_BTD + held.pop()
            x_BTD = next(blocks)(x_BTD)
        return self.final_norm(x_BTD[:, : tokens_BT.shape[1]])

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
    ) -> Tensor:
        """The prompt and `num_tokens` tokens after it, in evaluation mode (restored after).

        With target "ahead" one pass writes a whole span of tokens, none of which knows the others.

        Args:
            tokens_BT: the prompt, at least one token a row; for "ahead" whole spans of them.
            num_tokens: tokens to add a row, >= 1.
            temperature, top_k, generator: as `GPT.generate`'s.

        Raises:
            ValueError: as `GPT.generate`; for "ahead", a prompt that is not of whole spans.
        """
        if self.config.target == "ahead":
            generation.check_tokens(tokens_BT, self.config.vocabulary_size)
            if (length := tokens_BT.shape[1]) % (span := self.config.span):
                raise ValueError(
                    f"tokens: a prompt of {length} must be of whole spans of {span} tokens, such "
                    f"as {(length // span + 1) * span}: this model predicts {span} ahead"
                )
        return generation.generate(
            self,
            tokens_BT,
            num_tokens,
            temperature=temperature,
            top_k=top_k,
            generator=generator,
            use_cache=False,
        )

    def _initial_std(self, name: str, module: nn.Module) -> float:
        """What changes the level keeps the stream's size: one over the root of its inputs.

        Where skip connections go around it, an expander writes to a stream as a block does, and
        begins as small: else it buries what they carry, and the loss stays at that of guessing by
        frequency for hundreds of steps.
        """
        part, _, rest = name.partition(".")
        if name.endswith(".map") and isinstance(module, nn.Linear):
            std = module.in_features**-0.5
            is_added = part == "expanders" and self.config.skip_connections
            return std * (2 * self.config.num_layers) ** -0.5 if is_added else std
        std = super()._initial_std(name, module)
        if part != "blocks":
            return std
        widths = self.config.widths
        return std * (widths[0] / widths[self.config.levels[int(rest.partition(".")[0])]]) ** 0.5
