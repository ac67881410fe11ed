"""A live session once more: the same seed and the same log of changes, step by step."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..environment import environment
from ..errors import check_path, shown
from ..pretraining.config import PretrainConfig
from ..records import RunRecord, StepRecord
from .recipe import recipe_parts
from .record import LIVE, LiveRecord
from .session import LiveSession

# What the same bits come to; seconds are the clock's.
COMPARED = (
    "loss_nats",
    "learning_rate",
    "gradient_norm",
    "keep_probability",
    "layers_run",
    "forward_share",
    "backward_share",
    "flops",
    "evaluations",
    "controls",
)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a replay came to.

    Attributes:
        num_steps: compared, of all arms.
        difference: the first one, in words; None where every step is equal to the last bit.
        elsewhere: what of the environment is another now: name -> (then, now).
    """

    num_steps: int
    difference: str | None
    elsewhere: dict[str, tuple[Any, Any]]

    @property
    def is_exact(self) -> bool:
        """Whether every step came out to the same bits."""
        return self.difference is None


def load_live(path: str | Path) -> LiveRecord:
    """The record of a session, from its file or its folder.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    path = check_path("run", path)
    is_folder = os.path.isdir(path)  # which no name is too long for
    try:
        return LiveRecord.load(path / LIVE if is_folder else path)
    except (OSError, ValueError) as error:
        what = f"has no {LIVE} that can be read" if is_folder else "is no live session's record"
        raise ValueError(
            f"run={shown(str(path))} {what} ({error}): name the folder of a live session"
        ) from None


def replay(record: LiveRecord, *, on_step: Callable[[StepRecord], object] | None = None) -> Replay:
    """Train again as the record says, and hold every step against it.

    Args:
        record: of a session that was made from a configuration.
        on_step: told every step.

    Raises:
        ValueError: model and data were made by hand: replay those with `LiveTraining(replay=...)`.
    """
    session = replayed_session(record)
    for _, step in session.steps():
        if on_step is not None:
            on_step(step)
    again = [arm.record() for arm in session.arms]
    pairs = list(zip(record.names, record.runs, again, strict=True))
    differences = (first_difference(name, then, now) for name, then, now in pairs)
    here = {**environment(), "date": record.lead.environment.get("date")}
    return Replay(
        num_steps=sum(map(len, record.runs)),
        difference=next((found for found in differences if found), None),
        elsewhere={
            name: (then, here.get(name))
            for name, then in record.lead.environment.items()
            if here.get(name) != then
        },
    )


def replayed_session(record: LiveRecord) -> LiveSession:
    """A session that will do what the record's did; ValueError where it cannot be made."""
    if record.recipe is None:
        raise ValueError(
            "this session's model and data were made by hand: make them again, and give "
            "LiveTraining(..., replay=record.log, **record.start)"
        )
    parts, setting = recipe_parts(PretrainConfig(**record.recipe))
    return LiveSession(
        parts.model,
        parts.optimizer,
        setting,
        values=record.start,
        against=record.against,
        sensitivity_data=record.sensitivity_data,
        seed=record.seed,
        replay=record.log,
    )


def first_difference(name: str, then: RunRecord, now: RunRecord) -> str | None:
    """Where two runs first differ, in words; None where they do not."""
    for before, after in zip(then, now, strict=False):
        for field in COMPARED:
            was, came = getattr(before, field), getattr(after, field)
            if was != came:
                return f"{name}, step {before.step}: {field} was {was}, and came to {came}"
    if len(then) != len(now):
        return f"{name}: {len(then)} steps then, {len(now)} now"
    return None
