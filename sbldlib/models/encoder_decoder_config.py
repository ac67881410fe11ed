"""Sizes of the encoder-decoder: the configuration and the named ones.

Source: [S] Vaswani et al., "Attention Is All You Need", 2017, arXiv 1706.03762, table 3; tiny is
ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import check_choice, check_flag, check_positive_int
from .config_checks import check_heads, keep_dropout, keep_sizes, keep_symbols
from .from_scratch import NORMS

ACTIVATIONS = ("relu", "gelu")
# Far beyond any model that was trained; above them one that was mistyped would fill the memory.
MAXIMUM = {
    "vocabulary_size": 2**24,
    "context_length": 2**20,
    "num_encoder_layers": 10_000,
    "num_decoder_layers": 10_000,
    "num_heads": 2**16,
    "width": 2**17,
    "hidden_width": 2**20,
}
SYMBOLS = ("padding", "start", "end")


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig:
    """The size and shape of an encoder-decoder whose two sides share one vocabulary.

    Attributes:
        vocabulary_size: V, tokens are 0..V-1, on both sides.
        context_length: the most tokens a source, or a target, can have.
        num_encoder_layers, num_decoder_layers: residual blocks of each half.
        num_heads: H, attention heads a block.
        width: D, a multiple of num_heads.
        hidden_width: between the feed-forward's two maps; None is 4 * width, as in 2017.
        dropout: share of activations zeroed in training, in [0, 1), drawn from torch's own random
            state; of embeddings, attention weights and residuals.
        norm: "post" normalises each sum of a block, as in 2017; "pre" what each part reads, with
            one more norm after each half.
        activation: of the feed-forward, "relu" as in 2017, or "gelu".
        bias: whether linear maps and norms have biases.
        padding, start, end: tokens that fill up a row, stand before every target, and after it.

    Raises:
        ValueError: a value outside its range, named with its field.
    """

    vocabulary_size: int
    context_length: int
    num_encoder_layers: int
    num_decoder_layers: int
    num_heads: int
    width: int
    hidden_width: int | None = None
    dropout: float = 0.0
    norm: str = "pre"
    activation: str = "relu"
    bias: bool = True
    padding: int = 0
    start: int = 1
    end: int = 2

    def __post_init__(self) -> None:
        if self.hidden_width is None:
            width = check_positive_int("width", self.width, maximum=MAXIMUM["width"])
            object.__setattr__(self, "hidden_width", 4 * width)
        keep_sizes(self, MAXIMUM)
        check_heads("width", self.width, self.num_heads)
        keep_dropout(self)
        object.__setattr__(self, "bias", check_flag("bias", self.bias))
        check_choice("norm", self.norm, NORMS)
        check_choice("activation", self.activation, ACTIVATIONS)
        keep_symbols(self, SYMBOLS)


PRESETS = {
    "tiny": EncoderDecoderConfig(
        vocabulary_size=64,
        context_length=64,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        width=64,
    ),
    # English to German of 2014: 4.5 million pairs, byte pairs of both languages together.
    "base-2017": EncoderDecoderConfig(
        vocabulary_size=37_000,
        context_length=512,
        num_encoder_layers=6,
        num_decoder_layers=6,
        num_heads=8,
        width=512,
        dropout=0.1,
        norm="post",
    ),
    "big-2017": EncoderDecoderConfig(
        vocabulary_size=37_000,
        context_length=512,
        num_encoder_layers=6,
        num_decoder_layers=6,
        num_heads=16,
        width=1024,
        dropout=0.3,
        norm="post",
    ),
}
