"""A kernel is interrupted at random moments of a live panel, with one run or two that race."""

from __future__ import annotations

import random
import time
from pathlib import Path

from faults.interrupted import Tally, interrupt_kernel
from faults.outcome import Outcome

FAULT = "a kernel's interrupt at a random moment of a live panel"
PROMISE = "the kernel answers, every arm ends at a step boundary; carried on, as undisturbed"
PANELS = ("panel", "race")


def run(num: int, *, seed: int, folder: Path) -> Outcome:
    """`num` interrupts, half of them of a race."""
    began, tally = time.perf_counter(), Tally()
    interrupt_kernel(num, PANELS, folder, random.Random(seed), tally)
    return Outcome.of(
        FAULT,
        PROMISE,
        tally.failures,
        tally.tried,
        seconds=time.perf_counter() - began,
        figures=dict(tally.met),
    )
