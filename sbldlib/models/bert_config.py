"""Sizes of BERT: the configuration and the named ones.

Source: [S] Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", 2018, arXiv 1810.04805; the numbers of its special tokens and the norms' epsilon
are those of the released uncased models; tiny is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import check_choice
from .config_checks import check_heads, keep_above_0, keep_dropout, keep_sizes, keep_symbols
from .from_scratch import NORMS

# Far beyond any model that was trained; above them one that was mistyped would fill the memory.
MAXIMUM = {
    "vocabulary_size": 2**24,
    "context_length": 2**20,
    "num_layers": 10_000,
    "num_heads": 2**16,
    "width": 2**17,
    "num_segments": 2**10,
}
SYMBOLS = ("padding", "classifier", "separator", "mask")


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The size and shape of a BERT.

    Attributes:
        vocabulary_size: V, tokens are 0..V-1, the four special ones among them.
        context_length: the most tokens a row can have, special ones included.
        num_layers: L, residual blocks.
        num_heads: H, attention heads a block.
        width: D, a multiple of num_heads; the feed-forward is four times as wide.
        num_segments: kinds of segment, numbered from 0; BERT knows a first and a second one.
        dropout: share of activations zeroed in training, in [0, 1), drawn from torch's own random
            state; of embeddings, attention weights and residuals.
        init_std: standard deviation of the initial weights, > 0.
        norm: "post" normalises each sum of a block, as published; "pre" what each part reads, with
            one more norm after the last block. Small models learn faster with it.
        norm_epsilon: added to the variance in every norm, > 0.
        padding, classifier, separator, mask: the tokens [PAD], [CLS], [SEP] and [MASK].

    Raises:
        ValueError: a value outside its range, named with its field.
    """

    vocabulary_size: int
    context_length: int
    num_layers: int
    num_heads: int
    width: int
    num_segments: int = 2
    dropout: float = 0.0
    init_std: float = 0.02
    norm: str = "post"
    norm_epsilon: float = 1e-12
    padding: int = 0
    classifier: int = 101
    separator: int = 102
    mask: int = 103

    def __post_init__(self) -> None:
        keep_sizes(self, MAXIMUM)
        check_heads("width", self.width, self.num_heads)
        keep_dropout(self)
        keep_above_0(self, "init_std", "norm_epsilon")
        check_choice("norm", self.norm, NORMS)
        keep_symbols(self, SYMBOLS)


PRESETS = {
    # Wide draws, as a small model needs them; pre-norm, for a few hundred steps at a high rate.
    "tiny": BertConfig(
        vocabulary_size=1028,
        context_length=64,
        num_layers=2,
        num_heads=4,
        width=64,
        init_std=0.1,
        norm="pre",
        norm_epsilon=1e-5,
        padding=1024,
        classifier=1025,
        separator=1026,
        mask=1027,
    ),
    "bert-base": BertConfig(
        vocabulary_size=30_522,
        context_length=512,
        num_layers=12,
        num_heads=12,
        width=768,
        dropout=0.1,
    ),
    "bert-large": BertConfig(
        vocabulary_size=30_522,
        context_length=512,
        num_layers=24,
        num_heads=16,
        width=1024,
        dropout=0.1,
    ),
}
