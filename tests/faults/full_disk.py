"""The disk fills: in a save, in the ledger, in the log of controls, in the record, before all.

Two ways: files may not grow beyond a size (a limit of the process, which every user may set), and a
small file system of its own with a filler on it (where this user may mount one).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faults import judge
from faults.lives import Nursery, nursery
from faults.outcome import Outcome
from faults.worker import SAVINGS, Job, job_of, plain, run_job

from sbldlib.storage.checkpoints import CheckpointError, check_checkpoint
from sbldlib.storage.files import write_atomically

FAULT = "the disk fills"
PROMISE = "said so, and the checkpoints are whole; with room again it ends as undisturbed"
STEPS = 64
JOB = Job(
    steps=STEPS,
    width=4,  # so that the final record is the largest file
    every_steps=8,
    evaluate_every=12,
    keep_last=2,
    script=tuple((step, "saving", None, SAVINGS[step % 4]) for step in range(2, STEPS, 7)),
)
MOUNT_BYTES = 2 * 2**20
MOST_ROOM = 42_000  # more than the largest file needs
FOR_ALL_BUT_THE_RECORD = (31_500, 38_000)
FULL_AS_THE_KIT_SAYS = ("disk is full", "No space left", "File too large")
KINDS = ("settings.json", "ledger.jsonl", "controls.jsonl", "run.json", "best.json", "step-")


@dataclass
class Disk:
    """Somewhere to run out of room.

    Attributes:
        kind: "limit" or "mount".
        folder: for runs.
        filler: what takes the room there, on a mount.
    """

    kind: str
    folder: Path

    @property
    def filler(self) -> Path:
        return self.folder / "filler"


def run(num: int, *, seed: int, folder: Path) -> Outcome:
    """Fill the disk `num` times, at a random step with random room left."""
    began, draw, failures, hit = time.perf_counter(), random.Random(seed), {}, Counter()
    folder.mkdir(parents=True, exist_ok=True)
    with nursery(folder) as lives, mounted(folder / "mount") as mount:
        expected = undisturbed(lives, folder)
        disks = [Disk("limit", folder), *([Disk("mount", mount)] if mount is not None else [])]
        for number in range(num):
            disk = disks[number % len(disks)]
            where, failure = one_try(disk, number, expected, lives, draw)
            hit[where] += 1
            if failure is not None:
                failures[number] = f"{disk.kind}, {where}: {failure}"
    return Outcome.of(
        FAULT,
        PROMISE,
        failures,
        num,
        seconds=time.perf_counter() - began,
        figures={
            "file system of its own": "used" if mount is not None else "SKIPPED: may not mount one",
            "where": dict(hit),
        },
    )


def one_try(
    disk: Disk, number: int, expected: dict[str, Any], lives: Nursery, draw: random.Random
) -> tuple[str, str | None]:
    """What could not be written, and why what came of it is not as promised, or None."""
    path = disk.folder / f"run-{number}"
    result = lives_folder(disk, number) / "result.json"
    job = replace(JOB, folder=str(path), write=str(result))
    at, room = draw.choice((-1, *range(STEPS))), some_room(draw)
    if number % 5 == 0:
        at, room = STEPS - 1, draw.randrange(*FOR_ALL_BUT_THE_RECORD)
    elif number % 5 == 1:  # full when a killed run is called again
        at = -1
        lives.start("faults.damaged:base", job=plain(job), kill=True).wait()
    given = {"kind": disk.kind, "at": at, "room": room, "filler": str(disk.filler)}
    life = lives.start("faults.full_disk:fill", job=plain(job), **given)
    if code := life.wait():
        return "elsewhere", f"ended with {code}: {life.last}"
    told = judge.read(result)
    where, failure = told_where(told), why_not_told(told)
    for checkpoint in (path / "checkpoints").glob("step-*"):
        try:
            check_checkpoint(checkpoint)
        except CheckpointError as error:
            failure = failure or f"a checkpoint is damaged: {error}"
    disk.filler.unlink(missing_ok=True)
    life = lives.start("faults.worker:live", job=plain(job))
    if code := life.wait():
        return where, f"with room again it ended with {code}: {life.last}"
    failure = failure or judge.difference(judge.read(result), expected)
    if left := [p.name for p in path.rglob(".*") if p.name != ".lock"]:
        failure = failure or f"{left} is left over"
    subprocess.run(["rm", "-r", str(path)], check=True)
    return where, failure


def some_room(draw: random.Random) -> int:
    """Bytes that can still be written: often few, so that the small files meet the end too."""
    return draw.choice(
        (0, draw.randrange(2_000), draw.randrange(12_000), draw.randrange(MOST_ROOM))
    )


def lives_folder(disk: Disk, number: int) -> Path:
    """Where a try's result goes, which is never full."""
    folder = (disk.folder if disk.kind == "limit" else disk.folder.parent) / f"result-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def told_where(told: dict[str, Any]) -> str:
    """Which kind of file met the end."""
    if told["error"] is None:
        return "there was room enough"
    return next((kind for kind in KINDS if kind in told["words"].partition(" ")[0]), "elsewhere")


def why_not_told(told: dict[str, Any]) -> str | None:
    """Why the error is not as promised, or None."""
    if told["error"] is None:
        return None
    if told["error"] != "CheckpointError":
        return f"{told['error']}: {told['words']}"
    if not any(words in told["words"] for words in FULL_AS_THE_KIT_SAYS):
        return f"it does not say that the disk is full: {told['words']}"
    return None


def undisturbed(lives: Nursery, folder: Path) -> dict[str, Any]:
    """What the run comes to with all the room that it needs."""
    job = replace(JOB, write=str(folder / "undisturbed.json"))
    life = lives.start("faults.worker:undisturbed", job=plain(job))
    assert life.wait() == 0, life.last
    return judge.read(folder / "undisturbed.json")


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Path | None]:
    """A small file system in memory; None where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={MOUNT_BYTES}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        done = False
    try:
        yield folder if done else None
    finally:
        if done:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


# ---- tasks


def fill(job: dict[str, Any], kind: str, at: int, room: int, filler: str) -> None:
    """Train, and leave so little room after a step; writes what was raised."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def take_room() -> None:
        if kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        else:
            fill_up(Path(filler), room)

    told = {"error": None, "words": ""}
    try:
        train_until(job_of(job), at, take_room)
    except Exception as error:
        told = {"error": type(error).__name__, "words": str(error)}
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    write_atomically(job["write"], json.dumps(told).encode())


def train_until(job: Job, at: int, then: Callable[[], None]) -> None:
    """Train, and do something after a step; -1 is before the first."""
    if at < 0:
        then()
    run_job(job, lambda record: then() if record.step == at else None)


def fill_up(filler: Path, room: int) -> None:
    """Write until there is no room, then give so much of it back."""
    with open(filler, "wb", buffering=0) as file:
        written = 0
        try:
            while True:
                written += file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        os.ftruncate(file.fileno(), max(0, written - room))
