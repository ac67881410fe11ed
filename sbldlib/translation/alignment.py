"""Which head of a translator looks at the word that it translates, counted over many numbers.

Legend: L decoder layers, H heads, T target tokens, S source tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.number_words import Pair, number_words
from ..data.translation import Vocabulary, encode_pairs
from ..errors import check_kind
from ..models.encoder_decoder import EncoderDecoder, shift_right


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """How often each head's strongest look is at the right source word.

    Attributes:
        shares_LH: of the words, in [0, 1].
        chance: the share that a head would reach that looked anywhere, alike at every token.
        num_words: that were counted.
    """

    shares_LH: Tensor
    chance: float
    num_words: int

    def best(self) -> tuple[int, int]:
        """Layer and head of the largest share."""
        layer, head = divmod(int(self.shares_LH.argmax()), self.shares_LH.shape[1])
        return layer, head


@torch.no_grad()
def measure_alignment(
    model: EncoderDecoder, pairs: Sequence[Pair], vocabulary: Vocabulary
) -> Alignment:
    """Count, for the tens and the ones of each number, where the decoder looks to write them.

    At the position that writes a word, given the right words before it, a head is right where its
    largest cross-attention weight is on the source word of the same tens or ones.

    Args:
        pairs: from English to German, of numbers whose last two digits are 21 to 99 and no full
            ten: "twenty-one", "einundzwanzig". There both ends name tens and ones by one word each.
        vocabulary: of words, the one the model was trained with.

    Raises:
        ValueError: no such pair, or another among them.
    """
    check_kind("model", model, EncoderDecoder, "an EncoderDecoder")
    source_BS, targets_BT = encode_pairs(pairs, vocabulary)
    config = model.config
    read_BT = shift_right(targets_BT, start=config.start, padding=config.padding)
    right = [_right_places(pair, vocabulary) for pair in pairs]
    weights = [w for w in model.attention_weights(source_BS, read_BT).cross if w is not None]
    looks_LBHT = torch.stack(weights).argmax(-1)
    hits = [
        looks_LBHT[:, row, :, target] == source
        for row, places in enumerate(right)
        for target, source in places
    ]
    lengths_B = (source_BS != config.padding).sum(1)
    return Alignment(
        shares_LH=torch.stack(hits).float().mean(0),
        chance=float((1 / lengths_B).mean()),
        num_words=len(hits),
    )


def _right_places(pair: Pair, vocabulary: Vocabulary) -> list[tuple[int, int]]:
    """Places in the target of its ones and its tens, each with the place in the source."""
    ones, tens = pair.number % 10, pair.number % 100 // 10 * 10
    if pair.direction != "en-de" or tens < 20 or ones == 0:
        raise ValueError(
            f"pairs: {pair.number} ({pair.direction}) must be en-de, and end in 21 to 99 but no "
            "full ten"
        )
    source = vocabulary.encode_source(pair.source, "de")
    target = vocabulary.encode_target(pair.target)
    places = []
    for part in (ones, tens):
        german = "ein" if part == 1 else number_words(part, "de")
        word = vocabulary.encode(german)[0], vocabulary.encode(number_words(part, "en"))[0]
        places.append((_last(target, word[0]), _last(source, word[1])))
    return places


def _last(tokens: list[int], token: int) -> int:
    """The place of the last such token: hundreds, which may share a word, stand before."""
    return len(tokens) - 1 - tokens[::-1].index(token)
