"""kill -9 of one of two processes that train a model together: both end, and the run goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from faults import judge
from faults.lives import ONE_THREAD, PATIENCE_SECONDS, ROOT, TESTS
from faults.outcome import Outcome
from faults.worker import (
    METHODS,
    Job,
    Perturbing,
    Source,
    checkpoint_config,
    job_of,
    make_parts,
    plain,
)

from sbldlib.storage.files import write_atomically
from sbldlib.training.launch import launch, workers_here
from sbldlib.training.loop import train

FAULT = "kill -9 of one of two ranks at a random moment of a run"
PROMISE = "all processes end within 30 s, and the same call goes on to the same digits"
WITHIN_SECONDS = 30.0
NUM_RANKS = 2
MAX_KILLS = 3  # in one run
STEPS = 24


@dataclass
class Tally:
    """Kills so far, and those after which the promise was broken."""

    kills: int = 0
    runs: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    ended_after: list[float] = field(default_factory=list)
    undisturbed: dict[Job, tuple[Path, float]] = field(default_factory=dict)


def run(num: int, *, seed: int, folder: Path, perturb: bool = False) -> Outcome:
    """Kill `num` times."""
    began, draw, tally = time.perf_counter(), random.Random(seed), Tally()
    while tally.kills < num:
        job = replace(variant(tally.runs), every_steps=draw.choice((3, 4, 7)), perturb=perturb)
        wanted = min(num - tally.kills, draw.randint(1, MAX_KILLS))
        kill_in_one_run(job, wanted, draw, tally, folder / f"run-{tally.runs}")
        tally.runs += 1
    return Outcome.of(
        FAULT,
        PROMISE,
        tally.failures,
        tally.kills,
        seconds=time.perf_counter() - began,
        figures={
            "runs": tally.runs,
            "ranks": NUM_RANKS,
            "steps a run": STEPS,
            "slowest end after a kill, s": round(max(tally.ended_after, default=0.0), 2),
        },
    )


def variant(number: int) -> Job:
    """Both scopes and both methods in turn."""
    by_row, other_method = number % 2 == 1, number // 2 % 2 == 1
    return Job(
        steps=STEPS,
        scope="per_sequence" if by_row else "per_batch",
        method=METHODS[other_method],
        script=((STEPS // 2, "saving", None, 0.25),),
    )


def undisturbed(number: int, tally: Tally, folder: Path) -> tuple[Path, float]:
    """What the job comes to where nothing happens to it, and the seconds that it takes."""
    job = variant(number)
    if job not in tally.undisturbed:
        write = folder / "undisturbed.json"
        launched = Launched(replace(job, write=str(write)), folder / "undisturbed")
        launched.await_ranks("begins")
        began = time.monotonic()
        launched.await_ranks("ends")
        tally.undisturbed[job] = write, time.monotonic() - began
        if code := launched.wait():
            raise AssertionError(f"the undisturbed run ended with {code}: {launched.last}")
    return tally.undisturbed[job]


def kill_in_one_run(job: Job, wanted: int, draw: random.Random, tally: Tally, folder: Path) -> None:
    """Start a run again and again until it completes, killing one of its ranks the first times."""
    folder.mkdir(parents=True)
    expected, seconds = undisturbed(tally.runs, tally, folder)
    result = folder / "result.json"
    first = tally.kills
    while True:
        launched = Launched(
            replace(job, folder=str(folder / "run"), write=str(result)),
            folder / f"life-{tally.kills}",
        )
        if tally.kills - first == wanted:
            code = launched.wait()
            break
        launched.await_ranks("begins")
        time.sleep(draw.uniform(0, seconds))
        launched.kill(draw.randrange(NUM_RANKS))
        ended_after, code = launched.end_of_all()
        if code == 0:  # it had ended by itself
            break
        tally.ended_after.append(ended_after)
        if code is None:
            told = f"processes were still there after {WITHIN_SECONDS:g} s"
            tally.failures[tally.kills] = f"{job.scope} {job.method}: {told}"
        tally.kills += 1
    failure = None if result.exists() else f"ended with {code}: {launched.last}"
    failure = failure or judge.difference(judge.read(result), judge.read(expected))
    if failure is not None:
        told = f"{job.scope} {job.method}, {tally.kills - first} kills: {failure}"
        tally.failures = dict.fromkeys(range(first, tally.kills), told) | tally.failures


class Launched:
    """A launcher and its ranks, of which each writes its process number into the folder."""

    def __init__(self, job: Job, folder: Path):
        folder.mkdir(parents=True)
        self._folder, self._log = folder, folder / "log"
        path = os.pathsep.join([str(TESTS), str(ROOT), os.environ.get("PYTHONPATH", "")])
        with open(self._log, "wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faults.killed_rank", str(folder), json.dumps(plain(job))],
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def last(self) -> str:
        """The last line that was printed."""
        return (self._log.read_text().strip().splitlines() or [""])[-1]

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """The launcher's exit code."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._clear_away()
            raise AssertionError(f"still there after {seconds:g} s: {self.last}") from None

    def await_ranks(self, event: str) -> None:
        """Return when every rank has come to the event."""
        end = time.monotonic() + PATIENCE_SECONDS
        while len(list(self._folder.glob(f"{event}-*"))) < NUM_RANKS:
            if self._process.poll() is not None or time.monotonic() > end:
                self._clear_away()
                raise AssertionError(f"not every rank {event}: {self._log.read_text()}")
            time.sleep(0.02)

    def kill(self, rank: int) -> None:
        """One that has ended by itself does not mind."""
        with suppress(ProcessLookupError):
            os.kill(self._pids()[rank], signal.SIGKILL)

    def end_of_all(self) -> tuple[float, int | None]:
        """Seconds until the launcher and all ranks have ended, and its code; None where not."""
        began = time.monotonic()
        while (seconds := time.monotonic() - began) < WITHIN_SECONDS:
            if self._process.poll() is not None and not any(map(_is_there, self._pids().values())):
                return seconds, self._process.returncode
            time.sleep(0.02)
        self._clear_away()
        return seconds, None

    def _pids(self) -> dict[int, int]:
        files = {rank: self._folder / f"begins-{rank}" for rank in range(NUM_RANKS)}
        return {rank: int(file.read_text()) for rank, file in files.items() if file.exists()}

    def _clear_away(self) -> None:
        for pid in (*self._pids().values(), self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def _is_there(pid: int) -> bool:
    """Whether a process runs; one that nobody has asked for its exit code does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


# ---- within the processes


def train_on_this_rank(folder: Path, job: Job) -> None:
    """Train this rank's share of the job; the first rank writes what it came to."""
    import torch

    torch.set_num_threads(1)
    workers = workers_here()
    parts = make_parts(job)
    if job.perturb:
        parts.arguments["callbacks"].append(Perturbing(parts.model))
    workers.wait()
    tell(folder, "begins", workers.index)
    record = train(
        parts.model,
        Source(job.seed),
        parts.optimizer,
        **parts.arguments,
        folder=job.folder,
        checkpoints=checkpoint_config(job),
        workers=workers,
    )
    tell(folder, "ends", workers.index)
    found: dict[str, Any] = judge.found(record, parts.model, parts.optimizer)
    if workers.index == 0:
        assert job.write is not None
        write_atomically(job.write, json.dumps(found).encode())


def tell(folder: Path, event: str, rank: int) -> None:
    """Let the harness know; the file holds this process's number."""
    write_atomically(folder / f"{event}-{rank}", str(os.getpid()).encode())


if __name__ == "__main__":
    if "WORLD_SIZE" in os.environ:
        train_on_this_rank(Path(sys.argv[1]), job_of(json.loads(sys.argv[2])))
    else:
        sys.exit(launch(["faults.killed_rank", *sys.argv[1:]], num_processes=NUM_RANKS))
