"""Number words as batches for an encoder-decoder: symbols, batches, and accuracy by direction.

Legend: B pairs, S source tokens, T target tokens, V vocabulary.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import check_choice, check_kind, check_positive_int, check_seed, shown
from .draws import Draws
from .number_words import (
    LANGUAGES,
    Pair,
    check_directions,
    check_highest,
    draw_pair,
    number_words,
)

IGNORE = -100  # a target that carries no loss, torch's own default
UNITS = ("character", "word")
SPECIAL = ("<padding>", "<start>", "<end>")
# One of each sort: with them every word up to 999999 has been met.
_EXAMPLES = (*range(101), 101, 200, 1000, 1100, 2000)
_GERMAN_PARTS = ("ein", "und", "hundert", "tausend")  # German joins its words


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The symbols of all languages, one set for source and target; a token is a symbol's place.

    Attributes:
        unit: "character", or "word": words, the parts of German ones, spaces and marks.
        symbols: padding, start, end, a mark of each language, and the rest in order.
    """

    unit: str
    symbols: tuple[str, ...]
    _places: dict[str, int] = field(init=False, repr=False, compare=False)
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choice("unit", self.unit, UNITS)
        first = (*SPECIAL, *map(_mark, LANGUAGES))
        symbols = self.symbols
        if symbols[: len(first)] != first or len(set(symbols)) < len(symbols):
            raise ValueError(
                f"symbols={shown(symbols)} must start with {first} and hold each symbol once"
            )
        places = {symbol: place for place, symbol in enumerate(self.symbols)}
        longest_first = sorted(self.symbols[self._num_special :], key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, longest_first)))
        object.__setattr__(self, "_places", places)
        object.__setattr__(self, "_pattern", pattern)

    @property
    def vocabulary_size(self) -> int:
        """Number of symbols, V."""
        return len(self.symbols)

    @property
    def padding(self) -> int:
        return self._places[SPECIAL[0]]

    @property
    def start(self) -> int:
        return self._places[SPECIAL[1]]

    @property
    def end(self) -> int:
        return self._places[SPECIAL[2]]

    @property
    def _num_special(self) -> int:
        return len(SPECIAL) + len(LANGUAGES)

    def encode(self, text: str) -> list[int]:
        """The text's tokens, longest symbols first.

        Raises:
            ValueError: a part of the text is no symbol; it is named.
        """
        check_kind("text", text, str, "text, such as 'twenty-one'")
        tokens, place = [], 0
        while place < len(text):
            match = self._pattern.match(text, place)
            if match is None:
                raise ValueError(
                    f"text={shown(text)}: {text[place:][:12]!r} starts with no symbol of this "
                    f"vocabulary, which has number words of {', '.join(LANGUAGES)}"
                )
            tokens.append(self._places[match.group()])
            place = match.end()
        return tokens

    def encode_source(self, text: str, language: str) -> list[int]:
        """What the encoder reads: the mark of the language asked for, the text, the end."""
        check_choice("language", language, LANGUAGES)
        return [self._places[_mark(language)], *self.encode(text), self.end]

    def encode_target(self, text: str) -> list[int]:
        """What the decoder is to write: the text and the end."""
        return [*self.encode(text), self.end]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text up to the first end; marks, padding and start are left out.

        Raises:
            ValueError: a token that is no symbol's place.
        """
        kept = []
        for token in tokens:
            token = check_positive_int("token", token, minimum=0, maximum=len(self.symbols) - 1)
            if token == self.end:
                break
            if token >= self._num_special:
                kept.append(self.symbols[token])
        return "".join(kept)


def make_vocabulary(unit: str = "character") -> Vocabulary:
    """The symbols of every number up to 999999 in all languages.

    Args:
        unit: "character" or "word".
    """
    words: set[str] = set(_GERMAN_PARTS)
    for number in _EXAMPLES:
        for language in ("en", "fr"):
            words.update(re.findall(r"[^\W\d]+|\W", number_words(number, language)))
        if number <= 20 or number in range(30, 100, 10):
            words.add(number_words(number, "de"))
    words.update("0123456789")
    is_word = check_choice("unit", unit, UNITS) == "word"
    symbols = sorted(words) if is_word else sorted(set("".join(words)))
    return Vocabulary(unit=unit, symbols=(*SPECIAL, *map(_mark, LANGUAGES), *symbols))


class TranslationBatches:
    """Number words of the train split, other ones every step, as `translation_loss` takes them.

    The source starts with the mark of the language to translate into (Johnson et al. 2017, arXiv
    1611.04558), so that one model learns several directions.

    Args:
        vocabulary: of `make_vocabulary`.
        directions: one or more of `number_words.DIRECTIONS`, each as likely.
        highest: of the numbers, which start at 0; in 1..999999.
        context_length: S and T; what a pair does not fill is padding without loss.
        batch_size: B, pairs a batch.
        seed: a whole number >= 0.
        rank: this process's number; each rank draws other pairs.

    Raises:
        ValueError: an unknown direction, a size out of range; from `batch`, a pair that is longer
            than a row.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        directions: str | Sequence[str],
        highest: int = 999,
        context_length: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
    ) -> None:
        right = "a Vocabulary, as make_vocabulary returns it"
        self.vocabulary = check_kind("vocabulary", vocabulary, Vocabulary, right)
        self.directions = check_directions(directions)
        self.highest = check_highest(highest)
        self.context_length = check_positive_int("context_length", context_length)
        self.batch_size = check_positive_int("batch_size", batch_size)
        self.seed, self.rank = check_seed("seed", seed), check_seed("rank", rank)

    def batch(self, step: int, micro_batch: int = 0) -> tuple[Tensor, Tensor]:
        """Sources [B, S] and targets [B, T]; targets are -100 where no loss is asked."""
        draws = Draws("translation", self.seed, self.rank, micro_batch, step)
        pairs = [
            draw_pair(
                self.directions[draws.below(len(self.directions))], "train", self.highest, draws
            )
            for _ in range(self.batch_size)
        ]
        return encode_pairs(pairs, self.vocabulary, context_length=self.context_length)


def encode_pairs(
    pairs: Sequence[Pair], vocabulary: Vocabulary, *, context_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Sources [B, S], filled up with padding, and targets [B, T], filled up with -100.

    Args:
        pairs: at least one.
        context_length: S and T; None is the longest source, and the longest target.

    Raises:
        ValueError: no pair, or one that is longer than context_length.
    """
    if not pairs:
        raise ValueError("pairs=() holds no pair; at least one is needed")
    languages = [pair.direction.split("-")[1] for pair in pairs]
    sources = [
        vocabulary.encode_source(pair.source, language)
        for pair, language in zip(pairs, languages, strict=True)
    ]
    targets = [vocabulary.encode_target(pair.target) for pair in pairs]
    for pair, *rows in zip(pairs, sources, targets, strict=True):
        longest = max(map(len, rows))
        if context_length is not None and longest > context_length:
            raise ValueError(
                f"context_length={context_length} is too short for {pair.source!r} and "
                f"{pair.target!r} of {longest} tokens"
            )
    return (
        _filled(sources, vocabulary.padding, context_length),
        _filled(targets, IGNORE, context_length),
    )


def exact_match_by_direction(
    model: nn.Module, pairs: Sequence[Pair], vocabulary: Vocabulary, *, batch_size: int = 256
) -> dict[str, float]:
    """The share of pairs that a greedy decode would give letter by letter, for each direction."""
    right, asked = Counter(), Counter()
    correct = translated(model, pairs, vocabulary, batch_size=batch_size)
    for pair, is_right in zip(pairs, correct, strict=True):
        asked[pair.direction] += 1
        right[pair.direction] += is_right
    return {direction: right[direction] / num for direction, num in asked.items()}


@torch.no_grad()
def translated(
    model: nn.Module, pairs: Sequence[Pair], vocabulary: Vocabulary, *, batch_size: int = 256
) -> tuple[bool, ...]:
    """Whether a greedy decode would give each pair's target, without decoding.

    A greedy decode gives the target exactly when each of its tokens is the argmax after the true
    ones before it, so one forward pass is enough. Runs in evaluation mode and restores the mode.

    Args:
        model: maps source tokens [B, S] and what the decoder reads [B, T] to logits [B, T, V].
        pairs: at least one.
        vocabulary: the one the model was trained with.
        batch_size: pairs a forward pass.
    """
    check_positive_int("batch_size", batch_size)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        correct: list[bool] = []
        for first in range(0, max(1, len(pairs)), batch_size):
            source_BS, targets_BT = encode_pairs(pairs[first : first + batch_size], vocabulary)
            start_B1 = torch.full_like(targets_BT[:, :1], vocabulary.start)
            read_BT = torch.cat((start_B1, targets_BT[:, :-1]), dim=1)
            read_BT = read_BT.masked_fill(read_BT == IGNORE, vocabulary.padding)
            logits_BTV = model(source_BS.to(device), read_BT.to(device))
            is_right_BT = logits_BTV.argmax(-1).cpu() == targets_BT
            correct += (is_right_BT | (targets_BT == IGNORE)).all(1).tolist()
    finally:
        model.train(was_training)
    return tuple(correct)


def _filled(rows: Sequence[list[int]], value: int, length: int | None) -> Tensor:
    """The rows as one tensor, filled up on the right."""
    width = max(map(len, rows)) if length is None else length
    filled = torch.full((len(rows), width), value, dtype=torch.int64)
    for place, row in enumerate(rows):
        filled[place, : len(row)] = torch.tensor(row)
    return filled


def _mark(language: str) -> str:
    return f"<{language}>"
