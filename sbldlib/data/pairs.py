"""Pairs of sentences for BERT, from Python's own source: does the second follow the first?

A line of source without its indentation is a sentence, and a file is the row of its sentences,
joined by single spaces, so that no layout is left to give an answer away. The first span of a pair
ends where a sentence ends and the second begins where one begins: right after it, or in another
file. Both spans' lengths are drawn before it is known which.

Legend: B batch, T tokens.

Source: [S] Devlin et al. 2018, arXiv 1810.04805, section 3.1, where the other half of the pairs is
random too; [O] lines of source in the place of sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ..errors import check_kind, check_positive_int, items
from .draws import Draws
from .text import Corpus
from .tokenizer import Tokenizer

SHORTEST_SHARE = 0.75  # a span's least length, of its half of a row
NUM_SYMBOLS = 4


class Symbols(NamedTuple):
    """BERT's four special tokens; the names are those of BertConfig's fields.

    Attributes:
        padding: [PAD], fills up a row.
        classifier: [CLS], first in every row.
        separator: [SEP], after each span.
        mask: [MASK], in the place of a token to be found.
    """

    padding: int
    classifier: int
    separator: int
    mask: int

    @classmethod
    def after(cls, num_tokens: int) -> Symbols:
        """The four numbers that follow a tokenizer's own 0..num_tokens-1."""
        first = check_positive_int("num_tokens", num_tokens)
        return cls(*range(first, first + NUM_SYMBOLS))


class Pair(NamedTuple):
    """Two spans, where they come from, and whether the second one follows the first.

    Attributes:
        first, second: token numbers.
        files: the place of each span's file among the files.
        follows: the second span comes right after the first, in the same file.
    """

    first: np.ndarray
    second: np.ndarray
    files: tuple[int, int]
    follows: bool


@dataclass(frozen=True, kw_only=True)
class LineFile:
    """The sentences of one file as tokens.

    Attributes:
        path: names the file, relative to its corpus.
        tokens: of all sentences, one after the other, int32.
        starts: the place of each sentence's first token, in rising order.
    """

    path: str
    tokens: np.ndarray = field(repr=False)
    starts: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.tokens)


def sentences(text: str) -> list[str]:
    """The lines that are not blank, each as a space and its words with single spaces between."""
    return [f" {' '.join(line.split())}" for line in text.split("\n") if line.split()]


def line_files(
    corpus: Corpus, split: str, tokenizer: Tokenizer, *, min_tokens: int = 1
) -> tuple[LineFile, ...]:
    """The files of one split as sentences; those with too few tokens are left out.

    Args:
        corpus: where from; each of its files is in one split alone.
        split: "train", "validation" or "test".
        tokenizer: turns sentences into tokens.
        min_tokens: what a file must hold.

    Raises:
        ValueError: fewer than two files are long enough.
    """
    right = "a Tokenizer, as train_tokenizer returns it"
    tokenizer = check_kind("tokenizer", tokenizer, Tokenizer, right)
    found = []
    for document in corpus.splits[split]:
        lines = sentences(document.text)
        encodings = tokenizer.backend.encode_batch_fast(lines, add_special_tokens=False)
        parts = [encoding.ids for encoding in encodings]
        starts = np.array([0, *accumulate(map(len, parts))][:-1], dtype=np.int64)
        tokens = np.array([token for part in parts for token in part], dtype=np.int32)
        if len(tokens) >= min_tokens:
            found.append(LineFile(path=document.path, tokens=tokens, starts=starts))
    if len(found) < 2:
        raise ValueError(
            f"split {split!r} holds {len(found)} file(s) of {min_tokens} tokens or more; a pair "
            "needs two: give more text, or shorter rows"
        )
    return tuple(found)


def joined(files: Sequence[LineFile], between: int) -> np.ndarray:
    """All files' tokens in one array with this token after each: what a decoder trains on."""
    return np.concatenate([np.append(each.tokens, between) for each in files])


def spans(
    files: Sequence[LineFile], *, num_tokens: int, most_a_file: int
) -> tuple[list[np.ndarray], list[int]]:
    """Spans of files that do not overlap, each from a sentence's start, and the file of each.

    Args:
        files: where from, in order.
        num_tokens: of each span.
        most_a_file: spans of one file at the most, spread over it.
    """
    size = check_positive_int("num_tokens", num_tokens)
    most = check_positive_int("most_a_file", most_a_file)
    pieces: list[np.ndarray] = []
    of: list[int] = []
    for place, file in enumerate(files):
        starts, end = [], 0
        for start in file.starts.tolist():
            if end <= start <= len(file) - size:
                starts.append(start)
                end = start + size
        for start in starts[:: -(-len(starts) // most) or 1][:most]:
            pieces.append(file.tokens[start : start + size])
            of.append(place)
    return pieces, of


class PairDraws:
    """Draws pairs from files, half of them spans that follow one another.

    Args:
        files: two or more, each long enough: `min_tokens`.
        context_length: T, what a row holds, the three special tokens of a pair included.

    Raises:
        ValueError: fewer than two files, one that is too short, or a context without room.
    """

    def __init__(self, files: Sequence[LineFile], *, context_length: int) -> None:
        self.files = tuple(items("files", files))
        self.context_length = check_positive_int("context_length", context_length, minimum=11)
        if len(self.files) < 2:
            raise ValueError(f"files holds {len(self.files)}; a pair that does not follow needs 2")
        for place, each in enumerate(self.files):
            check_kind(f"files[{place}]", each, LineFile, "a LineFile, as line_files gives them")
            if not len(self._boundaries(each, self.longest, self.longest)):
                raise ValueError(
                    f"files[{place}] of {len(each)} tokens has no two neighbouring spans of "
                    f"{self.longest}, as context_length={context_length} may ask for"
                )
        self._ends = np.cumsum([len(each) for each in self.files])

    @property
    def longest(self) -> int:
        """Tokens of a span at the most: half of what the special tokens leave."""
        return (self.context_length - 3) // 2

    @property
    def shortest(self) -> int:
        """Tokens of a span at the least."""
        return int(SHORTEST_SHARE * self.longest)

    def pair(self, draws: Draws) -> Pair:
        """The next pair of this stream."""
        lengths = [self.shortest + draws.below(self.longest - self.shortest + 1) for _ in "ab"]
        follows = draws.below(2) == 0
        one = self._file(draws)
        other = one if follows else self._other_file(draws, one)
        end = self._boundary(draws, one, lengths)
        start = end if follows else self._boundary(draws, other, lengths)
        return Pair(
            first=self.files[one].tokens[end - lengths[0] : end],
            second=self.files[other].tokens[start : start + lengths[1]],
            files=(one, other),
            follows=follows,
        )

    def _file(self, draws: Draws) -> int:
        """A file, the likelier the longer it is."""
        return int(np.searchsorted(self._ends, draws.below(int(self._ends[-1])), side="right"))

    def _other_file(self, draws: Draws, one: int) -> int:
        size = len(self.files[one])
        place = draws.below(int(self._ends[-1]) - size)
        if place >= self._ends[one] - size:  # behind the file that is left out
            place += size
        return int(np.searchsorted(self._ends, place, side="right"))

    def _boundary(self, draws: Draws, file: int, lengths: Sequence[int]) -> int:
        """The start of a sentence with room for a span before it and for one from it on."""
        found = self._boundaries(self.files[file], *lengths)
        return int(found[draws.below(len(found))])

    @staticmethod
    def _boundaries(file: LineFile, before: int, after: int) -> np.ndarray:
        low, high = np.searchsorted(file.starts, (before, len(file) - after + 1))
        return file.starts[low:high]


def pair_row(
    first: Sequence[int] | np.ndarray,
    second: Sequence[int] | np.ndarray | None,
    *,
    symbols: Symbols,
    context_length: int,
) -> tuple[list[int], list[int]]:
    """[CLS] first [SEP] second [SEP] as tokens, and the segment of each: 0, then 1.

    Args:
        first: token numbers; [MASK] may be among them.
        second: the same; None for a row of one sentence.
        symbols: the special tokens, which follow the ordinary ones.
        context_length: what the row may hold.

    Raises:
        ValueError: an empty sentence, a number that is no ordinary token, or a row too long.
    """
    ordinary = min(symbols)
    parts = [("first", first)] + ([] if second is None else [("second", second)])
    tokens, segments = [symbols.classifier], [0]
    for segment, (name, part) in enumerate(parts):
        numbers = [int(token) for token in part]
        if not numbers:
            raise ValueError(f"{name} sentence is empty; it needs a token at least")
        odd = [t for t in numbers if not 0 <= t < ordinary and t != symbols.mask]
        if odd:
            raise ValueError(
                f"{name} sentence holds token {odd[0]}, which is neither one of the tokenizer's "
                f"0..{ordinary - 1} nor [MASK], {symbols.mask}"
            )
        tokens += [*numbers, symbols.separator]
        segments += [segment] * (len(numbers) + 1)
    if len(tokens) > context_length:
        raise ValueError(
            f"a row of {len(tokens)} tokens, special ones included, exceeds "
            f"context_length={context_length}; shorten the sentences by "
            f"{len(tokens) - context_length}"
        )
    return tokens, segments
