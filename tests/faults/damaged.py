"""A file of a run's folder is cut, has a bit flipped, or holds garbage: found, or harmless.

Called again, the run either ends as if nothing had happened, or is refused in words that name the
file and offer a way on, which then leads to just the run that was offered.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from faults import judge
from faults.lives import Nursery, nursery
from faults.outcome import Outcome
from faults.payloads import Place
from faults.worker import Job, job_of, plain, run_job

from sbldlib.storage.checkpoints import CheckpointError
from sbldlib.storage.files import write_atomically

PROMISE = "found, named, and the way on that is offered is exact; or harmless"
BATCH = 25  # tries of one process
KILLED_AFTER = 18  # steps
JOB = Job(steps=24, keep_last=3, every_steps=4, evaluate_every=5)
OFFER = re.compile(r"resume=('always'|'never'|\d+)")


def truncate(content: bytes, draw: random.Random) -> bytes:
    """Cut off at a random place."""
    return content[: draw.randrange(len(content))]


def flip_bit(content: bytes, draw: random.Random) -> bytes:
    """One bit is another."""
    place = draw.randrange(len(content))
    flipped = content[place] ^ (1 << draw.randrange(8))
    return content[:place] + bytes([flipped]) + content[place + 1 :]


def put_garbage(content: bytes, draw: random.Random) -> bytes:
    """Random bytes in place of some, of all, or after the end."""
    garbage = draw.randbytes(draw.randint(1, 64))
    place = draw.choice((draw.randrange(len(content)), 0, len(content)))
    rest = b"" if place == 0 else content[place + len(garbage) :]
    return content[:place] + garbage + rest


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a file cut off": truncate,
    "a bit flipped in a file": flip_bit,
    "garbage in a file": put_garbage,
}


def run(num: int, *, seed: int, folder: Path) -> tuple[Outcome, ...]:
    """`num` tries of each kind of damage."""
    with nursery(folder) as lives:
        bases = {
            "killed": make_base(lives, folder / "killed", seed, kill=True),
            "completed": make_base(lives, folder / "completed", seed, kill=False),
        }
        return tuple(one_kind(fault, num, seed, bases, lives, folder) for fault in DAMAGES)


def one_kind(fault: str, num: int, seed: int, bases: dict, lives: Nursery, folder: Path) -> Outcome:
    """All tries of one kind, some in each process."""
    began, tried = time.perf_counter(), []
    for first in range(0, num, BATCH):
        results = folder / f"{fault}-{first}.json"
        life = lives.start(
            "faults.damaged:tries",
            fault=fault,
            seeds=[f"{seed}-{fault}-{i}" for i in range(first, min(num, first + BATCH))],
            bases={name: str(path) for name, path in bases.items()},
            results=str(results),
        )
        if code := life.wait():
            raise AssertionError(f"the tries ended with {code}: {life.last}")
        tried += judge.read(results)
    endings = Counter(ending for ending, _, _ in tried)
    return Outcome.of(
        fault,
        PROMISE,
        {i: f"{what}: {failure}" for i, (_, what, failure) in enumerate(tried) if failure},
        len(tried),
        seconds=time.perf_counter() - began,
        figures={**endings, "files": dict(Counter(re.sub(r"\d+", "N", t[1]) for t in tried))},
    )


def make_base(lives: Nursery, folder: Path, seed: int, *, kill: bool) -> Path:
    """A folder of a run that a hand steered, also after its last checkpoint."""
    for hand in range(seed, seed + 1000):
        path = folder / f"{hand}"
        job = replace(JOB, hand=hand, folder=str(path / "run"), write=str(path / "result.json"))
        path.mkdir(parents=True)
        life = lives.start("faults.damaged:base", job=plain(job), kill=kill)
        code = life.wait()
        if code != (-signal.SIGKILL if kill else 0):
            raise AssertionError(f"the run to be damaged ended with {code}: {life.last}")
        logged = [json.loads(x) for x in (path / "run" / "controls.jsonl").read_text().splitlines()]
        saved = max(int(p.name[5:]) for p in (path / "run" / "checkpoints").glob("step-*"))
        if not kill or any(saved <= change["step"] < KILLED_AFTER for change in logged):
            return path / "run"
        shutil.rmtree(path)
    raise AssertionError("no hand changed anything after the last checkpoint")


# ---- tasks


def base(job: dict[str, Any], kill: bool) -> None:
    """Train, and die in the middle where that is asked."""

    def on_step(record: Any) -> None:
        if kill and record.step + 1 == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)

    run_job(job_of(job), on_step)


def tries(
    fault: str, seeds: list[str], bases: dict[str, str], results: str, resign: bool = False
) -> None:
    """Damage, call again, and judge, for each seed.

    Args:
        resign: whether the manifest is made to agree, so that nothing but the result can tell.
    """
    tried = []
    for seed in seeds:
        draw = random.Random(seed)
        base_folder = Path(bases[draw.choice(sorted(bases))])
        folder = Path(f"{results}-{len(tried)}")
        tried.append(one_try(fault, draw, base_folder, folder, resign=resign))
    write_atomically(results, json.dumps(tried).encode())


def one_try(
    fault: str, draw: random.Random, base_folder: Path, folder: Path, *, resign: bool
) -> tuple[str, str, str | None]:
    """How it ended, what was damaged, and why that is not as promised, or None."""
    shutil.copytree(base_folder, folder)
    path = newest_model(folder) if resign else a_file_of(folder, draw)
    content = path.read_bytes()
    damaged = content
    while damaged == content:
        damaged = DAMAGES[fault](content, draw)
    path.write_bytes(damaged)
    if resign:
        Place(folder, folder, folder).sign()
    ending, failure = judged(path, folder, base_folder)
    shutil.rmtree(folder)
    return ending, f"{path.relative_to(folder)} of {base_folder.parent.parent.name}", failure


def a_file_of(folder: Path, draw: random.Random) -> Path:
    """One with something in it, each kind as likely as another."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    kind = draw.choice(sorted({path.name for path in files}))
    return draw.choice([path for path in files if path.name == kind])


def newest_model(folder: Path) -> Path:
    """The weights from which the run goes on."""
    return Place(folder, folder, folder).checkpoint / "model.safetensors"


def judged(path: Path, folder: Path, base_folder: Path) -> tuple[str, str | None]:
    """Call again; where that is refused, take the way on that is offered."""
    job, is_ledger = replace(JOB, folder=str(folder)), path.name == "ledger.jsonl"
    try:
        got = run_job(job)
        return "ended as undisturbed", against(got, folder, base_folder, "'auto'", is_ledger)
    except CheckpointError as error:
        words = str(error)
    except Exception as error:
        return "another error", f"{type(error).__name__}: {error}"
    if path.name not in words:
        return "refused", f"the file is not named: {words}"
    if (offered := OFFER.search(words)) is None:
        return "refused", f"no way on is offered: {words}"
    resume = offered[1]
    if resume == "'never'":
        return "refused", f"a checkpoint is whole, and is not offered: {words}"
    job = replace(job, resume=int(resume) if resume.isdigit() else resume.strip("'"))
    ending = f"refused, then resume={resume if not resume.isdigit() else 'step'}"
    try:
        failure = against(run_job(job), folder, base_folder, resume, is_ledger)
    except Exception as error:
        return ending, f"{words}; then {type(error).__name__}: {error}"
    return ending, failure and f"{words}; then {failure}"


def against(
    got: dict[str, Any], folder: Path, base_folder: Path, resume: str, is_ledger: bool
) -> str | None:
    """What is not as in the run that was to come of it."""
    log = changes(base_folder)
    if resume == "'never'":
        log = ()
    elif resume.isdigit():  # what came after that checkpoint is left out
        log = tuple(change for change in log if change[0] < int(resume))
    best = judge.read(folder / "checkpoints" / "best.json")
    expected, expected_best = expected_of(log, base_folder)
    failure = judge.difference(got, expected, may_lack_steps=is_ledger and resume == "'always'")
    if failure is not None:
        return failure
    return None if best == expected_best else f"best {best} for {expected_best}"


@cache
def changes(base_folder: Path) -> tuple:
    """Of the hand in all of the run."""
    lines = (base_folder / "controls.jsonl").read_text().splitlines()
    return tuple((x["step"], x["name"], x["old"], x["new"]) for x in map(json.loads, lines))


@cache
def expected_of(log: tuple, base_folder: Path) -> tuple[dict, dict]:
    """What the run with these changes comes to undisturbed, and which checkpoint is its best."""
    folder = base_folder.with_name(f"expected-{os.getpid()}-{len(log)}")
    got = json.loads(json.dumps(run_job(replace(JOB, script=log, folder=str(folder)))))
    best = judge.read(folder / "checkpoints" / "best.json")
    shutil.rmtree(folder)
    return got, best
