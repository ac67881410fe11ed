"""Several processes on one piece of work: the only room that knows accelerate.

A process that was started alone is all there is, and accelerate need not be installed. Started by
`torchrun` or `accelerate launch`, each learns its number from accelerate.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from torch.distributed import FileStore  # pyright: ignore[reportPrivateImportUsage]

T = TypeVar("T")
TAKEN = ".taken-"  # how the file in which processes count their tasks begins
PATIENCE = timedelta(hours=24)  # a process may wait for another's whole run


class Workers:
    """The processes that share a piece of work, seen from one of them.

    Attributes:
        index: this process's number, from 0.
        count: how many there are.
    """

    def __init__(self, state: Any = None):
        self._state = state
        self.index: int = 0 if state is None else state.process_index
        self.count: int = 1 if state is None else state.num_processes

    def share(self, tasks: Sequence[T]) -> list[T]:
        """This process's part of tasks that are alike: every `count`-th one."""
        return list(tasks[self.index :: self.count])

    def take(self, tasks: Sequence[T], folder: Path) -> Iterator[T]:
        """The tasks in their order, each given to one process, whichever is free first.

        Args:
            tasks: the same ones in every process.
            folder: where the processes count them, in a file that goes when they are done.
        """
        if self._state is None:
            yield from tasks
            return
        counter = folder / f"{TAKEN}{os.environ.get('TORCHELASTIC_RUN_ID', 'run')}"
        store = FileStore(str(counter), self.count)
        while (place := store.add("taken", 1) - 1) < len(tasks):
            yield tasks[place]

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self._state is not None:
            self._state.wait_for_everyone()


def workers_here(device: str = "cpu") -> Workers:
    """The processes that this one was started with.

    Args:
        device: "cpu", or "cuda" where each process has a device of its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Workers()
    try:
        from accelerate import PartialState
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "several processes need accelerate: pip install 'sbldlib[distributed]'",
            name="accelerate",
        ) from None
    return Workers(PartialState(cpu=device == "cpu", timeout=PATIENCE))


def launch(arguments: Sequence[str], *, num_processes: int) -> int:
    """Run `python -m ARGUMENTS` in so many processes on this machine; the exit code.

    One that fails ends the others.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={num_processes}", "-m", *arguments]
    return subprocess.run(command, check=False).returncode
