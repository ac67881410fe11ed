"""Token files, memory-mapped, and the cache that holds them and their tokenizers.

Both are cached under names that hold a fingerprint of all they are made from. What is missing or
damaged in the cache is made again; a file appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..storage.files import write_atomically
from .text import Corpus
from .tokenizer import Tokenizer, check_vocabulary_size, token_dtype, train_tokenizer
from .writing import FORMAT, TokenWriter, fingerprint_of, side_path

CHEAP_BYTES = 64 * 2**20  # a SHA-256 of this many takes about a tenth of a second

logger = logging.getLogger(__name__)


def cached_tokenizer(
    corpus: Corpus, vocabulary_size: int, folder: str | Path | None = None
) -> Tokenizer:
    """The tokenizer of the corpus's "train" split, trained where the cache does not hold it.

    Args:
        corpus: its other splits are not looked at.
        vocabulary_size: as in `train_tokenizer`.
        folder: the cache; None for `default_cache_folder()`.
    """
    import tokenizers

    check_vocabulary_size(vocabulary_size)
    settings = ["bpe", FORMAT, vocabulary_size, tokenizers.__version__, corpus.fingerprint]
    path = _cache(folder) / f"tokenizer-{fingerprint_of(settings)[:16]}.json"
    digest_path = path.with_suffix(".sha256")
    try:
        content = path.read_bytes()
        if digest_path.read_text().strip() != hashlib.sha256(content).hexdigest():
            raise ValueError(f"{path} is not what was written")
        return Tokenizer.from_json(content.decode())
    except FileNotFoundError:
        logger.info("training a tokenizer of %d tokens", vocabulary_size)
    except ValueError as error:
        logger.warning("damaged cache: %s; training the tokenizer again", error)
    tokenizer = train_tokenizer(corpus.texts("train"), vocabulary_size)
    tokenizer.save(path)
    write_atomically(digest_path, hashlib.sha256(path.read_bytes()).hexdigest().encode())
    return tokenizer


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """A file of token numbers with all that is known about it.

    Attributes:
        path: the tokens, little-endian, of 2 bytes each (4 above 65,535 tokens of vocabulary).
        fingerprint: SHA-256 of the corpus's, the split's and the tokenizer's names.
        num_tokens, num_bytes: how many tokens, and how many bytes of text they stand for.
        vocabulary_size: every token is below it.
        sha256: of the file.
    """

    path: Path
    fingerprint: str
    num_tokens: int
    num_bytes: int
    vocabulary_size: int
    sha256: str

    @cached_property
    def tokens(self) -> np.ndarray:
        """The tokens, memory-mapped and read-only."""
        return np.memmap(self.path, dtype=token_dtype(self.vocabulary_size), mode="r")

    @property
    def bytes_per_token(self) -> float:
        """Bits per byte = nats per token / bytes_per_token / ln 2."""
        return self.num_bytes / self.num_tokens

    @classmethod
    def write(
        cls, path: Path, tokens: np.ndarray, *, num_bytes: int, tokenizer: Tokenizer, name: str
    ) -> TokenFile:
        """Write tokens and, after them, the side file that makes them count."""
        with TokenWriter(path, tokenizer) as writer:
            writer.add_tokens(tokens)
            writer.num_bytes = num_bytes
            return cls(path=path, **writer.finish(name))

    @classmethod
    def open(cls, path: str | Path, *, verify: bool | None = None) -> TokenFile:
        """Open a token file and hold it against its side file.

        Args:
            path: as `prepare_tokens` named it.
            verify: also compare the SHA-256; None does so for files under 64 MiB.

        Raises:
            FileNotFoundError: the file or its side file is gone.
            ValueError: what is there is not what was written.
        """
        path = Path(path)
        for needed in (path, side_path(path)):
            if not needed.is_file():
                raise FileNotFoundError(f"{needed} is gone; {_REMEDY}")
        try:
            facts = json.loads(side_path(path).read_text())
            if facts.pop("format") != FORMAT:
                raise ValueError("another format")
            opened = cls(path=path, **facts)
            expected_bytes = opened.num_tokens * token_dtype(opened.vocabulary_size).itemsize
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{side_path(path)} cannot be read ({error}); {_REMEDY}") from None
        num_bytes = path.stat().st_size
        if num_bytes != expected_bytes:
            raise ValueError(
                f"{path} holds {num_bytes} bytes where {expected_bytes} were written; {_REMEDY}"
            )
        if num_bytes < CHEAP_BYTES if verify is None else verify:
            opened.check_content()
        return opened

    def check_content(self) -> None:
        """Raise ValueError where the file's SHA-256 is not the one that was written."""
        digest = hashlib.sha256()
        with open(self.path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        if digest.hexdigest() != self.sha256:
            raise ValueError(f"{self.path} has changed since it was written; {_REMEDY}")


_REMEDY = "prepare_tokens(corpus, tokenizer, folder) makes it again"


def prepare_tokens(
    corpus: Corpus,
    tokenizer: Tokenizer,
    folder: str | Path | None = None,
    *,
    verify: bool | None = None,
) -> dict[str, TokenFile]:
    """One token file a split; what the cache lacks or holds damaged is made again.

    Args:
        corpus: every split of it is encoded, `end_of_text` after each document.
        tokenizer: as from `cached_tokenizer`.
        folder: the cache; None for `default_cache_folder()`.
        verify: as in `TokenFile.open`.
    """
    files = {}
    for split, documents in corpus.splits.items():
        name = fingerprint_of(["tokens", FORMAT, split, corpus.fingerprint, tokenizer.fingerprint])
        path = _cache(folder) / f"{split}-{name[:16]}.tokens"
        try:
            found = TokenFile.open(path, verify=verify)
            if found.fingerprint != name:
                raise ValueError(f"{path} was made from something else")
            files[split] = found
            continue
        except FileNotFoundError:
            logger.info("encoding %d documents of %s", len(documents), split)
        except ValueError as error:
            logger.warning("damaged cache: %s", error)
        files[split] = TokenFile.write(
            path,
            tokenizer.encode_documents(corpus.texts(split)),
            num_bytes=corpus.num_bytes[split],
            tokenizer=tokenizer,
            name=name,
        )
    return files


def default_cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """`$SBLD_DATA`, else data/cache of the checkout around this folder, else ~/.cache/sbldlib."""
    if environment.get("SBLD_DATA"):
        return Path(environment["SBLD_DATA"]).expanduser()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "sbldlib").is_dir():
            return folder / "data" / "cache"
    return Path.home() / ".cache" / "sbldlib"


def _cache(folder: str | Path | None) -> Path:
    return default_cache_folder() if folder is None else Path(folder)
