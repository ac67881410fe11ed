"""Events of a slider, sent without a rest while a live panel trains, and what became of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sbldlib.training.controls import LogEntry

from .common import Finding, Rounds
from .timing import ratios, spread

if TYPE_CHECKING:
    from sbldlib.panels import LiveTraining

BATCH_SECONDS = 0.01  # between two batches of events
MOST_AT_ONCE = 50  # events in a batch
STEPS_AFTER = 10  # of the run, in which the last event comes into force
PATIENCE_SECONDS = 120.0  # for a step
# So small that all but a few layers in a thousand run, while each event asks for another value.
SAVINGS = [round(0.0002 * number, 4) for number in range(1, 11)]


async def send_events(
    panel: LiveTraining, savings: Sequence[float], per_second: int, first_step: int, end: int
) -> dict[str, list[float]]:
    """Move the panel's slider so often a second from one step to another, and count.

    An event is what a kernel makes of a slider's message: the widget takes the state.

    Args:
        savings: the asked saving in force at each step so far; it grows.
        per_second: events; where the loop cannot keep up, fewer are sent, and counted.

    Raises:
        TimeoutError: the run takes no step any more.
    """

    async def reach(step: int) -> None:
        patience = time.monotonic() + PATIENCE_SECONDS
        while len(savings) < step:
            panel.check()
            if time.monotonic() > patience:
                raise TimeoutError(f"step {step} was not reached within {PATIENCE_SECONDS:g} s")
            await asyncio.sleep(BATCH_SECONDS)

    await reach(first_step)
    asked_before, sent, owed = panel.controls.num_asked, 0, 0.0
    last, in_progress = savings[-1], len(savings)
    began = before = time.perf_counter()
    while len(savings) < end:
        panel.check()
        now = time.perf_counter()
        owed, before = min(owed + (now - before) * per_second, MOST_AT_ONCE), now
        for _ in range(int(owed)):
            sent, owed = sent + 1, owed - 1
            last = SAVINGS[sent % len(SAVINGS)]
            panel.board.saving.set_state({"value": last})
        in_progress = len(savings)
        await asyncio.sleep(BATCH_SECONDS)
    seconds = time.perf_counter() - began
    await reach(in_progress + 2)
    return {
        "events sent": [float(sent)],
        "events asked": [float(panel.controls.num_asked - asked_before)],
        "seconds of events": [seconds],
        "last in force": [100.0 * (savings[in_progress + 1] == last)],
    }


def as_logged(savings: Sequence[float], log: Iterable[LogEntry]) -> float:
    """Share of the steps at which the asked saving was what the log says, in percent.

    Args:
        savings: in force at each step; the first one before any change.
    """
    changes = {step: (old, new) for step, name, old, new in log if name == "saving"}
    right, saving = 0, savings[0]
    for step, seen in enumerate(savings):
        old, new = changes.get(step, (saving, saving))
        right += seen == new and (old == saving or step == 0)
        saving = new
    return 100 * right / len(savings)


def per_second(rounds: Rounds) -> float:
    """Events a second that were sent."""
    return spread(ratios(rounds["events sent"], rounds["seconds of events"])).median


def findings(rounds: Rounds) -> tuple[Finding, ...]:
    """That no event was lost, and that they came into force between steps."""
    seconds = spread(rounds["seconds of events"]).median
    arrived = [100 * ratio for ratio in ratios(rounds["events asked"], rounds["events sent"])]
    claims = {
        f"events of {seconds:.0f} s that were asked of the controls, of those sent": arrived,
        "runs in which the last event was in force at the next step": rounds["last in force"],
        "steps at which the value was what the log says, in these runs": rounds["steps as logged"],
    }
    return tuple(
        Finding(claim=claim, unit="%", spread=spread(shares), at_least=100.0)
        for claim, shares in claims.items()
    )
