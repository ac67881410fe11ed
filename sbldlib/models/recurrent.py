"""Language models that differ in their body alone: recurrent, convolutional, attentive.

Between the same embedding and the same head stands what mixes the tokens. A recurrent body hands a
state from token to token, so that T tokens are T steps one after another; a convolution sees k
tokens a layer; attention sees all of them at once.

Legend: B batch, T tokens, D width, V vocabulary, k kernel size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import check_kind, check_seed
from .generation import check_tokens
from .gpt import Block
from .gpt_config import GPTConfig
from .recurrent_config import (
    KINDS,
    RECURRENT,
    SequenceConfig,
    fit_width,
    num_parameters,
    same_budget,
)

__all__ = [
    "KINDS",
    "SequenceConfig",
    "SequenceModel",
    "fit_width",
    "num_parameters",
    "same_budget",
]


class RecurrentBody(nn.Module):
    """Layers of torch's own RNN, LSTM or GRU; the state before the first token is 0."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        kind = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[config.kind]
        self.recurrence = kind(config.width, config.width, config.depth, batch_first=True)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.recurrence(x_BTD)[0]


class ConvolutionBlock(nn.Module):
    """A pre-norm residual block: each token, and k - 1 before it that lie `dilation` apart."""

    def __init__(self, config: SequenceConfig, dilation: int) -> None:
        super().__init__()
        D, k = config.width, config.kernel_size
        self.padding = (k - 1) * dilation
        self.norm = nn.LayerNorm(D)
        self.convolution = nn.Conv1d(D, D, k, dilation=dilation)
        self.output = nn.Linear(D, D)

    def forward(self, x_BTD: Tensor) -> Tensor:
        # Zeros before the first token, and none after the last: no token sees a later one.
        padded_BDS = F.pad(self.norm(x_BTD).transpose(1, 2), (self.padding, 0))
        mixed_BTD = self.convolution(padded_BDS).transpose(1, 2)
        return x_BTD + self.output(F.gelu(mixed_BTD))


class ConvolutionBody(nn.Module):
    """Causal convolutions, each k times as far apart as the one below: k ** L tokens are seen."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        # A dilation beyond the context would look at zeros alone.
        furthest = max(1, config.context_length - 1)
        self.blocks = nn.ModuleList(
            ConvolutionBlock(config, min(config.kernel_size**layer, furthest))
            for layer in range(config.depth)
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return x_BTD


class AttentionBody(nn.Module):
    """The blocks of our GPT, and the positions that they need to know the order by."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        size = GPTConfig(
            vocabulary_size=config.vocabulary_size,
            context_length=config.context_length,
            num_layers=config.depth,
            num_heads=config.num_heads,
            width=config.width,
        )
        self.position_embedding = nn.Embedding(config.context_length, config.width)
        self.blocks = nn.ModuleList(Block(size) for _ in range(config.depth))

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.position_embedding.weight[: x_BTD.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return x_BTD


BODIES = {
    **dict.fromkeys(RECURRENT, RecurrentBody),
    "convolution": ConvolutionBody,
    "attention": AttentionBody,
}


class SequenceModel(nn.Module):
    """A language model of any kind: embedding, body, norm, head.

    Args:
        config: kind, size and shape.
        seed: of the initial weights; torch's own random state is neither read nor moved. The
            weights are the same on every device.

    Example:
        >>> config = SequenceConfig(kind="lstm", vocabulary_size=64, context_length=128, width=32)
        >>> logits_BTV = SequenceModel(config)(tokens_BT)
    """

    def __init__(self, config: SequenceConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = check_kind("config", config, SequenceConfig, "a SequenceConfig")
        seed = check_seed("seed", seed)
        # torch's layers draw weights of their own at construction; on "meta" nothing is drawn.
        with torch.device("meta"):
            self.token_embedding = nn.Embedding(config.vocabulary_size, config.width)
            self.body = BODIES[config.kind](config)
            self.final_norm = nn.LayerNorm(config.width)
            self.head = nn.Linear(config.width, config.vocabulary_size, bias=False)
        self.to_empty(device=torch.get_default_device())
        if not self.token_embedding.weight.is_meta:
            self._draw_weights(seed)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits of the token after each token, [B, T, V].

        Args:
            tokens_BT: whole numbers in 0..V-1, at least one a row.

        Raises:
            ValueError: tokens outside the vocabulary (checked on a CPU; a GPU would have to be
                waited for), none at all, or more than context_length.
        """
        return self.head(self.final_norm(self.body(self._embed(tokens_BT))))

    def num_parameters(self) -> int:
        """Number of weights, as `num_parameters(config)` foretells it."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _embed(self, tokens_BT: Tensor) -> Tensor:
        if not isinstance(tokens_BT, Tensor) or tokens_BT.ndim != 2 or not tokens_BT.numel():
            check_tokens(tokens_BT, self.config.vocabulary_size)
        if tokens_BT.shape[1] > self.config.context_length:
            raise ValueError(
                f"tokens of shape {tuple(tokens_BT.shape)}: {tokens_BT.shape[1]} tokens exceed "
                f"context_length={self.config.context_length}"
            )
        try:
            return self.token_embedding(tokens_BT)
        except (IndexError, RuntimeError):  # found out here, for a GPU's tokens must not be read
            check_tokens(tokens_BT, self.config.vocabulary_size)
            raise

    @torch.no_grad()
    def _draw_weights(self, seed: int) -> None:
        """Embeddings normal; matrices uniform, of variance 1 / (3 inputs), as torch's own layers.

        Biases start at 0, an LSTM's forget gate's at forget_bias.
        """
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Embedding):
                module.weight.copy_(_on_cpu(module.weight).normal_(generator=generator))
            elif isinstance(module, (nn.Linear, nn.Conv1d)):
                _draw_uniform(module.weight, generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.RNNBase):
                _draw_recurrence(module, self.config, generator)


def _draw_recurrence(
    recurrence: nn.RNNBase, config: SequenceConfig, generator: torch.Generator
) -> None:
    """Weights of every layer and gate; torch keeps a layer's gates below one another."""
    for name, weight in recurrence.named_parameters():
        if name.startswith("bias"):
            weight.zero_()
            if config.kind == "lstm" and name.startswith("bias_ih"):
                weight.chunk(4)[1].fill_(config.forget_bias)  # input, forget, candidate, output
        elif config.orthogonal and name.startswith("weight_hh"):
            for gate_DD in weight.chunk(RECURRENT[config.kind]):
                drawn_DD = _on_cpu(gate_DD)
                gate_DD.copy_(nn.init.orthogonal_(drawn_DD, generator=generator))
        else:
            _draw_uniform(weight, generator)


def _draw_uniform(weight: Tensor, generator: torch.Generator) -> None:
    """Uniform between plus and minus the root of 1 over a row's inputs."""
    bound = weight[0].numel() ** -0.5
    weight.copy_(_on_cpu(weight).uniform_(-bound, bound, generator=generator))


def _on_cpu(weight: Tensor) -> Tensor:
    """Room for a draw of this shape, the same on every device."""
    return torch.empty(weight.shape, dtype=torch.float32, device="cpu")
