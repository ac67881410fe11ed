"""Processes to be killed: one has imported torch and forks a child, in milliseconds, for each life.

A task is a function by name, "module:function", called with plain values by name. What it prints
goes to a log, and what it announces comes through a pipe.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
EVENTS = "FAULTS_EVENTS"  # names the pipe's end, in the environment
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
PATIENCE_SECONDS = 300.0  # until a process that should have ended is called stuck


class StuckError(AssertionError):
    """A process did not do in time what it was to do."""


@dataclass
class Life:
    """One process at its task."""

    pid: int
    log: Path
    nursery: Nursery
    process: subprocess.Popen | None = None  # where it is no fork

    def kill(self, sign: int = signal.SIGKILL) -> None:
        """Send a signal; one that has ended by itself does not mind."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, sign)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code, or minus the signal that ended it."""
        if self.process is None:
            code = self.nursery.ask(do="wait", pid=self.pid, seconds=seconds)["code"]
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
            code = self.process.returncode
        if code is None:
            self.kill()
            raise StuckError(f"process {self.pid} is still there after {seconds:g} s: {self.last}")
        return code

    @property
    def last(self) -> str:
        """The last line that it printed."""
        return (self.log.read_text().strip().splitlines() or [""])[-1]


class Nursery:
    """Starts lives; to be entered."""

    def __init__(self, folder: Path):
        self._folder, self._number = folder, 0

    def __enter__(self) -> Nursery:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._events, writer = os.pipe()
        self._text = b""
        path = os.pathsep.join([str(TESTS), str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": path, EVENTS: str(writer)}
        self._writer = writer
        self._server = self._popen(["-m", "faults.lives"], stdin=subprocess.PIPE)
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()  # it ends its children, and itself
        self._server.wait()
        self._server.stdout.close()
        os.close(self._events)
        os.close(self._writer)

    def start(self, task: str, **given: Any) -> Life:
        """A forked child at this task."""
        log = self._new_log()
        pid = self.ask(do="start", task=task, given=given, log=str(log))["pid"]
        return Life(pid, log, self)

    def start_fresh(self, task: str, **given: Any) -> Life:
        """A new interpreter at this task."""
        log = self._new_log()
        with open(log, "wb") as output:
            process = self._popen(
                ["-m", "faults.lives", task, json.dumps(given)], output, stdin=subprocess.DEVNULL
            )
        return Life(process.pid, log, self, process)

    def next_event(self, seconds: float = PATIENCE_SECONDS) -> tuple[int, str] | None:
        """Process and words of the next announcement; None where none comes in time."""
        while b"\n" not in self._text:
            if not select.select([self._events], [], [], seconds)[0]:
                return None
            self._text += os.read(self._events, 65536)
        line, _, self._text = self._text.partition(b"\n")
        pid, _, words = line.decode().partition(" ")
        return int(pid), words

    def await_event(self, life: Life, words: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Pass over announcements up to this one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.next_event(0.05) == (life.pid, words):
                return
            if life.process is not None and life.process.poll() is not None:
                break
        raise StuckError(f"process {life.pid} did not announce {words!r}: {life.last}")

    def pass_over_events(self) -> None:
        """Forget what was announced so far."""
        while self.next_event(0) is not None:
            pass

    def ask(self, **command: Any) -> dict[str, Any]:
        """What the parent of the forks answers."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(command).encode() + b"\n")
        self._server.stdin.flush()
        if not (line := self._server.stdout.readline()):
            raise StuckError(f"the parent of the forks has ended, {self._server.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer

    def _new_log(self) -> Path:
        self._number += 1
        return self._folder / f"{self._number}.log"

    def _popen(self, arguments: list[str], output: Any = subprocess.PIPE, **more: Any):
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdout=output,
            stderr=None if output is subprocess.PIPE else subprocess.STDOUT,
            env=self._environment,
            pass_fds=[self._writer],
            start_new_session=True,
            **more,
        )


_SHARED: list[Nursery] = []


@contextlib.contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    """A nursery whose logs lie in this folder; or the one that is shared."""
    if _SHARED:
        _SHARED[-1].pass_over_events()
        yield _SHARED[-1]
    else:
        with Nursery(folder / "logs") as entered:
            yield entered


@contextlib.contextmanager
def shared_nursery(folder: Path) -> Iterator[Nursery]:
    """One nursery for all faults meanwhile: to import torch takes seconds."""
    with Nursery(folder / "logs") as entered:
        _SHARED.append(entered)
        try:
            yield entered
        finally:
            _SHARED.remove(entered)


# ---- within the processes


def announce(words: str) -> None:
    """Tell the harness; a line is written whole."""
    os.write(int(os.environ[EVENTS]), f"{os.getpid()} {words}\n".encode())


def serve() -> None:
    """Fork a child for each command, and say how each ended."""
    _import_all()
    children: set[int] = set()
    try:
        for line in sys.stdin.buffer:
            command = json.loads(line)
            try:
                answer = _start(command, children) if command["do"] == "start" else _wait(command)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
            sys.stdout.buffer.flush()
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def do(task: str, given: dict[str, Any]) -> None:
    """Call a task by name."""
    import torch

    torch.set_num_threads(1)
    module, _, name = task.partition(":")
    getattr(importlib.import_module(module), name)(**given)


def num_threads() -> int:
    """Of this process, those of other languages among them where the system can tell."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()


def _import_all() -> None:
    """All that a life imports, a counted forward's as well; nothing here starts a thread."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import sbldlib.methods  # noqa: F401

    torch.set_num_threads(1)
    with FlopCounterMode(display=False):
        torch.nn.Linear(1, 1)(torch.ones(1, 1))
    importlib.import_module("faults.worker")


def _start(command: dict[str, Any], children: set[int]) -> dict[str, Any]:
    importlib.import_module(command["task"].partition(":")[0])
    if num_threads() != 1:
        raise RuntimeError(f"{num_threads()} threads: a fork would keep one of them, and its locks")
    if (pid := os.fork()) == 0:
        _live(command)
    children.add(pid)
    return {"pid": pid}


def _live(command: dict[str, Any]) -> None:
    code = 70
    try:
        os.setsid()
        with open(command["log"], "wb") as output, open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        code = _ending(command)
    finally:
        os._exit(code)


def _ending(command: dict[str, Any]) -> int:
    try:
        do(command["task"], command["given"])
        return 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


def _wait(command: dict[str, Any]) -> dict[str, Any]:
    end = time.monotonic() + command["seconds"]
    while True:
        pid, status = os.waitpid(command["pid"], os.WNOHANG)
        if pid:
            return {"code": os.waitstatus_to_exitcode(status)}
        if time.monotonic() > end:
            return {"code": None}
        time.sleep(0.001)


if __name__ == "__main__":
    if sys.argv[1:]:
        do(sys.argv[1], json.loads(sys.argv[2]))
    else:
        from faults.lives import serve as serve_as_module  # one module, not two

        serve_as_module()
