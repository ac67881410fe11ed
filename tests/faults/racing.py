"""Many call `train` on one folder at the same moment: processes, then threads of one process."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from faults.lives import Life, Nursery, announce, nursery
from faults.outcome import Outcome
from faults.worker import Job, Source, job_of, make_parts, plain, run_job

from sbldlib.storage.lock import RunBusyError
from sbldlib.training.loop import train

FAULT = "many processes, or threads, begin in one folder at once"
PROMISE = "one trains, the others are told its process and host; when killed, its place is free"
JOB = Job(steps=500_000, evaluate_every=0, keep_best=False, every_steps=0)


def run(num: int, *, seed: int, folder: Path) -> Outcome:
    """`num` contenders in each round; each round after the one who trained was killed."""
    began, draw = time.perf_counter(), random.Random(seed)
    failures: dict[int, str] = {}
    rounds = max(2, num // 4)
    folder.mkdir(parents=True, exist_ok=True)
    with nursery(folder) as lives:
        for number in range(rounds):
            found = race(num, lives, folder, number)
            failures |= {number * num + at: words for at, words in found.items()}
        seconds = [take_over(lives, folder, draw) for _ in range(rounds)]
        tried = rounds * num
        for number in range(rounds):
            if words := race_of_threads(num, lives, folder / f"threads-{number}"):
                failures |= {tried + number * num + at: words for at in range(num)}
        tried += rounds * num
    return Outcome.of(
        FAULT,
        PROMISE,
        failures,
        tried,
        seconds=time.perf_counter() - began,
        figures={
            "at once": num,
            "rounds of processes": rounds,
            "rounds of threads": rounds,
            "seconds until a killed one's place is taken": round(max(seconds), 3),
        },
    )


def race(num: int, lives: Nursery, folder: Path, number: int) -> dict[int, str]:
    """One round of processes; the contenders that were not told as promised."""
    gate = folder / f"gate-{number}"
    os.mkfifo(gate)
    job = plain(replace(JOB, folder=str(folder / "run")))
    started = [lives.start("faults.racing:contend", job=job, gate=str(gate)) for _ in range(num)]
    for _ in started:
        lives.next_event()
    opened = os.open(gate, os.O_WRONLY)  # all of them wait for somebody to open the other end
    told: dict[int, str] = {}
    while len(told) < num:
        if (event := lives.next_event(30)) is None:
            break
        told[event[0]] = event[1]
    os.close(opened)
    winners = [pid for pid, words in told.items() if words == "trains"]
    end(started)
    if len(winners) != 1:
        return dict.fromkeys(range(num), f"{len(winners)} trained: {told}")
    words = f"process {winners[0]} on {socket.gethostname()}"
    return {
        at: f"told {told.get(life.pid)!r}, not {words!r}"
        for at, life in enumerate(started)
        if life.pid != winners[0] and words not in told.get(life.pid, "")
    }


def end(started: list[Life]) -> None:
    """Kill those that still run."""
    for life in started:
        life.kill()
    for life in started:
        life.wait()


def take_over(lives: Nursery, folder: Path, draw: random.Random) -> float:
    """Kill the one who trains; seconds until the next one does."""
    job = plain(replace(JOB, folder=str(folder / "run")))
    first = lives.start("faults.racing:contend", job=job, gate=None)
    lives.await_event(first, "trains")
    time.sleep(draw.uniform(0, 0.02))
    first.kill()
    code = first.wait()
    assert code == -signal.SIGKILL, first.last
    began = time.perf_counter()
    second = lives.start("faults.racing:contend", job=job, gate=None)
    lives.await_event(second, "trains")
    seconds = time.perf_counter() - began
    end([second])
    return seconds


def race_of_threads(num: int, lives: Nursery, folder: Path) -> str | None:
    """Why a round of threads is not as promised, or None."""
    life = lives.start("faults.racing:contend_in_threads", folder=str(folder), num=num)
    return f"ended with {code}: {life.last}" if (code := life.wait()) else None


# ---- tasks


def contend(job: dict[str, Any], gate: str | None) -> None:
    """Wait at the gate, then train, or say why not."""
    if gate is not None:
        announce("waits")
        os.close(os.open(gate, os.O_RDONLY))

    def on_step(record: Any) -> None:
        if record.step == 0 or not told:
            told.append(True)
            announce("trains")
        time.sleep(0.01)

    told: list[bool] = []
    try:
        run_job(job_of(job), on_step)
    except RunBusyError as error:
        announce(" ".join(str(error).split()))


def contend_in_threads(folder: str, num: int) -> None:
    """All threads of this process at once; raises where that is not as promised."""
    barrier, told, over = threading.Barrier(num), [], threading.Event()
    job = replace(JOB, folder=folder, steps=1_000_000)
    parts = [make_parts(job) for _ in range(num)]

    def contend_in_thread(number: int) -> None:
        mine = parts[number]

        def on_step(record: Any) -> None:
            if record.step == 0:
                told.append("trains")
            if over.wait(0.01):
                mine.controls.stop()

        barrier.wait()
        try:
            train(mine.model, Source(0), mine.optimizer, **mine.arguments, on_step=on_step,
                  folder=folder)  # fmt: skip
        except RunBusyError as error:
            told.append(str(error))

    threads = [threading.Thread(target=contend_in_thread, args=(n,)) for n in range(num)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    while len(told) < num and time.monotonic() < end:
        time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join()
    words = f"process {os.getpid()} on {socket.gethostname()}"
    odd = [one for one in told if one != "trains" and words not in one]
    if told.count("trains") != 1 or len(told) != num or odd:
        raise AssertionError(f"{told.count('trains')} of {len(told)} trained; {odd[:3]}")
