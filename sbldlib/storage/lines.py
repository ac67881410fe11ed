"""JSON Lines that only grow: each is handed to the system as it is written, with its own digest."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .files import open_plain, read_plain

DIGEST = "sha256"
_DIGITS = 16


class Lines:
    """A file of JSON Lines, opened to append.

    Attributes:
        num_bytes: of all lines so far.
    """

    def __init__(self, path: Path, *, keep: int | None = None):
        """
        Args:
            keep: bytes of what is there that stay; None keeps every whole line.
        """
        self.path = path
        content = read_plain(path) if os.path.lexists(path) else b""
        self.num_bytes = content.rfind(b"\n") + 1 if keep is None else keep
        self._digest = hashlib.sha256(content[: self.num_bytes])
        # Unbuffered: a line that a full disk refuses is not tried again at closing.
        descriptor = open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._file = open(descriptor, "ab", buffering=0)  # noqa: SIM115 - for as long as the run
        self._file.truncate(self.num_bytes)

    @property
    def sha256(self) -> str:
        """Of all lines so far."""
        return self._digest.hexdigest()

    def append(self, values: dict[str, Any]) -> None:
        """Write one line; where the disk refuses it, none of it stays.

        Raises:
            OSError: it could not be written.
        """
        line = encode_line(values)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError:
            self._file.truncate(self.num_bytes)
            raise
        self._digest.update(line)
        self.num_bytes += len(line)

    def sync(self) -> None:
        """Return when all lines are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; its lines stay."""
        if not self._file.closed:
            self._file.close()


def encode_line(values: dict[str, Any]) -> bytes:
    """One line: the values and the digest of their text."""
    return (json.dumps({**values, DIGEST: _digest_of(values)}) + "\n").encode()


def read_lines(
    path: Path, *, start: int = 0, leave_out_damaged: bool = False
) -> list[dict[str, Any]]:
    """Every whole line's values; one that was cut off at the end is left out.

    Args:
        start: bytes to pass over.
        leave_out_damaged: what is not a line that was written is passed over too.

    Raises:
        ValueError: a line is not what was written; its number and place are named.
    """
    *lines, rest = _content(path)[start:].split(b"\n")
    values = []
    for number, line in enumerate(lines):
        if (found := _decode(line)) is None and leave_out_damaged:
            continue
        if found is None:
            raise ValueError(
                f"{path} is damaged: line {number + 1} after byte {start}, {line[:40]!r}"
            )
        values.append(found)
    # A line's end may be lost alone: what is before it is whole then.
    if (found := _decode(rest) or _decode(rest[:-1])) is not None:
        values.append(found)
    return values


def starts_with(path: Path, *, num_bytes: int, sha256: str) -> bool:
    """Whether the file's first bytes are still those of that digest."""
    try:
        content = _content(path)[:num_bytes]
    except ValueError:
        return False
    return len(content) == num_bytes and hashlib.sha256(content).hexdigest() == sha256


def _content(path: Path) -> bytes:
    try:
        return read_plain(path) if os.path.lexists(path) else b""
    except OSError as error:
        raise ValueError(f"{path} is damaged: it {error.strerror}") from error


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
        return values if values.pop(DIGEST) == _digest_of(values) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _digest_of(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:_DIGITS]
