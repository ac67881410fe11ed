"""Token files written a piece at a time: whole under their name, or not there."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..storage.files import PART, sync_folder, temporary_name, write_atomically
from .tokenizer import Tokenizer, token_dtype

FORMAT = 1  # raised whenever what a cached file holds changes its meaning


class Mark(NamedTuple):
    """A place in a token file that is being written."""

    num_tokens: int
    num_bytes: int
    digests: tuple[Any, Any]


class TokenWriter:
    """Writes a token file; it counts from `finish` on, and not before.

    Left without `finish`, as by an error, nothing stays of it; what a killed process left is
    removed by the next that writes under the same name.

    Attributes:
        num_tokens, num_bytes: so far.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer):
        self._path, self._tokenizer = path, tokenizer
        self._dtype = token_dtype(tokenizer.vocabulary_size)
        self.num_tokens, self.num_bytes = 0, 0
        self._tokens, self._text = hashlib.sha256(), hashlib.sha256()
        self._temporary = temporary_name(path)

    def __enter__(self) -> TokenWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self._path)
        self._file = open(self._temporary, "wb")
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._file.close()  # on a full disk, what is still to be written does not fit
        finally:
            self._temporary.unlink(missing_ok=True)

    def add(self, texts: list[str]) -> None:
        """Tokenize and write texts that follow one another."""
        content = "".join(texts).encode()
        self._text.update(content)
        self.add_tokens(self._tokenizer.encode_parts(texts))
        self.num_bytes += len(content)

    def end_document(self) -> None:
        """Write `end_of_text`."""
        self._text.update(b"\xff")  # a byte that no UTF-8 holds
        self.add_tokens(np.array([self._tokenizer.end_of_text]))

    def add_tokens(self, tokens: np.ndarray) -> None:
        """Write token numbers."""
        content = tokens.astype(self._dtype).data
        self._tokens.update(content)
        self._file.write(content)
        self.num_tokens += len(tokens)

    def mark(self) -> Mark:
        """Where the file stands, for `back_to`."""
        return Mark(self.num_tokens, self.num_bytes, (self._tokens.copy(), self._text.copy()))

    def back_to(self, mark: Mark) -> None:
        """Take back what was written since."""
        self.num_tokens, self.num_bytes, (self._tokens, self._text) = mark
        self._file.truncate(self._file.seek(self.num_tokens * self._dtype.itemsize))

    def finish(self, name: str | None = None) -> dict[str, Any]:
        """Give the file its name and its side file; returns what that holds.

        Args:
            name: the fingerprint; by default the digest of text and tokenizer.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        text = ["stream", FORMAT, self._text.hexdigest(), self._tokenizer.fingerprint]
        facts = {
            "fingerprint": fingerprint_of(text) if name is None else name,
            "num_tokens": self.num_tokens,
            "num_bytes": self.num_bytes,
            "vocabulary_size": self._tokenizer.vocabulary_size,
            "sha256": self._tokens.hexdigest(),
        }
        side = json.dumps({"format": FORMAT, **facts}, indent=1)
        with _alone_in(self._path.parent):  # two that write one file must not mix their halves
            # Without a side file nothing counts: an old one must not vouch for new tokens.
            side_path(self._path).unlink(missing_ok=True)
            os.replace(self._temporary, self._path)
            sync_folder(self._path.parent)
            write_atomically(side_path(self._path), side.encode())
        return facts


def remove_leftovers(path: Path) -> None:
    """Remove the unfinished files under this name whose process is gone."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*{PART}"):
        process = part.name[len(path.name) + 2 :].partition("-")[0]
        if process.isdecimal() and not _is_alive(int(process)):
            part.unlink(missing_ok=True)


def side_path(path: Path) -> Path:
    """Where a token file's facts lie."""
    return path.with_suffix(".json")


def fingerprint_of(parts: Sequence[Any]) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Within this `with` no other process or thread that asks the same is in there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
