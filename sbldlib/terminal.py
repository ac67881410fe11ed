"""What the commands share: the console, a progress bar, tables, and errors in a sentence."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from .data.hub.faults import HubError
from .errors import printable, shown, why_no_folder
from .storage.checkpoints import CheckpointError
from .storage.lock import RunBusyError
from .training.finite import NotFiniteError
from .training.ranks import RankMismatchError

WENT_WRONG, INTERRUPTED, TERMINATED = 1, 130, 143  # exit codes; what is asked wrongly has 2
MOST_THREADS = 1024  # and processes: more were mistyped
GO_WRONG = (
    RunBusyError,
    CheckpointError,
    NotFiniteError,
    RankMismatchError,
    HubError,
    ModuleNotFoundError,
    MemoryError,
    OSError,
)
GO_ON = "the same command goes on from there"
console = Console()


class _Done(MofNCompleteColumn):
    """What is done of a task's total: in megabytes where the task says that it counts bytes."""

    def render(self, task: Task) -> Text:
        return (
            DownloadColumn().render(task) if task.fields.get("in_bytes") else super().render(task)
        )


def is_first() -> bool:
    """Whether this process, of several that work together, is the one that speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def progress_bar() -> Progress:
    """A bar with what runs before it, and the time left behind it."""
    return Progress(
        TextColumn("{task.description:36}", markup=False),
        BarColumn(),
        _Done(),
        TimeRemainingColumn(),
        console=console,
        disable=not is_first(),
    )


def print_rows(rows: Sequence[tuple[str, ...]], title: str | None = None) -> None:
    """Print a table whose first row is its header."""
    header, *body = rows
    title_text = None if title is None else plain(title)
    table = Table(title=title_text, box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in header:
        table.add_column(plain(name))
    for row in body:
        table.add_row(*map(plain, row))
    console.print(table)


def plain(text: str) -> Text:
    """The text as it is, whatever it holds: no markup is read in it, and no terminal steered."""
    return Text("\n".join(map(printable, text.split("\n"))))


def say(sentence: str, *, style: str = "") -> None:
    """Print a sentence that may hold names and paths."""
    console.print(plain(sentence), style=style, soft_wrap=True)


def writable(path: Path | None) -> Path | None:
    """An option's folder, or a usage error where none can be made or written to."""
    if path is None:
        return None
    reason = why_no_folder(path)
    if reason is None:
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not os.access(there, os.W_OK):
            reason = f"{shown(str(there))} may not be written to"
    if reason is not None:
        raise typer.BadParameter(f"{shown(str(path))}: {reason}; name a folder, which may be new")
    return path


def writable_file(path: Path | None) -> Path | None:
    """An option's file, or a usage error where none can be written."""
    if path is None:
        return None
    writable(path.parent)
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        return path
    except OSError as error:  # such as a name that is too long
        raise typer.BadParameter(f"{shown(str(path))}: {error.strerror}; name a file") from None
    if is_folder:
        raise typer.BadParameter(f"{shown(str(path))} is a folder; name a file")
    return path


@contextmanager
def told() -> Iterator[None]:
    """Say what went wrong without a traceback, and how a run that was ended goes on."""
    try:
        yield
    except KeyboardInterrupt as error:
        _tell(str(error) or "interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except SystemExit as error:
        if error.code == TERMINATED:
            _tell(f"ended by SIGTERM, and saved; {GO_ON}")
        raise
    except GO_WRONG as error:
        _tell(f"{type(error).__name__}: {error}")
        raise typer.Exit(WENT_WRONG) from None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _tell(sentence: str) -> None:
    if is_first():
        say(sentence)
