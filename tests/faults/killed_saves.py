"""kill -9 inside a save: at a random microsecond, and before and after every call to the system.

Every tensor and every plain value of a checkpoint says which save it belongs to, so that a mixture
of two would show.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from faults.lives import Life, Nursery, announce, nursery
from faults.outcome import Outcome

from sbldlib.storage import checkpoints as storage
from sbldlib.storage.checkpoints import CheckpointError, check_checkpoint
from sbldlib.training.checkpoints import CHECKPOINTS, CheckpointConfig, CheckpointStore
from sbldlib.training.folder import RunFolder

FAULT = "kill -9 inside a save"
PROMISE = "the newest checkpoint is whole, of one step, and no older than the last one announced"
NUMBERS = 500_000  # in the larger tensors: a save takes tens of milliseconds
FEW = 1_000
SHARE_AT_CALLS = 0.5  # of the kills
EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")
CONFIG = CheckpointConfig(keep_last=2, keep_best="loss")


@dataclass
class State:
    """What the harness knows of one folder.

    Attributes:
        saved: (step, version) of the last save that was announced as done; version counts the saves
            of one step.
        begun: of the last one that was begun.
    """

    folder: Path
    saved: tuple[int, int] = (-1, 0)
    begun: tuple[int, int] = (-1, 0)


@dataclass
class Tally:
    """Kills, those that lost something, and where they came."""

    kills: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    left_over: int = 0
    rescued: int = 0


def run(num: int, *, seed: int, folder: Path) -> Outcome:
    """Kill `num` times: half at a random moment, half at a call."""
    began, draw, tally = time.perf_counter(), random.Random(seed), Tally()
    with nursery(folder) as lives:
        at_moments = State(folder / "moments")
        typical = typical_seconds(lives, folder / "timed")
        while tally.kills < num - int(num * SHARE_AT_CALLS):
            kill_at_a_moment(at_moments, typical, lives, draw, tally)
        gaps = all_gaps(lives, folder / "counted")
        wanted = num - tally.kills
        chosen = [*gaps * (wanted // len(gaps)), *draw.sample(gaps, wanted % len(gaps))]
        for gap in chosen:
            kill_at_a_call(State(folder / f"gap-{tally.kills}"), gap, lives, tally)
    return Outcome.of(
        FAULT,
        PROMISE,
        tally.failures,
        tally.kills,
        seconds=time.perf_counter() - began,
        figures={
            "at random moments": tally.kills - len(chosen),
            "at calls": len(chosen),
            "calls of a save": len(gaps),
            "milliseconds of a save": round(1000 * typical, 1),
            "saves left half done": tally.left_over,
            "saves done by the next process": tally.rescued,
        },
    )


# ---- kills


def kill_at_a_moment(
    state: State, typical: float, lives: Nursery, draw: random.Random, tally: Tally
) -> None:
    """Kill a process that saves again and again, so long after it began one of its saves."""
    state.folder.mkdir(parents=True, exist_ok=True)
    life = lives.start(
        "faults.killed_saves:save_on", folder=str(state.folder), first=state.begun[0] + 1
    )
    for _ in range(draw.randint(1, 4)):
        await_begin(life, lives, state)
    end = time.perf_counter() + draw.uniform(0, 1.1 * typical)
    while time.perf_counter() < end:  # a sleep is not as fine as that
        pass
    life.kill()
    ended(life, lives, state, tally)


def kill_at_a_call(state: State, gap: tuple[str, int], lives: Nursery, tally: Tally) -> None:
    """Let a process kill itself at its n-th call in a save."""
    state.folder.mkdir(parents=True)
    given = {"folder": str(state.folder), "kind": gap[0], "die_at": gap[1]}
    life = lives.start("faults.killed_saves:save_once", **given)
    ended(life, lives, state, tally, told=f"{gap[0]}, call {gap[1]}: ")


def await_begin(life: Life, lives: Nursery, state: State) -> None:
    """Read what the process announces up to the beginning of its next save."""
    while True:
        event = lives.next_event()
        if event is None:
            raise AssertionError(f"no save began: {life.last}")
        if event[0] == life.pid and note(event[1], state) == "begins":
            return


def note(words: str, state: State) -> str:
    """Take in an announcement; returns its first word."""
    word, *numbers = words.split()
    step, version = map(int, numbers)
    setattr(state, {"begins": "begun", "saved": "saved"}[word], (step, version))
    return word


def ended(life: Life, lives: Nursery, state: State, tally: Tally, told: str = "") -> None:
    """Judge what a killed process left."""
    code = life.wait()
    while (event := lives.next_event(0)) is not None:
        if event[0] == life.pid:
            note(event[1], state)
    was_killed = code == -signal.SIGKILL
    failure = judge(state, tally) if was_killed else f"ended with {code}: {life.last}"
    if failure is not None:
        tally.failures[tally.kills] = told + failure
    tally.kills += 1


# ---- judgement


def judge(state: State, tally: Tally) -> str | None:
    """Why what is there is not as promised, or None."""
    checkpoints = state.folder / CHECKPOINTS
    before = parts(checkpoints) if checkpoints.is_dir() else []
    RunFolder(state.folder, CONFIG).close()  # as the next process would
    store = CheckpointStore(checkpoints, CONFIG)
    if not store.steps:
        return None if state.saved[0] < 0 else f"no checkpoint, though {state.saved} was saved"
    tally.left_over += bool(before)
    tally.rescued += bool(before) and store.steps[-1] > state.saved[0]
    if left := parts(checkpoints):
        return f"{left[0]} is left over"
    for step in store.steps:
        try:
            check_checkpoint(store.path(step))
        except CheckpointError as error:
            return f"an older one is damaged: {error}"
    try:
        step, tree = store.load()
    except CheckpointError as error:
        return str(error)
    return belongs(step, tree, state)


def belongs(step: int, tree: dict[str, Any], state: State) -> str | None:
    """Why a loaded tree is not of one step, or of too old a one, or None."""
    said = {
        *(tuple(v) for v in (tree["saved"], tree["callbacks"][0])),
        *((int(t[0]), int(t[1])) for t in (*tree["model"].values(), *tree["optimizer"].values())),
        *((int(t[-2]), int(t[-1])) for t in tree["model"].values()),
    }
    if len(said) > 1:
        return f"a mixture of {sorted(said)}"
    (found,) = said
    if found[0] != step:
        return f"step {step} holds what was saved at {found[0]}"
    if not state.saved[0] <= found[0] <= state.begun[0]:
        return f"{found} is there, where {state.saved} was saved and {state.begun} begun"
    return None


def parts(folder: Path) -> list[str]:
    """Names of what is not whole."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


# ---- what happens in the process that is killed


def save_on(folder: str, first: int) -> None:
    """Save one step after the other, each second one twice, until killed."""
    store = CheckpointStore(Path(folder) / CHECKPOINTS, CONFIG)
    for step in range(first, 10_000_000):
        for version in range(1 + step % 2):
            announced_save(store, step, version, NUMBERS)
        store.note(step, {"loss": 1 / (1 + step // 3)})


def save_once(folder: str, kind: str, die_at: int) -> None:
    """Save some steps, then one more that does not survive its n-th call; n < 0 counts them."""
    store = CheckpointStore(Path(folder) / CHECKPOINTS, CONFIG)
    for step in range(3):
        announced_save(store, step, 0, FEW)
        store.note(step, {"loss": 1.0 + step})  # the first is the best, and stays
    step, version = {"a new step": (3, 0), "the same step": (2, 1)}[kind]
    with_calls(die_at, lambda: announced_save(store, step, version, FEW))


def announced_save(store: CheckpointStore, step: int, version: int, numbers: int) -> None:
    """Save one step, and tell that it begins and that it is done."""
    tree = made(step, version, numbers)
    announce(f"begins {step} {version}")
    store.save(step, tree)
    announce(f"saved {step} {version}")


def made(step: int, version: int, numbers: int) -> dict[str, Any]:
    """A tree whose every part says the step and which save of it."""
    mark = torch.tensor([float(step), float(version)])

    def marked(num: int) -> torch.Tensor:
        return mark.repeat(num // 2)

    return {
        "model": {"first": marked(numbers), "second": marked(numbers // 2)},
        "optimizer": {"moment": marked(numbers), "square": marked(numbers)},
        "saved": (step, version),
        "callbacks": [(step, version)],
    }


def with_calls(die_at: int, save: Callable[[], None]) -> None:
    """Do it, and die at the n-th call to the system; where n < 0, print how many there are."""
    calls = [0]

    def call() -> None:
        calls[0] += 1
        if calls[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **given: Any) -> Any:
            call()
            result = function(*arguments, **given)
            call()
            return result

        return called

    os.fsync, storage.save_file = around(os.fsync), around(storage.save_file)
    sys.addaudithook(lambda event, _: call() if event in EVENTS else None)
    save()
    print(f"calls: {calls[0]}", flush=True)


def all_gaps(lives: Nursery, folder: Path) -> list[tuple[str, int]]:
    """(kind of save, number of the call) of every call at which a save may die."""
    gaps = []
    for kind in ("a new step", "the same step"):
        where = folder / kind.replace(" ", "-")
        where.mkdir(parents=True)
        life = lives.start("faults.killed_saves:save_once", folder=str(where), kind=kind, die_at=-1)
        assert life.wait() == 0, life.last
        counted = re.fullmatch(r"calls: (\d+)", life.last)
        assert counted is not None, life.last
        gaps += [(kind, number) for number in range(1, int(counted[1]) + 1)]
    lives.pass_over_events()
    return gaps


def typical_seconds(lives: Nursery, folder: Path) -> float:
    """Between the beginning and the end of a save, the median of a few."""
    folder.mkdir(parents=True)
    life = lives.start("faults.killed_saves:save_on", folder=str(folder), first=0)
    state, seconds = State(folder), []
    while len(seconds) < 7:
        await_begin(life, lives, state)
        began = time.perf_counter()
        lives.next_event()
        seconds.append(time.perf_counter() - began)
    life.kill()
    life.wait()
    lives.pass_over_events()
    return sorted(seconds)[3]
