"""A long run in a folder: neither memory, nor open files, nor threads grow."""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from faults import judge
from faults.lives import num_threads, nursery
from faults.outcome import Outcome
from faults.worker import Job, job_of, plain, run_job

from sbldlib.storage.files import write_atomically

FAULT = "many steps in a folder"
PROMISE = "memory at the end within 2 % of that after warming up, as many files and threads open"
MOST_GROWTH = 0.02
WARM_UP = 0.15  # of the steps
LOOKS = 20  # at the memory, over the run


def run(num: int, *, seed: int, folder: Path) -> Outcome:
    """`num` steps; one try."""
    began, result = time.perf_counter(), folder / "result.json"
    job = Job(
        seed=seed,
        steps=num,
        folder=str(folder / "run"),
        write=str(result),
        evaluate_every=max(1, num // 40),
        every_steps=max(10, num // 100),
        keep_best=False,
        script=tuple((at, "saving", None, (0.1, 0.2)[at // 500 % 2]) for at in range(0, num, 500)),
    )
    failure, told = looked_after("faults.steady:watched", folder, result, job=plain(job))
    return Outcome.of(
        FAULT,
        PROMISE,
        {0: failure} if failure else {},
        1,
        seconds=time.perf_counter() - began,
        figures={"steps": num, **told},
    )


def looked_after(
    task: str, folder: Path, result: Path, **given: Any
) -> tuple[str | None, dict[str, Any]]:
    """Let a task run to its end in a process of its own: why it is not steady, and what it told."""
    with nursery(folder) as lives:
        life = lives.start(task, **given)
        code = life.wait(seconds=3600)
    if code:
        return f"ended with {code}: {life.last}", {}
    told = judge.read(result)
    return why_not_steady(told), told


def why_not_steady(told: dict[str, Any]) -> str | None:
    """What grew, or None."""
    first, last = told["MB after warming up"], told["MB at the end"]
    if last > (1 + MOST_GROWTH) * first:
        return f"{first:.1f} MB became {last:.1f} MB"
    for what in ("files", "threads"):
        if told[f"{what} after warming up"] != told[f"{what} at the end"]:
            return f"{told[f'{what} after warming up']} {what} became {told[f'{what} at the end']}"
    return None


# ---- tasks


def watched(job: dict[str, Any], leak_bytes: int = 0) -> None:
    """Train, and look at the process now and then; may lose memory at each step on purpose."""
    looks: list[tuple[float, int, int]] = []
    leaked: list[bytes] = []
    every = max(1, job["steps"] // LOOKS)
    began = time.perf_counter()

    def on_step(record: Any) -> None:
        leaked.append(b"x" * leak_bytes)
        if (record.step + 1) % every == 0:
            gc.collect()
            looks.append((megabytes(), num_files(), num_threads()))

    run_job(replace(job_of(job), write=None), on_step)
    seconds = time.perf_counter() - began
    warm, last = looks[int(WARM_UP * len(looks))], looks[-1]
    told: dict[str, Any] = {"steps a second": round(job["steps"] / seconds)}
    for at, when in ((warm, "after warming up"), (last, "at the end")):
        told |= {f"MB {when}": round(at[0], 1), f"files {when}": at[1], f"threads {when}": at[2]}
    write_atomically(job["write"], json.dumps(told).encode())


def megabytes() -> float:
    """Of memory in use by this process; where the system does not tell, the most there ever was."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3


def num_files() -> int:
    """Open in this process, as far as the system tells."""
    for name in ("/proc/self/fd", "/dev/fd"):
        if Path(name).is_dir():
            return len(list(Path(name).iterdir()))
    return 0
