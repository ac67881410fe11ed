"""What a notebook's kernel is at when it is interrupted; imported there by `interrupted`.

Each activity says that it began, and leaves what it works on in `HERE` for `complaints`.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from faults.judge import found, sha256_of
from faults.worker import SENSITIVITY, Job, Source, checkpoint_config, make_parts
from torch import nn

from sbldlib.dropping.skipping import attach
from sbldlib.live.session import LEAD
from sbldlib.losses import evaluate_loss
from sbldlib.methods import make_method
from sbldlib.methods.pilot import run_pilot
from sbldlib.panels.live import LiveTraining
from sbldlib.sensitivity import calculate_sensitivities
from sbldlib.storage.checkpoints import read_checkpoint
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.ledger import read_ledger
from sbldlib.training.loop import train

JOBS = {
    "training": Job(steps=200, every_steps=0, evaluate_every=0, keep_best=False),
    "evaluating": Job(steps=24, every_steps=0, evaluate_every=2),
    "saving": Job(steps=60, every_steps=1, evaluate_every=0, keep_best=False, width=64),
    "paused": Job(steps=40, every_steps=0, evaluate_every=0, keep_best=False),
    "panel": Job(steps=200, every_steps=0, evaluate_every=0, keep_best=False),
    "race": Job(steps=100, every_steps=0, evaluate_every=0, keep_best=False),
}
NUM_EVALUATED = 60  # batches: an evaluation takes longer than the steps between two
PILOT = TrainConfig(budget=Budget(steps=40))
PILOT_SEEDS = (0, 1)


@dataclass
class Here:
    """What the kernel works on.

    Attributes:
        made: digest of the model's weights when it began.
        may_change: whether what goes on is to change them.
    """

    model: nn.Module | None = None
    optimizer: torch.optim.Optimizer | None = None
    folder: Path | None = None
    made: str = ""
    may_change: bool = True
    panel: LiveTraining | None = None


HERE = Here()
THREADS: set[int | None] = set()


def ready() -> None:
    """Note what is there before anything began."""
    torch.set_num_threads(1)
    THREADS.update(thread.ident for thread in threading.enumerate())


def began(what: dict[str, Any]) -> None:
    """Say that it goes on from here."""
    put_here(**what)
    print("began", flush=True)


def put_here(**what: Any) -> None:
    """Note what is worked on, and how it was when it began."""
    HERE.__init__(**what)
    HERE.made = "" if HERE.model is None else weights_of(HERE.model)


def training(kind: str, folder: str | None, *, is_paused: bool = False) -> dict[str, Any]:
    """Train one of the jobs; what it came to."""
    job = replace(JOBS[kind], folder=folder)
    parts = make_parts(job)
    held_out = [Source(1000).batch(step) for step in range(NUM_EVALUATED)]
    if job.evaluate_every:
        measure: Callable[[nn.Module], float] = lambda model: evaluate_loss(model, held_out)  # noqa: E731
        parts.arguments["evaluations"] = {"validation_loss": measure}
    if is_paused:
        parts.controls.pause()
    where = None if folder is None else Path(folder)
    began({"model": parts.model, "optimizer": parts.optimizer, "folder": where})
    record = train(
        parts.model,
        Source(job.seed),
        parts.optimizer,
        **parts.arguments,
        folder=folder,
        checkpoints=checkpoint_config(job),
    )
    return found(record, parts.model, parts.optimizer)


def sensitivities() -> dict[str, Any]:
    """Measure every layer."""
    parts = make_parts(Job(width=16))
    batches = [Source(7, rows=16).batch(step) for step in range(120)]
    began({"model": parts.model, "optimizer": parts.optimizer, "may_change": False})
    return {"values": list(calculate_sensitivities(parts.model, batches=batches).values)}


def pilot(folder: str | None) -> dict[str, Any]:
    """Train pairs of runs."""
    began({})
    data = run_pilot(
        lambda seed: make_parts(Job(seed=seed)).model,
        Source,
        lambda model: torch.optim.AdamW(model.parameters(), lr=1e-2),
        lambda model, seed: make_method("uniform", model, saving=0.2, seed=seed),
        seeds=PILOT_SEEDS,
        config=PILOT,
        folder=folder,
        key="interrupted",
    )
    return {"baseline": data.baseline_losses, "dropping": data.dropping_losses}


def panel(folder: str | None, *, against: str | None = None) -> LiveTraining:
    """A panel that has not started; `training` knows what its run comes to."""
    parts = make_parts(replace(JOBS["panel" if against is None else "race"], folder=folder))
    made = LiveTraining(
        parts.model,
        Source(0),
        parts.optimizer,
        config=parts.arguments["config"],
        sensitivity_data=SENSITIVITY,
        method="uniform",
        saving=0.2,
        against=against,
        folder=folder,
    )
    where = None if folder is None else Path(folder) / (LEAD if against else "")
    put_here(model=parts.model, optimizer=parts.optimizer, folder=where, panel=made)
    return made


def panel_came_to() -> dict[str, Any]:
    """What the panel's run came to."""
    assert HERE.panel is not None and HERE.model is not None and HERE.optimizer is not None
    told = found(HERE.panel.record(), HERE.model, HERE.optimizer)
    told = {name: told[name] for name in ("losses", "layers", "weights", "optimizer", "inexact")}
    rivals = list(HERE.panel.records().values())[1:]
    return {**told, "rivals": [rival.losses for rival in rivals]}


def run_panel(folder: str | None, *, against: str | None = None) -> dict[str, Any]:
    """The panel's run to its end, with nobody at it."""
    panel(folder, against=against).start("inline")
    return panel_came_to()


def to_the_end(kind: str, folder: str | None) -> dict[str, Any]:
    """Do an activity without being interrupted; with no folder, what it should come to."""
    with contextlib.redirect_stdout(None):
        if kind in ("panel", "race"):
            return run_panel(folder, against=None if kind == "panel" else "none")
        if kind == "pilot":
            return pilot(folder)
        return sensitivities() if kind == "sensitivities" else training(kind, folder)


@cache
def expected(kind: str) -> dict[str, Any]:
    """What an activity comes to undisturbed."""
    return to_the_end(kind, None)


# ---- after an interrupt


def complaints() -> list[str]:
    """What is not as at a step boundary, in words."""
    return [*_of_threads(), *_of_signals(), *_of_model(), *_of_optimizer(), *_of_folder()]


def _of_threads() -> Iterator[str]:
    for thread in threading.enumerate():
        if thread.ident not in THREADS:
            thread.join(0.5)
            if thread.is_alive() and not _is_of_the_kernel(thread):
                yield f"the thread {thread.name!r} is still alive"


def _is_of_the_kernel(thread: threading.Thread) -> bool:
    own = ("ipykernel", "zmq", "tornado", "IPython", "asyncio", "Control", "Heartbeat", "IOPub")
    return any(word.lower() in f"{thread.name} {type(thread).__module__}".lower() for word in own)


def _of_signals() -> Iterator[str]:
    for number in (signal.SIGINT, signal.SIGTERM):
        if "Interrupts" in repr(signal.getsignal(number)):
            yield f"signal {number} is still asked for by the run"


def _of_model() -> Iterator[str]:
    if HERE.model is None:
        return
    skipping = attach(HERE.model)
    skipping.reset_calls()
    HERE.model.train()
    with torch.random.fork_rng(), torch.no_grad():
        HERE.model(Source(0).batch(0)[0])
    if not all(skipping.calls):
        yield f"blocks ran {skipping.calls} times: layers are still dropped"
    if not HERE.may_change and weights_of(HERE.model) != HERE.made:
        yield "the weights have changed"


def _of_optimizer() -> Iterator[str]:
    for group in HERE.optimizer.param_groups if HERE.optimizer is not None else ():
        if group["lr"] != 1e-2 or "initial_lr" in group:
            yield f"a learning rate is left at {group['lr']}, initial_lr {group.get('initial_lr')}"


def _of_folder() -> Iterator[str]:
    checkpoints = sorted((HERE.folder / "checkpoints").glob("step-*")) if HERE.folder else []
    if not checkpoints or HERE.folder is None or HERE.model is None:
        return
    tree = read_checkpoint(checkpoints[-1])
    steps = len(read_ledger(HERE.folder))
    if not steps == tree["progress"]["steps"] == int(checkpoints[-1].name[5:]):
        yield f"{steps} lines in the ledger, {checkpoints[-1].name} is the newest checkpoint"
    # One that came before anything was taken up finds the model as it was made.
    if weights_of(HERE.model) not in (sha256_of(tree["model"]), HERE.made):
        yield "the model is neither as it was saved nor as it was made"


def weights_of(model: nn.Module) -> str:
    """SHA-256 of a model's state."""
    return sha256_of(dict(model.state_dict()))
