"""Folders of text, gone through without trusting what lies in them.

A file is read in blocks, so that its size does not matter; what is no text, no plain file, or
cannot be read is left out and counted.
"""

from __future__ import annotations

import codecs
import fnmatch
import hashlib
import io
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import check_kind, check_path, check_range, items, shown

SPLITS = ("train", "validation", "test")
BLOCK_BYTES = 2**20  # read at a time
SNIFFED_BYTES = 65_536  # a film need not be read to its end to know that it is no text
SNIFFED_BYTES = 65_536  # a film need not be read to its end to know that it is no text

# Left out of the standard library, as measured on 3.11: tests (17 MB) and installed packages are
# not its source; 72 of the 122 files in encodings (1.4 of 10.2 MB) are more than 5 % digits and
# backslashes and the others are stubs that differ by a name; pydoc_data is one file of 0.8 MB.
EXCLUDED_FOLDERS = (
    "test", "tests", "idle_test", "idlelib", "lib2to3", "encodings", "pydoc_data", "turtledemo",
    "site-packages", "dist-packages", "lib-dynload", "config-*",
)  # fmt: skip
# Tables, and files that the installation writes.
EXCLUDED_FILES = (
    "stringprep.py", "entities.py", "_sysconfigdata*.py", "_sysconfig_vars*", "sitecustomize.py",
    "usercustomize.py",
)  # fmt: skip


class NotTextError(ValueError):
    """A file that holds no UTF-8 text."""


class Look(NamedTuple):
    """What a file holds: the bytes of its text, and their SHA-256; 0 bytes where it is blank."""

    num_bytes: int
    sha256: bytes


def check_root(root: str | Path) -> Path:
    """The folder, or ValueError where there is none of that name."""
    folder = check_path("root", root)
    try:
        is_folder = folder.is_dir()
    except OSError:  # such as a name that is too long, or a folder that may not be entered
        is_folder = False
    if not is_folder:
        raise ValueError(f"root={shown(str(folder))} is not a folder; name one that holds texts")
    return folder


def check_text(field: str, text: str) -> str:
    """The text, or ValueError where it is none, or holds half a character."""
    check_kind(field, text, str, "text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start : error.end]
        raise ValueError(
            f"{field}={shown(text)} holds {half!r} at place {error.start}, half a character that "
            "no UTF-8 can hold; read its source with errors='replace'"
        ) from None
    return text


def check_suffixes(suffixes: Iterable[str] | None) -> tuple[str, ...]:
    """The ends of file names, or ValueError where they are no texts; () where none are asked."""
    ends = () if suffixes is None else tuple(items("suffixes", suffixes))
    return tuple(check_kind("suffixes", end, str, "the end of a file's name") for end in ends)


def check_shares(validation_fraction: float, test_fraction: float) -> dict[str, float]:
    """Each split's expected share of the files."""
    validation = check_range(
        "validation_fraction", validation_fraction, 0, 1, low_open=True, high_open=True
    )
    test = check_range("test_fraction", test_fraction, 0, 1, low_open=True, high_open=True)
    if validation + test >= 1:
        raise ValueError(
            f"validation_fraction={validation_fraction} and test_fraction={test_fraction} "
            "leave nothing to train on; their sum must be below 1"
        )
    return {"test": test, "validation": validation, "train": 1 - test - validation}


def find_files(
    root: Path, suffixes: tuple[str, ...], counts: Counter, *, standard_library: bool = False
) -> list[str]:
    """Paths of the files to read, relative to the root, with forward slashes, in order.

    Links to files are followed, links to folders are not. Hidden files and __pycache__ are passed
    over; what cannot be listed, and what is no plain file, is counted as "unreadable".
    """
    ends = suffixes or ((".py",) if standard_library else ("",))
    unwanted_folders = EXCLUDED_FOLDERS if standard_library else ()
    unwanted_files = EXCLUDED_FILES if standard_library else ()
    found, folders = [], [""]
    while folders:  # not by recursion: folders may lie deeper than calls may
        parent = folders.pop()
        try:
            with os.scandir(root / parent) as entries:
                for entry in entries:
                    path = f"{parent}/{entry.name}" if parent else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if not _unwanted(entry.name, unwanted_folders):
                            folders.append(path)
                    elif entry.name.endswith(ends) and not _unwanted(entry.name, unwanted_files):
                        found.append(path)
        except OSError:
            counts["unreadable"] += 1
    return sorted(found)


def pieces(path: Path, *, block_bytes: int = BLOCK_BYTES) -> Iterator[str]:
    """A file's text block by block, with "\\n" line ends and without a byte order mark.

    What is written to it meanwhile is not read.

    Raises:
        NotTextError: it is not UTF-8, or holds a zero byte near its start.
        OSError: it cannot be read, or is no plain file.
    """
    decoder = io.IncrementalNewlineDecoder(
        codecs.getincrementaldecoder("utf-8-sig")(), translate=True
    )
    # Not to wait for a pipe's other end; a plain file does not mind.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a plain file")
        done = 0
        while block := file.read(min(block_bytes, status.st_size - done)):
            if b"\0" in block[: max(0, SNIFFED_BYTES - done)]:
                raise NotTextError(f"{path} holds a zero byte")
            done += len(block)
            yield _decoded(decoder, block, path, final=False)
    yield _decoded(decoder, b"", path, final=True)


def look_at(path: Path) -> Look:
    """What a file holds, read through once; raises as `pieces` does."""
    digest, num_bytes, is_blank = hashlib.sha256(), 0, True
    for piece in pieces(path):
        content = piece.encode()
        digest.update(content)
        num_bytes += len(content)
        is_blank = is_blank and not piece.strip()
    return Look(0 if is_blank else num_bytes, digest.digest())


def split_of(path: str, shares: Mapping[str, float]) -> str:
    """The split that a file belongs to: a hash of its path, the same on every machine."""
    place = hash_number(path)
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return "train"


def hash_number(path: str, *, part: int = 0) -> float:
    """A number in [0, 1) that is a function of the path alone; each part is another one."""
    digest = hashlib.sha256(path.encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[8 * part : 8 * part + 6], "big") / 2**48


def _decoded(
    decoder: io.IncrementalNewlineDecoder, block: bytes, path: Path, *, final: bool
) -> str:
    try:
        return decoder.decode(block, final=final)
    except UnicodeDecodeError:
        raise NotTextError(f"{path} is not UTF-8") from None


def _unwanted(name: str, patterns: tuple[str, ...]) -> bool:
    if name.startswith(".") or name == "__pycache__":
        return True
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
