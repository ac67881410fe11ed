"""A byte-level BPE: text to token numbers and back, exactly, for any text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import check_positive_int, items
from ..storage.files import write_atomically
from .reading import check_text

END_OF_TEXT = "<|endoftext|>"
NUM_BYTES = 256
MOST_TOKENS = 2**24  # of a vocabulary; the largest in use have a few hundred thousand
ENCODED_CHARACTERS = 1_000_000  # encoded at a time, to bound the memory


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """What turns text into token numbers and back.

    Attributes:
        vocabulary_size: token numbers are below it.
        end_of_text: the token between documents: <|endoftext|>, or byte 0 for plain bytes.
        fingerprint: SHA-256 of all that decides how it encodes.
        backend: the `tokenizers.Tokenizer` beneath, for other libraries.
    """

    vocabulary_size: int
    end_of_text: int
    fingerprint: str
    backend: Any = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The tokenizer from the JSON of the `tokenizers` library, or ValueError."""
        from tokenizers import Tokenizer as Backend

        try:
            backend = Backend.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"this JSON is no tokenizer: {error}") from None
        backend.encode_special_tokens = True  # the text "<|endoftext|>" is text, not the token
        return cls(
            vocabulary_size=backend.get_vocab_size(),
            end_of_text=backend.token_to_id(END_OF_TEXT) or 0,
            fingerprint=hashlib.sha256(text.encode()).hexdigest(),
            backend=backend,
        )

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a tokenizer that `save` wrote."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    def save(self, path: str | Path) -> Path:
        """Write the JSON of the `tokenizers` library; the file appears whole or not at all."""
        return write_atomically(path, self.backend.to_str().encode())

    def encode(self, text: str) -> list[int]:
        """Token numbers of the text; no special token is added."""
        return self.backend.encode(check_text("text", text), add_special_tokens=False).ids

    def encode_parts(self, texts: list[str]) -> np.ndarray:
        """Token numbers of texts that follow one another, in one array."""
        dtype = token_dtype(self.vocabulary_size)
        if self.is_plain_bytes:
            return np.frombuffer("".join(texts).encode(), dtype=np.uint8).astype(dtype)
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        parts = [np.array(encoding.ids, dtype=dtype) for encoding in encodings]
        return np.concatenate(parts) if parts else np.array([], dtype=dtype)

    @cached_property
    def is_plain_bytes(self) -> bool:
        """Whether every token is one byte, by its own number."""
        if self.vocabulary_size != NUM_BYTES:
            return False
        text = "".join(map(chr, range(NUM_BYTES))) + "\uffff\U0010ffff"
        return self.encode(text) == list(text.encode())

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of token numbers; bytes that are not UTF-8 show as U+FFFD."""
        return self.backend.decode([int(token) for token in tokens], skip_special_tokens=False)

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Token numbers of all texts in one array, `end_of_text` after each."""
        parts: list[np.ndarray] = []
        for chunk in _chunks(texts):
            for encoding in self.backend.encode_batch_fast(chunk, add_special_tokens=False):
                ids = [*encoding.ids, self.end_of_text]
                parts.append(np.array(ids, dtype=token_dtype(self.vocabulary_size)))
        return np.concatenate(parts)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Train a byte-level BPE in which every digit is a token of its own.

    Args:
        texts: what to train on; not looked at for plain bytes.
        vocabulary_size: 256 for plain bytes (token = byte), else 257 (bytes and <|endoftext|>) or
            more; all of it is used.

    Raises:
        ValueError: fewer than 256, or more than the texts hold pairs to merge.

    Source: Sennrich et al. 2016, arXiv 1508.07909 (BPE); Radford et al. 2019 (byte level) [S].
    """
    vocabulary_size = check_vocabulary_size(vocabulary_size)
    texts = (check_text("texts", text) for text in items("texts", texts))
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    plain = vocabulary_size == NUM_BYTES
    vocabulary = {letter: byte for byte, letter in enumerate(_byte_letters())}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[]) if plain else models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    if not plain:
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=_byte_letters(),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() < vocabulary_size:
        raise ValueError(
            f"vocabulary_size={vocabulary_size} is more than the texts give: they end at "
            f"{backend.get_vocab_size()} tokens; ask for that or add text"
        )
    return Tokenizer.from_json(backend.to_str())


def check_vocabulary_size(vocabulary_size: int) -> int:
    """The size, or ValueError where it does not even hold the 256 bytes."""
    return check_positive_int(
        "vocabulary_size", vocabulary_size, minimum=NUM_BYTES, maximum=MOST_TOKENS
    )


def token_dtype(vocabulary_size: int) -> np.dtype:
    """Two bytes a token, or four above 65,536 tokens of vocabulary."""
    return np.dtype("<u2" if vocabulary_size <= 2**16 else "<u4")


def _byte_letters() -> list[str]:
    """The letter that byte-level BPE writes for each of the 256 bytes (GPT-2's table) [S]."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(NUM_BYTES) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(NUM_BYTES + place) for place, byte in enumerate(others)}
    return [letters[byte] for byte in range(NUM_BYTES)]


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= ENCODED_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
