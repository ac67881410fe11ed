"""One writer a folder: a lock that says who holds it, and falls with its holder.

The kernel's own lock on an open file: when its process dies, however it dies, the next one has it
at once. Its process and host are written into the file for people to read; nothing is decided by
them, so that a process number used again or a clock that is wrong cannot mislead.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any

from .files import open_plain, read_plain

LOCK = ".lock"
_PATIENCE_SECONDS = 1.0


class RunBusyError(RuntimeError):
    """Another process, or another part of this one, writes in the folder."""


class FolderLock:
    """The right to write in a folder, held from `acquire` to `release` or the process's end."""

    def __init__(self, folder: str | Path):
        self._path = Path(folder) / LOCK
        self._descriptor: int | None = None

    def acquire(self) -> FolderLock:
        """Take the lock.

        Raises:
            RunBusyError: somebody holds it; their process and host are named.
        """
        try:
            descriptor = open_plain(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            where = str(self._path.parent)
            raise RunBusyError(f"folder={where!r} cannot be locked: {error}") from error
        try:
            self._wait_for_a_name(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _HELD.add(self)
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        _write(descriptor, json.dumps(me).encode())
        return self

    def release(self) -> None:
        """Give the lock back; does nothing where it is not held."""
        if self._descriptor is not None:
            _write(self._descriptor, b"")
            os.close(self._descriptor)
            self._descriptor = None

    def _wait_for_a_name(self, descriptor: int) -> None:
        """Take the lock, or say who has it.

        Who has just taken it has not written who it is yet, and the file still names the one who
        was killed: both are over in milliseconds.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        where = f"folder={str(self._path.parent)!r}"
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(self._path)
            except OSError as error:
                raise RunBusyError(
                    f"{where} cannot be locked ({error}): its file system knows no locks; use a "
                    "local disk"
                ) from error
            if holder is not None or time.monotonic() > end:
                raise RunBusyError(
                    f"{where} is being written by {holder or 'another process'}: wait for it, end "
                    "it, or give another folder"
                )
            time.sleep(0.005)

    def __enter__(self) -> FolderLock:
        return self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    def forget(self) -> None:
        """Close the file without giving the lock back: another process has it open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_HELD):
        lock.forget()


# A child shares its parent's lock, and would keep it beyond the parent's death.
os.register_at_fork(after_in_child=_forget_all)


def _write(descriptor: int, content: bytes) -> None:
    """Best effort: on a full disk the lock still holds, and names nobody."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)
    except OSError:
        return


def _holder(path: Path) -> str | None:
    """Who the file says holds the lock; None where that cannot be."""
    try:
        known: dict[str, Any] = json.loads(read_plain(path))
        name = f"process {known['pid']} on {known['host']}"
        if known["host"] == socket.gethostname() and not _is_there(known["pid"]):
            return None
        return f"{name}, for {(time.time() - known['since']) / 60:.0f} minutes"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # asks, and sends nothing
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return True
