"""A trained translator that takes text: what it writes, what it looks at, what flows through it.

Legend: S source tokens, T target tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.number_words import LANGUAGES
from ..data.translation import Vocabulary
from ..errors import check_choice, check_kind
from ..measure.attention import AttentionMaps, translation_maps
from ..models.beam import Hypothesis, greedy_decode
from ..models.encoder_decoder import EncoderDecoder
from .dataflow import DataFlow, trace_translation


@dataclass(frozen=True, kw_only=True, eq=False)
class Translator:
    """An encoder-decoder and the vocabulary it was trained with.

    A text is number words of any language, or digits: "twenty-one". With a language and a colon
    before it, it is translated into that one: "fr: twenty-one".

    Attributes:
        model: with the vocabulary's size and symbols.
        vocabulary: as for the training.
        language: to translate into where the text does not say.

    Raises:
        ValueError: sizes that differ, or an unknown language. From the methods: a text that is
            empty, of unknown symbols, or longer than the model's context.
    """

    model: EncoderDecoder
    vocabulary: Vocabulary
    language: str = "de"

    def __post_init__(self) -> None:
        check_kind("model", self.model, EncoderDecoder, "an EncoderDecoder")
        check_kind("vocabulary", self.vocabulary, Vocabulary, "a Vocabulary")
        check_choice("language", self.language, LANGUAGES)
        sizes = self.model.config.vocabulary_size, self.vocabulary.vocabulary_size
        if sizes[0] != sizes[1]:
            raise ValueError(f"model has vocabulary_size={sizes[0]}, the vocabulary {sizes[1]}")

    def write(self, text: str) -> str:
        """The translation, word by word the likeliest."""
        return self.vocabulary.decode(self._greedy(self._read(text)).tokens)

    def attend(self, text: str) -> dict[str, AttentionMaps]:
        """Attention while it is written: "cross", "encoder", "decoder".

        The rows of "cross" are named by the token that is written there.
        """
        source_1S = self._read(text)
        written = list(self._greedy(source_1S).tokens)
        limit = self.model.config.context_length
        read = [self.vocabulary.start, *written][:limit]
        maps = translation_maps(
            self.model,
            source_1S,
            source_1S.new_tensor([read]),
            source=self._names(source_1S[0].tolist()),
            read=self._names(read),
            written=self._names([*written, self.vocabulary.end][:limit]),
        )
        return {name: maps[name] for name in ("cross", "encoder", "decoder")}

    def trace(self, text: str) -> DataFlow:
        """Every tensor on the way to the translation, see `trace_translation`."""
        return trace_translation(self.model, self._read(text), self.vocabulary.symbols)

    def _read(self, text: str) -> Tensor:
        """The source tokens, [1, S]."""
        check_kind("text", text, str, "text, such as 'twenty-one'")
        before, colon, words = text.rpartition(":")
        language = before.strip() if colon else self.language
        if not words.strip():
            raise ValueError(f"text={text!r} holds no word; write a number, such as 'twenty-one'")
        check_choice("language", language, LANGUAGES)
        tokens = self.vocabulary.encode_source(words.strip(), language)
        limit = self.model.config.context_length
        if len(tokens) > limit:
            raise ValueError(
                f"text={text[:40]!r} makes {len(tokens)} tokens, more than the model's "
                f"context_length={limit}"
            )
        device = self.model.embedding.weight.device
        return torch.tensor([tokens], device=device)

    def _greedy(self, source_1S: Tensor) -> Hypothesis:
        return greedy_decode(self.model, source_1S)[0]

    def _names(self, tokens: list[int]) -> list[str]:
        return [self.vocabulary.symbols[token] for token in tokens]
