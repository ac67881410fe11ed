"""Files that are whole or absent, and on the disk before anyone is told that they are there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
import stat
from pathlib import Path

PART = ".part"  # how the name of a file or folder ends that is not whole yet
GONE = ".gone"  # and of one that is being removed
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


def open_plain(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a plain file: not of what a link leads to, or of a pipe that never ends.

    Raises:
        OSError: it is not one.
    """
    try:
        # Not to wait for a pipe's other end; a plain file does not mind.
        found = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a link, not a plain file", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(errno.EINVAL, "is not a plain file", str(path))
    return found


def read_plain(path: Path) -> bytes:
    """The content of a plain file; raises as `open_plain` does."""
    with open(open_plain(path), "rb") as file:
        return file.read()


def temporary_name(target: Path, ending: str = PART) -> Path:
    """A hidden name beside the target that no other process or thread uses."""
    return target.with_name(f".{target.name}.{os.getpid()}-{next(_numbers)}{ending}")


def remove_path(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, as far as it lets itself."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


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
