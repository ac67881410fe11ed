"""Folders made to do harm: nothing in them runs, nothing outside is touched, nothing hangs."""

from __future__ import annotations

import json
import random
import resource
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from faults import judge
from faults.damaged import JOB, make_base
from faults.lives import Nursery, StuckError, nursery
from faults.outcome import Outcome
from faults.payloads import PAYLOADS, Place
from faults.worker import job_of, plain, run_job

from sbldlib.storage.checkpoints import CheckpointError
from sbldlib.storage.files import write_atomically
from sbldlib.storage.lock import RunBusyError
from sbldlib.training.finite import NotFiniteError

FAULT = "a run's folder made to do harm, its manifest in order"
PROMISE = "refused in words, or harmless: no code runs, nothing outside is touched, no hanging"
LIMIT_SECONDS = 20.0
MORE_BYTES = 2**31  # of addresses, above what the process has
MORE_MEGABYTES = 400  # of memory in use
NONSENSE: tuple[Any, ...] = (
    None, True, -1, 10**40, 0.5, {"$float": "nan"}, {"$float": "inf"}, "", "x" * 1000, "../..", [],
    [[]], {}, {"$tuple": []}, {"$items": [[1, 2]]}, {"$tensor": "model.head.weight"},
    {"a": {"b": 1}},
)  # fmt: skip


def run(num: int, *, seed: int, folder: Path) -> Outcome:
    """Every payload, or so many of them; what is more than there are is nonsense in the state."""
    began, draw, failures, endings = time.perf_counter(), random.Random(seed), {}, Counter()
    names = list(PAYLOADS) if num >= len(PAYLOADS) else draw.sample(list(PAYLOADS), num)
    names += [f"nonsense {seed}-{number}" for number in range(num - len(names))]
    with nursery(folder) as lives:
        base = make_base(lives, folder / "base", seed, kill=True)
        for number, name in enumerate(names):
            ending, failure = one_try(name, base, folder / f"try-{number}", lives)
            endings[ending] += 1
            if failure is not None:
                failures[number] = f"{name}: {failure}"
            shutil.rmtree(folder / f"try-{number}")
    return Outcome.of(
        FAULT,
        PROMISE,
        failures,
        len(names),
        seconds=time.perf_counter() - began,
        figures={**endings, "kinds": len(PAYLOADS)},
    )


def one_try(name: str, base: Path, folder: Path, lives: Nursery) -> tuple[str, str | None]:
    """How a payload ended, and why that is not as promised, or None."""
    outside, canary = folder / "outside", folder / "canary"
    outside.mkdir(parents=True)
    shutil.copytree(base, folder / "run")
    victim = outside / "victim"
    victim.write_text("precious")
    put(name, Place(folder / "run", victim, canary))
    before = inventory(outside)
    job = replace(JOB, folder=str(folder / "run"))
    result = folder / "result.json"
    life = lives.start("faults.hostile:open_it", job=plain(job), result=str(result))
    try:
        code = life.wait(LIMIT_SECONDS)
    except StuckError:
        return "hung", "it hangs"
    if canary.exists():
        return "ran", "code in it ran"
    if inventory(outside) != before:
        return "touched", f"outside there was {before}, and is {inventory(outside)}"
    if code:
        return "ended", f"ended with {code}: {life.last}"
    told = judge.read(result)
    if told["megabytes"] > MORE_MEGABYTES:
        return "large", f"took {told['megabytes']} MB"
    return told["ending"], told["failure"]


def put(name: str, place: Place) -> None:
    """A payload by its name, or a state with nonsense in it."""
    if name in PAYLOADS:
        PAYLOADS[name](place)
    else:
        place.edit_state(lambda state: put_nonsense(state, random.Random(name)))


def put_nonsense(state: Any, draw: random.Random) -> None:
    """One value somewhere in a state becomes something else, or is gone."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            if isinstance(node[key], (dict, list)):
                walk(node[key])
            places.append((node, key))

    walk(state)
    node, key = draw.choice(places)
    if draw.random() < 0.2:
        del node[key]
    else:
        node[key] = draw.choice(NONSENSE)


def inventory(folder: Path) -> dict[str, str | None]:
    """What is in a folder."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.name == "victim" else None
        for path in sorted(folder.rglob("*"))
    }


def open_it(job: dict[str, Any], result: str) -> None:
    """Call `train` on such a folder, with little memory."""
    if (statm := Path("/proc/self/statm")).exists():
        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MORE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ending, failure = "trained on", None
    try:
        run_job(job_of(job))
    except (CheckpointError, NotFiniteError, RunBusyError) as error:
        ending, failure = "refused", _unprintable(str(error))
    except Exception as error:
        ending, failure = "another error", f"{type(error).__name__}: {error}"
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    told = {"ending": ending, "failure": failure, "megabytes": used}
    write_atomically(result, json.dumps(told).encode())


def _unprintable(words: str) -> str | None:
    odd = [letter for letter in words if not letter.isprintable()]
    return f"{odd} in {words!r}" if odd else None
