"""Sizes of ConvGPT: the configuration, the named ones, and which level each layer stands on.

Source: [S] the convolution-attention variant of GPT-2 that this kit's sources describe (levels of
width 48, 96, 192, 384, four tokens merged into one between two levels, a block before and after
each change of level, a context of 1024): "small-ahead" but for its vocabulary; the others are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import check_choice, check_flag, check_positive_int, items
from .config_checks import check_heads, keep_sizes
from .gpt_config import MAXIMUM, GPTConfig

TARGETS = ("next", "ahead")
MAX_MERGE = 64


@dataclass(frozen=True, kw_only=True)
class ConvGPTConfig:
    """The size and shape of a ConvGPT.

    Attributes:
        vocabulary_size: V, tokens are 0..V-1.
        context_length: the most tokens a sequence can have; any length up to it is read.
        widths: D of each level, from the tokens' own inwards, two or more, each a multiple of
            num_heads.
        num_heads: H, attention heads a block, the same on every level.
        merge: M, neighbours on one level that become one on the next, >= 2.
        target: "next", the token after each token; or "ahead", the one `span` tokens after it, as
            the source has it.
        skip_connections: add to each level, on the way out, what it held on the way in.
        init_std: standard deviation of the initial weights of the tokens' level, > 0; on wider
            levels less, by the root of the width.
        dropout, bias, activation: as GPTConfig's.

    Raises:
        ValueError: a value outside its range, named with its field.
    """

    vocabulary_size: int
    context_length: int
    widths: tuple[int, ...]
    num_heads: int
    merge: int = 4
    target: str = "next"
    skip_connections: bool = True
    dropout: float = 0.0
    init_std: float = 0.02
    bias: bool = True
    activation: str = "gelu_tanh"

    def __post_init__(self) -> None:
        sizes = ("vocabulary_size", "context_length", "num_heads")
        keep_sizes(self, {name: MAXIMUM[name] for name in sizes})
        widths = tuple(
            check_positive_int("widths", width, maximum=MAXIMUM["width"])
            for width in items("widths", self.widths)
        )
        if len(widths) < 2:
            raise ValueError(f"widths={widths} must name two levels or more, such as (48, 96)")
        for width in widths:
            check_heads("widths", width, self.num_heads)
        merge = check_positive_int("merge", self.merge, minimum=2, maximum=MAX_MERGE)
        object.__setattr__(self, "widths", widths)
        object.__setattr__(self, "merge", merge)
        check_choice("target", self.target, TARGETS)
        check_flag("skip_connections", self.skip_connections)
        self.block(0)  # checks what is GPTConfig's

    @property
    def num_levels(self) -> int:
        """Levels, the tokens' own among them."""
        return len(self.widths)

    @property
    def span(self) -> int:
        """Tokens that one vector of the innermost level stands for."""
        return self.merge ** (self.num_levels - 1)

    @property
    def offset(self) -> int:
        """How many tokens after a position its target stands."""
        return 1 if self.target == "next" else self.span

    @property
    def levels(self) -> tuple[int, ...]:
        """The level of each layer: one before and one after every change of level."""
        inwards = [level for inner in range(1, self.num_levels) for level in (inner - 1, inner)]
        return (*inwards, *reversed(inwards))

    @property
    def num_layers(self) -> int:
        """L, residual blocks."""
        return len(self.levels)

    def block(self, level: int) -> GPTConfig:
        """The shape of this level's blocks."""
        return GPTConfig(
            vocabulary_size=self.vocabulary_size,
            context_length=self.context_length,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            width=self.widths[level],
            dropout=self.dropout,
            init_std=self.init_std,
            bias=self.bias,
            activation=self.activation,
        )


# As "tiny" and "small" of GPT: the same vocabulary, and four times the context.
TINY = ConvGPTConfig(
    vocabulary_size=512, context_length=256, widths=(32, 64, 128), num_heads=4, init_std=0.14
)
SMALL = ConvGPTConfig(
    vocabulary_size=4096,
    context_length=1024,
    widths=(48, 96, 192, 384),
    num_heads=6,
    init_std=0.08,
)
AHEAD = {"target": "ahead", "skip_connections": False}
PRESETS = {
    "tiny": TINY,
    "tiny-ahead": replace(TINY, **AHEAD),
    "small": SMALL,
    "small-ahead": replace(SMALL, **AHEAD),
}
