"""Sizes of GPT: the configuration, the named ones, and what a token costs.

Source: [S] GPT-2 from Radford et al., "Language Models are Unsupervised Multitask Learners", 2019;
GPT-3 Medium from Brown et al., 2020, arXiv 2005.14165, table 2.1; tiny and small are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import check_choice, check_flag, check_positive_int
from .config_checks import check_heads, keep_above_0, keep_dropout, keep_sizes

# Names of GELU, and what torch calls its approximation.
ACTIVATIONS = {"gelu_tanh": "tanh", "gelu": "none"}
# Far beyond any model that was trained; above them one that was mistyped would fill the memory.
MAXIMUM = {
    "vocabulary_size": 2**24,
    "context_length": 2**24,
    "num_layers": 10_000,
    "num_heads": 2**16,
    "width": 2**17,
}


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The size and shape of a GPT.

    Attributes:
        vocabulary_size: V, tokens are 0..V-1.
        context_length: the most tokens a sequence can have.
        num_layers: L, residual blocks.
        num_heads: H, attention heads a block.
        width: D, a multiple of num_heads; the MLP is four times as wide.
        dropout: share of activations zeroed in training, in [0, 1), drawn from torch's own random
            state; of embeddings, attention weights and residuals.
        init_std: standard deviation of the initial weights, > 0.
        bias: whether linear maps and norms have biases, as GPT-2's have.
        activation: "gelu_tanh" as in GPT-2, or "gelu", the exact one, as in nanoGPT.

    Raises:
        ValueError: a value outside its range, named with its field.
    """

    vocabulary_size: int
    context_length: int
    num_layers: int
    num_heads: int
    width: int
    dropout: float = 0.0
    init_std: float = 0.02
    bias: bool = True
    activation: str = "gelu_tanh"

    def __post_init__(self) -> None:
        keep_sizes(self, MAXIMUM)
        check_heads("width", self.width, self.num_heads)
        keep_dropout(self)
        keep_above_0(self, "init_std")
        object.__setattr__(self, "bias", check_flag("bias", self.bias))
        check_choice("activation", self.activation, ACTIVATIONS)

    @property
    def offset(self) -> int:
        """How many tokens after a position its target stands."""
        return 1


# At width 64 an init_std of 0.02 learns far slower than 0.1.
TINY = GPTConfig(
    vocabulary_size=512, context_length=64, num_layers=8, num_heads=4, width=64, init_std=0.1
)
# GPT-2's init_std, scaled by the square root of the width: 0.02 * (768 / 192) ** 0.5.
SMALL = replace(
    TINY,
    vocabulary_size=4096,
    context_length=256,
    num_layers=12,
    num_heads=6,
    width=192,
    init_std=0.04,
)
GPT2_124M = GPTConfig(
    vocabulary_size=50257, context_length=1024, num_layers=12, num_heads=12, width=768
)
GPT2_MEDIUM = replace(GPT2_124M, num_layers=24, num_heads=16, width=1024)
# Dense in every layer; GPT-3 alternates with layers of banded sparse attention.
GPT3_MEDIUM = replace(GPT2_MEDIUM, context_length=2048)

PRESETS = {
    "tiny": TINY,
    "small": SMALL,
    "gpt2-124m": GPT2_124M,
    "gpt2-medium": GPT2_MEDIUM,
    "gpt3-medium": GPT3_MEDIUM,
}


def flops_per_token(config: GPTConfig, num_tokens: int | None = None) -> int:
    """Floating-point operations of forward and backward for one token; forward alone is a third.

    Counts matrix products, a multiply-add as two, attention at its full T x T size.

    Args:
        config: the model's; with fewer layers, `replace(config, num_layers=...)`.
        num_tokens: T, tokens in the sequence, in 1..context_length; None is context_length.
    """
    T = config.context_length if num_tokens is None else num_tokens
    if check_positive_int("num_tokens", T) > config.context_length:
        raise ValueError(f"num_tokens={T} is more than context_length={config.context_length}")
    D = config.width
    multiply_adds = config.num_layers * (12 * D * D + 2 * T * D) + D * config.vocabulary_size
    return 3 * 2 * multiply_adds
