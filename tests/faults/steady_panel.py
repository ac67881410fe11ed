"""A long run below a live panel: neither memory, nor open files, nor threads grow."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from pathlib import Path
from typing import Any

from faults.lives import num_threads
from faults.outcome import Outcome
from faults.steady import WARM_UP, looked_after, megabytes, num_files
from faults.worker import SENSITIVITY, Job, Source, make_parts

from sbldlib.panels.live import LiveTraining
from sbldlib.storage.files import write_atomically
from sbldlib.training.checkpoints import CheckpointConfig
from sbldlib.training.config import Budget, TrainConfig

FAULT = "many steps in a folder, below a live panel"
PROMISE = "memory at the end within 2 % of that after warming up, as many files and threads open"
LOOK_SECONDS, PAUSE_SECONDS = 0.02, 0.5


def run(num: int, *, seed: int, folder: Path) -> Outcome:
    """`num` steps; one try."""
    began, result = time.perf_counter(), folder / "result.json"
    given = {"steps": num, "seed": seed, "write": str(result)}
    failure, told = looked_after("faults.steady_panel:watched", folder, result, **given)
    return Outcome.of(
        FAULT,
        PROMISE,
        {0: failure} if failure else {},
        1,
        seconds=time.perf_counter() - began,
        figures={"steps": num, **told},
    )


def watched(steps: int, seed: int, write: str) -> None:
    """Train in the panel's thread, its screen renewed, and look at the process now and then."""
    asyncio.run(_watched(steps, seed, write))


async def _watched(steps: int, seed: int, write: str) -> None:
    parts = make_parts(Job(seed=seed))
    config = TrainConfig(budget=Budget(steps=steps))
    panel = LiveTraining(
        parts.model,
        Source(seed),
        parts.optimizer,
        config=config,
        sensitivity_data=SENSITIVITY,
        saving=0.2,
        folder=Path(write).parent / "run",
        checkpoints=CheckpointConfig(every_steps=max(10, steps // 100)),
    ).start("thread")
    looks: dict[str, tuple[float, int, int]] = {}
    began = time.perf_counter()
    for share, when in ((WARM_UP, "after warming up"), (0.95, "at the end")):
        while panel.session.lead.num_steps < share * steps:
            panel.board.saving.value = (0.1, 0.2)[panel.session.lead.num_steps // 500 % 2]
            await asyncio.sleep(LOOK_SECONDS)
        panel.session.pause()  # or a checkpoint that is just being written is one file more
        await asyncio.sleep(PAUSE_SECONDS)
        gc.collect()
        looks[when] = (megabytes(), num_files(), num_threads())
        panel.session.resume()
    await panel.wait()
    told: dict[str, Any] = {"steps a second": round(steps / (time.perf_counter() - began))}
    for when, (memory, files, threads) in looks.items():
        told |= {f"MB {when}": round(memory, 1), f"files {when}": files, f"threads {when}": threads}
    write_atomically(Path(write), json.dumps(told).encode())
