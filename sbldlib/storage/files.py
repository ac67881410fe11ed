"""Files that are whole or absent, and on the disk before anyone is told that they are there."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

PART = ".part"  # how the name of a file or folder ends that is not whole yet
_CHUNK_BYTES = 2**20
_numbers = itertools.count()


def write_atomically(path: str | Path, content: bytes) -> Path:
    """Write `content` under a temporary name, sync it to disk, then give it its name."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(target)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)
    return target


def temporary_name(target: Path) -> Path:
    """A hidden name beside the target that no other process or thread uses."""
    return target.with_name(f".{target.name}.{os.getpid()}-{next(_numbers)}{PART}")


def sync_file(path: Path) -> None:
    """Return when the file's content is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Return when the names in the folder are on the disk, where its file system can say so."""
    try:
        sync_file(folder)
    except OSError:  # some network file systems sync no folders
        return


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
