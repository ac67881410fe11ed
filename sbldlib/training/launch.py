"""Several processes on one piece of work: the only room that knows accelerate.

A process that was started alone is all there is, and accelerate need not be installed. Started by
`torchrun` or `accelerate launch`, each learns its number from accelerate.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import FileStore  # pyright: ignore[reportPrivateImportUsage]

from ..signals import SIGNALS

T = TypeVar("T")
TAKEN = ".taken-"  # how the file in which processes count their tasks begins
PATIENCE = timedelta(hours=24)  # a process may wait for another's whole run
SHUTDOWN_SECONDS = 25.0  # what is left to a process that is asked to end
_BUCKET = 2**23  # numbers that are added up in one go
# What torchrun is, without a traceback where a signal ended it.
_TORCHRUN = """
import sys
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.run import main
try:
    main()
except SignalException as error:
    sys.exit(128 + error.sigval)
"""
_LENGTH = struct.Struct("<q")


class Workers:
    """The processes that share a piece of work, seen from one of them.

    What one of them asks of the others, all of them have to ask, in the same order.

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

    def gather(self, data: bytes) -> list[bytes]:
        """What each process gives, in their order: as many bytes each, and not none."""
        if self._state is None:
            return [data]
        mine = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(self._state.device)
        theirs = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(theirs, mine)
        return [tensor.cpu().numpy().tobytes() for tensor in theirs]

    def gather_texts(self, text: str) -> list[str]:
        """What each process says, in their order."""
        mine = text.encode()
        lengths = [_LENGTH.unpack(told)[0] for told in self.gather(_LENGTH.pack(len(mine)))]
        told = self.gather(mine.ljust(max(lengths) + 1))
        return [one[:length].decode() for one, length in zip(told, lengths, strict=True)]

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Let each tensor hold the sum of what all processes have there, bit for bit the same."""
        for bucket in _buckets(tensors) if self.count > 1 else ():
            flat = _flat(bucket)
            dist.all_reduce(flat)
            _put(flat, bucket)

    @torch.no_grad()
    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Let each tensor hold what the first process has there."""
        for bucket in _buckets(tensors) if self.count > 1 else ():
            flat = _flat(bucket)
            dist.broadcast(flat, 0)
            _put(flat, bucket)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type and device together, few enough to be copied."""
    kinds: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for same in kinds.values():
        bucket, size = [], 0
        for tensor in same:
            if bucket and size + tensor.numel() > _BUCKET:
                yield bucket
                bucket, size = [], 0
            bucket.append(tensor)
            size += tensor.numel()
        yield bucket


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    parts = [tensor.reshape(-1) for tensor in tensors]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _put(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


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
    _end_when_asked(float(os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SHUTDOWN_SECONDS)))
    return Workers(PartialState(cpu=device == "cpu", timeout=PATIENCE))


def _end_when_asked(seconds: float) -> None:
    """Let SIGTERM end this process so much later, whatever it waits for by then.

    It is what torchrun sends where another process was killed. One that handles it by itself, as
    training does, may wait for the other one by then, and in no Python that could be interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # Written to at once when a signal comes, before any handler runs.
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before)
        return

    def watch() -> None:
        while os.read(reader, 1) != bytes([signal.SIGTERM]):
            pass
        time.sleep(seconds)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def launch(arguments: Sequence[str], *, num_processes: int) -> int:
    """Run `python -m ARGUMENTS` in so many processes on this machine; the exit code.

    One that fails, or is killed, ends the others. Ctrl-C and SIGTERM end all of them at a step
    boundary, as they end one, with the exit code that one has then.
    """
    command = [sys.executable, "-c", _TORCHRUN, "--standalone"]
    command += [f"--nproc-per-node={num_processes}", "-m", *arguments]
    # As torchrun has it where nobody says, with many words.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    # In a session of its own: a terminal's Ctrl-C comes here alone, and is passed on once.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    passed_on: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not passed_on:
            process.send_signal(number)
        passed_on.append(number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 + passed_on[0] if passed_on and code else code
