"""kill -9 at random moments of a run, also several times in one; the run must not show it."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from faults import judge
from faults.lives import Life, Nursery, nursery
from faults.outcome import Outcome
from faults.worker import METHODS, SAVINGS, Job, plain

FAULT = "kill -9 at a random moment of a run"
PROMISE = "called again, it ends with the same losses, evaluations, weights and optimizer state"
MAX_KILLS = 5  # in one run
FRESH_EVERY = 12  # lives of which one is a new interpreter, not a fork
STEPS = 32


@dataclass
class Tally:
    """Kills so far, and those whose run was not as undisturbed."""

    kills: int = 0
    runs: int = 0
    lives: int = 0
    fresh: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    undisturbed: dict[Job, tuple[dict, float]] = field(default_factory=dict)


def run(num: int, *, seed: int, folder: Path, perturb: bool = False) -> Outcome:
    """Kill `num` times."""
    began, draw, tally = time.perf_counter(), random.Random(seed), Tally()
    with nursery(folder) as lives:
        while tally.kills < num:
            job = replace(variant(tally.runs, draw), perturb=perturb)
            wanted = min(num - tally.kills, draw.randint(1, MAX_KILLS))
            kill_in_one_run(job, wanted, lives, draw, tally, folder / f"run-{tally.runs}")
            tally.runs += 1
    return Outcome.of(
        FAULT,
        PROMISE,
        tally.failures,
        tally.kills,
        seconds=time.perf_counter() - began,
        figures={
            "runs": tally.runs,
            "lives": tally.lives,
            "new interpreters": tally.fresh,
            "steps a run": STEPS,
        },
    )


def variant(number: int, draw: random.Random) -> Job:
    """Both scopes and both methods in turn, steered by a script or by a hand."""
    by_row, other_method, by_hand = number % 2 == 1, number // 2 % 2 == 1, number // 4 % 2 == 1
    steps = sorted(draw.sample(range(STEPS), 4))
    script = tuple((step, "saving", None, draw.choice(SAVINGS)) for step in steps)
    return Job(
        seed=number // 8,
        steps=STEPS,
        scope="per_sequence" if by_row else "per_batch",
        method=METHODS[other_method],
        every_steps=draw.choice((3, 4, 7)),
        keep_last=draw.choice((1, 2)),
        hand=0 if by_hand else None,
        script=() if by_hand else script,
    )


def kill_in_one_run(
    job: Job, wanted: int, lives: Nursery, draw: random.Random, tally: Tally, folder: Path
) -> None:
    """Start a run again and again until it completes, killing it the first times."""
    folder.mkdir(parents=True)
    _, seconds = undisturbed(replace(job, hand=None), lives, folder, tally)
    first, result = tally.kills, folder / "result.json"
    while True:
        hand = None if job.hand is None else draw.randrange(2**32)
        given = replace(job, folder=str(folder / "run"), write=str(result), hand=hand)
        life = start(given, lives, tally)
        if tally.kills - first < wanted:
            time.sleep(draw.uniform(0, seconds))
            life.kill()
        code = life.wait()
        if code != -9:
            break
        tally.kills += 1
    failure = f"ended with {code}: {life.last}" if code else None
    if failure is None:
        got = judge.read(result)
        expected = undisturbed(replaying(job, got), lives, folder, tally)[0]
        failure = judge.difference(got, expected)
    if failure is not None:
        told = f"{job.scope} {job.method}, {tally.kills - first} kills: {failure}"
        tally.failures |= dict.fromkeys(range(first, tally.kills), told)


def replaying(job: Job, got: dict) -> Job:
    """The run that no hand steers, with the changes that one made."""
    return (
        job if job.hand is None else replace(job, hand=None, script=tuple(map(tuple, got["log"])))
    )


def start(job: Job, lives: Nursery, tally: Tally) -> Life:
    """A life, mostly a fork; returns where its training begins."""
    tally.lives += 1
    is_fresh = tally.lives % FRESH_EVERY == 0
    tally.fresh += is_fresh
    begin = lives.start_fresh if is_fresh else lives.start
    life = begin("faults.worker:live", job=plain(job))
    lives.await_event(life, "begins")
    return life


def undisturbed(job: Job, lives: Nursery, folder: Path, tally: Tally) -> tuple[dict, float]:
    """What the job comes to where nothing happens to it, and the seconds that it takes."""
    if job not in tally.undisturbed:
        write = folder / f"undisturbed-{len(tally.undisturbed)}.json"
        life = lives.start("faults.worker:undisturbed", job=plain(replace(job, write=str(write))))
        lives.await_event(life, "begins")
        began = time.perf_counter()
        if code := life.wait():
            raise AssertionError(f"the undisturbed run ended with {code}: {life.last}")
        tally.undisturbed[job] = judge.read(write), time.perf_counter() - began
    return tally.undisturbed[job]
