"""What a translator writes for known numbers: right or how wrong, by greedy search or by a beam.

Legend: B pairs, S source tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..data.number_words import Pair
from ..data.translation import Vocabulary, encode_pairs
from ..models.beam import Hypothesis, beam_decode, greedy_decode, length_penalty
from ..models.encoder_decoder import EncoderDecoder

KINDS = ("right", "order", "missing", "too much", "another word", "several")


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What was written for one pair.

    Attributes:
        pair: what was asked, and what is right.
        target: the right tokens, without the end.
        greedy: by always the likeliest next token.
        beam: what a beam kept, the likeliest sentence first; empty where there was none.
        written: the greedy one as text.
    """

    pair: Pair
    target: tuple[int, ...]
    greedy: Hypothesis
    beam: tuple[Hypothesis, ...]
    written: str

    @property
    def kind(self) -> str:
        """What is wrong with the greedy one, see `error_kind`."""
        return error_kind(self.target, self.greedy.tokens)

    @property
    def gain(self) -> float:
        """Log-probability of the beam's likeliest less that of the greedy one, in nats."""
        return self.beam[0].log_probability - self.greedy.log_probability

    def best(self, strength: float) -> Hypothesis:
        """The beam's best sentence under a length penalty of this strength, >= 0."""

        def score(one: Hypothesis) -> float:
            return one.log_probability / length_penalty(len(one.tokens) + one.ended, strength)

        return max(self.beam, key=score)


def translate_pairs(
    model: EncoderDecoder, pairs: Sequence[Pair], vocabulary: Vocabulary, *, beam_width: int = 0
) -> tuple[Translation, ...]:
    """Translate every pair's source by greedy search, and by a beam where one is asked.

    Args:
        pairs: at least one.
        vocabulary: the one the model was trained with.
        beam_width: sentences kept, >= 0; 0 is no beam.
    """
    source_BS, _ = encode_pairs(pairs, vocabulary)
    greedy = greedy_decode(model, source_BS)
    beams: Sequence[tuple[Hypothesis, ...]] = [()] * len(pairs)
    if beam_width:
        beams = beam_decode(model, source_BS, beam_width=beam_width, length_strength=0.0)
    return tuple(
        Translation(
            pair=pair,
            target=tuple(vocabulary.encode(pair.target)),
            greedy=one,
            beam=kept,
            written=vocabulary.decode(one.tokens),
        )
        for pair, one, kept in zip(pairs, greedy, beams, strict=True)
    )


def error_kind(target: Sequence[str | int], written: Sequence[str | int]) -> str:
    """How what was written differs from the target, one of `KINDS`.

    Args:
        target, written: tokens, without the end.

    Returns:
        "right"; "order" where the same tokens stand elsewhere; "missing" or "too much" where tokens
        were left out or added; "another word" where one is exchanged for another; "several" for
        anything else.
    """
    if list(target) == list(written):
        return "right"
    lost, gained = Counter(target) - Counter(written), Counter(written) - Counter(target)
    num_lost, num_gained = lost.total(), gained.total()
    if num_lost == num_gained == 0:
        return "order"
    if num_gained == 0:
        return "missing"
    if num_lost == 0:
        return "too much"
    if num_lost == num_gained == 1 and _places_that_differ(target, written) == 1:
        return "another word"
    return "several"


def _places_that_differ(target: Sequence[str | int], written: Sequence[str | int]) -> int:
    return sum(a != b for a, b in zip(target, written, strict=True))
