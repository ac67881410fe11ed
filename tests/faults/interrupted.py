"""A kernel is interrupted at random moments of all that takes long; then Ctrl-C and SIGTERM.

After each interrupt the kernel answers, the model is at a step boundary, and no thread is left;
every few times the work is carried on to its end.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty
from typing import Any

from faults import judge
from faults.lives import ONE_THREAD, ROOT, TESTS, Nursery, nursery
from faults.outcome import Outcome
from faults.worker import Job, plain
from jupyter_client import BlockingKernelClient, KernelManager

FAULT = "a kernel's interrupt, Ctrl-C or SIGTERM at a random moment"
PROMISE = "ends at a step boundary, all restored; the kernel answers; carried on, as undisturbed"
ACTIVITIES = {  # code, and within how many milliseconds of its beginning it is interrupted
    "training": ('I.training("training", folder)', 400),
    "evaluating": ('I.training("evaluating", folder)', 400),
    "saving": ('I.training("saving", folder)', 400),
    "paused": ('I.training("paused", folder, is_paused=True)', 200),
    "sensitivities": ("I.sensitivities()", 400),
    "pilot": ("I.pilot(folder)", 400),
    "panel": ('I.panel(folder).start("thread"); print("began"); await I.HERE.panel.wait()', 400),
    "race": (
        'I.panel(folder, against="none").start("thread"); print("began"); '
        "await I.HERE.panel.wait()",
        400,
    ),
}
INTERRUPTED = ("KeyboardInterrupt", "TrainingInterrupted", "CancelledError")
CARRY_ON_EVERY = 5
PATIENCE_SECONDS = 90
SIGNALS_EVERY = 40  # interrupts of kernels for one Ctrl-C and one SIGTERM
ENDINGS = {signal.SIGINT: (-signal.SIGINT, 130), signal.SIGTERM: (143,)}
JOB = Job(steps=400, every_steps=0, evaluate_every=0, keep_best=False)


@dataclass
class Kernel:
    """A kernel and our line to it."""

    manager: KernelManager
    client: BlockingKernelClient

    def start(self, code: str) -> str:
        """Begin to execute; returns the message's number once the code says that it began."""
        message = self.client.execute(code, store_history=False, stop_on_error=False)
        while True:
            told = self.client.get_iopub_msg(timeout=PATIENCE_SECONDS)
            if told["parent_header"].get("msg_id") != message:
                continue
            if told["msg_type"] == "stream" and "began" in told["content"]["text"]:
                return message
            if told["msg_type"] == "error":
                raise AssertionError(f"it did not begin: {told['content']['evalue']}")

    def reply(self, message: str) -> dict[str, Any]:
        """The answer to what was executed."""
        while True:
            answer = self.client.get_shell_msg(timeout=PATIENCE_SECONDS)
            if answer["parent_header"]["msg_id"] == message:
                return answer["content"]

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the kernel, as JSON."""
        asked = {"value": f"__import__('json').dumps({expression})"}
        message = self.client.execute(
            "", user_expressions=asked, store_history=False, stop_on_error=False
        )
        reply = self.reply(message)
        value = reply["user_expressions"]["value"] if reply["status"] == "ok" else reply
        if value["status"] != "ok":
            raise AssertionError(f"{expression}: {value['ename']}: {value['evalue']}")
        return json.loads(ast.literal_eval(value["data"]["text/plain"]))


@dataclass
class Tally:
    """Interrupts so far, by what they met, and those after which something was wrong."""

    tried: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    met: Counter = field(default_factory=Counter)


def run(num: int, *, seed: int, folder: Path) -> Outcome:
    """`num` interrupts of a kernel; and for each 40 of them, one Ctrl-C and one SIGTERM."""
    began, draw, tally = time.perf_counter(), random.Random(seed), Tally()
    interrupt_kernel(num, tuple(ACTIVITIES), folder, draw, tally)
    with nursery(folder) as lives:
        for number in range(num // SIGNALS_EVERY):
            for sign in ENDINGS:
                end_a_process(lives, sign, folder / f"{sign.name}-{number}", draw, tally)
    return Outcome.of(
        FAULT,
        PROMISE,
        tally.failures,
        tally.tried,
        seconds=time.perf_counter() - began,
        figures=dict(tally.met),
    )


def interrupt_kernel(
    num: int, kinds: tuple[str, ...], folder: Path, draw: random.Random, tally: Tally
) -> None:
    """`num` interrupts of one kernel, over these activities in a drawn order."""
    folder.mkdir(parents=True, exist_ok=True)
    with running_kernel() as kernel:
        order = [kinds[n % len(kinds)] for n in range(num)]
        draw.shuffle(order)
        pieces = {kind: Piece(kind, folder) for kind in kinds}
        for kind in order:
            while not interrupt(kernel, pieces[kind], draw, tally):
                tally.met["too late, and not counted"] += 1


@contextlib.contextmanager
def running_kernel() -> Iterator[Kernel]:
    """A kernel of this Python that has imported everything, and is shut down afterwards."""
    manager = KernelManager(kernel_name="python3")
    path = os.pathsep.join([str(TESTS), str(ROOT)])
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": path, "MPLBACKEND": "Agg"}
    with open(os.devnull, "wb") as nothing:
        manager.start_kernel(env=environment, stdout=nothing, stderr=nothing)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE_SECONDS)
        kernel = Kernel(manager, client)
        kernel.reply(client.execute("from faults import interruptible as I; I.ready()"))
        kernel.evaluate("I.expected('training') is not None")
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@dataclass
class Piece:
    """One piece of work of a kind, interrupted again and again; then the next of its kind.

    Attributes:
        number: of the piece.
        turn: how often it was interrupted.
    """

    kind: str
    above: Path
    number: int = 0
    turn: int = 0

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.above / f"{self.kind}-{self.number}"

    def next(self) -> None:
        """Begin another one."""
        self.number, self.turn = self.number + 1, 0


def interrupt(kernel: Kernel, piece: Piece, draw: random.Random, tally: Tally) -> bool:
    """Interrupt the kernel once, and judge; whether it came before the work was done."""
    code, milliseconds = ACTIVITIES[piece.kind]
    came_in_time = True
    try:
        message = kernel.start(f"folder = {str(piece.folder)!r}; {code}")
        time.sleep(draw.uniform(0, milliseconds) / 1000)
        kernel.manager.interrupt_kernel()
        reply = kernel.reply(message)
        came_in_time = reply["status"] != "ok"
        failure = why_wrong(kernel, reply)
        piece.turn += 1
        if failure is None and (piece.turn == CARRY_ON_EVERY or not came_in_time):
            tally.met["carried on to the end"] += 1
            failure = carry_on(kernel, piece)
            piece.next()
    except (AssertionError, Empty) as error:
        failure = f"{type(error).__name__}: {error}"
    if came_in_time or failure is not None:
        tally.met[piece.kind] += 1
        tally.tried += 1
        if failure is not None:
            tally.failures[tally.tried - 1] = f"{piece.kind}: {failure}"
            piece.next()
    return came_in_time or failure is not None


def why_wrong(kernel: Kernel, reply: dict[str, Any]) -> str | None:
    """What is not as promised after an interrupt, or None; one too late finds the work done."""
    if reply["status"] != "ok" and not reply["ename"].endswith(INTERRUPTED):
        return f"{reply['ename']}: {reply['evalue']}"
    if kernel.evaluate("1+1") != 2:
        return "the kernel cannot add"
    return "; ".join(kernel.evaluate("I.complaints()")) or None


def carry_on(kernel: Kernel, piece: Piece) -> str | None:
    """Why the work does not come to what it should, or None."""
    got = kernel.evaluate(f"I.to_the_end({piece.kind!r}, {str(piece.folder)!r})")
    expected = kernel.evaluate(f"I.expected({piece.kind!r})")
    if "steps" in got:
        return judge.difference(got, expected)
    odd = [name for name in expected if got[name] != expected[name]]
    return f"carried on, it has other {', '.join(odd)}" if odd else None


def end_a_process(
    lives: Nursery, sign: signal.Signals, folder: Path, draw: random.Random, tally: Tally
) -> None:
    """Send a signal to a process that trains; then call again."""
    folder.mkdir()
    job = replace(JOB, folder=str(folder / "run"), write=str(folder / "result.json"))
    life = lives.start_fresh("faults.worker:live", job=plain(job))
    lives.await_event(life, "trains")
    time.sleep(draw.uniform(0, 1))
    life.kill(sign)
    code, failure = life.wait(), None
    tally.met[sign.name] += 1
    if code == 0:
        tally.met[f"{sign.name}, too late"] += 1
    elif code not in ENDINGS[sign]:
        failure = f"exit code {code}, not {ENDINGS[sign][-1]}: {life.last}"
    again = lives.start("faults.worker:live", job=plain(job))
    write = str(folder / "undisturbed.json")
    undisturbed = lives.start("faults.worker:undisturbed", job=plain(replace(job, write=write)))
    for one in (again, undisturbed):
        if (ended := one.wait()) and failure is None:
            failure = f"called again, it ended with {ended}: {one.last}"
    if failure is None:
        failure = judge.difference(judge.read(folder / "result.json"), judge.read(write))
    if failure is not None:
        tally.failures[tally.tried] = f"{sign.name}: {failure}"
    tally.tried += 1
