"""A live session: one run that a hand steers, or two that race from the same weights.

Everything here is plain: no widget, no picture. A panel shows it, a replay runs it inline.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import check_choice, check_path
from ..measure import count_saved_bytes, first_tensor
from ..records import SensitivityData, StepRecord
from ..training.controls import STOP, Controls, LogEntry
from ..training.run import batch_source
from .arm import Arm, Setting
from .asking import Asking
from .dropping import LiveDropping
from .pace import Pace
from .record import LiveRecord
from .values import CONTROLS, SHARED

LEAD, RIVAL = "lead", "rival"
STEERED, FULL_DEPTH = "steered", "full depth"


class LiveSession:
    """Arms that train in turn, one optimiser step each, and what a hand may ask of them.

    The first arm, the lead, is steered. The second, where there is one, is its rival: a copy of
    the same model and optimiser on the same data, with a method of its own at the same asked
    saving. What both share (learning rate, speed) holds for both at the same step.

    Attributes:
        arms: the lead, and its rival where there is one.
        asking: the door; `ask` goes through it.
        against: the rival's method, or None.
        num_returns: how often the session went back to a checkpoint; records before that are gone.
        num_steps: of each arm where the budget says so; else None.
        saved_bytes: what a step at full depth keeps for its backward pass.
        sensitivity_data: what sbld goes by.
        seed: of the draws.
        start: the values in force at the first step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        setting: Setting,
        *,
        values: Mapping[str, Any] | None = None,
        against: str | None = None,
        sensitivity_data: SensitivityData | None = None,
        seed: int = 0,
        replay: Iterable[LogEntry] | None = None,
        folder: str | Path | None = None,
        resume: str | int = "auto",
    ):
        """
        Args:
            values: in force at the first step, of `sbldlib.live.values`; without a method, sbld
                where there are sensitivities, else uniform.
            against: a name in `METHODS`: the session is a race, and this is the rival's method;
                "none" is full depth.
            sensitivity_data: what sbld needs; without it, sbld is not offered.
            replay: the log of an earlier session's lead, applied again at its steps; no speed limit
                holds then.
            folder: of this session alone; a race has one folder an arm in it.
            resume: as for `train`; a race that goes back does so in both arms.

        Raises:
            ValueError: an unknown name, a value out of range, or a saving that cannot be held.
        """
        batches = batch_source(setting.data, setting.config.accumulate)
        first = batches.batch(0)
        rows = setting.config.accumulate * first_tensor(first).numel()
        self.num_steps = setting.config.budget.num_steps(rows)
        self.asking = Asking(model, sensitivity_data=sensitivity_data, num_steps=self.num_steps)
        self.saved_bytes = count_saved_bytes(model, first, loss=setting.loss)
        self.sensitivity_data, self.seed = sensitivity_data, seed
        self._resume = resume
        self.against = against if against is None else self._rival_method(against)
        known = self.asking.offered
        default = "sbld" if "sbld" in known else "uniform"
        self.start = self.asking.first_values({"method": default, **(values or {})})
        self.folder = None if folder is None else check_path("folder", folder)
        self.num_returns, self._return_to = 0, None
        self._is_lead_over = False
        self._reading = threading.Lock()

        def arm(name: str, part: str, own: tuple[nn.Module, Any], controls: Controls) -> Arm:
            return Arm(
                name,
                *own,
                controls=controls,
                dropping=LiveDropping(own[0], sensitivity_data=sensitivity_data, seed=seed),
                setting=setting if part == LEAD else replace(setting, callbacks=()),
                folder=self.folder / part if self.folder and against else self.folder,
                races=against is not None,
            )

        controls = Controls(self.start, replay=() if replay is None else replay)
        self._pace = Pace(controls) if replay is None else None
        self.arms: tuple[Arm, ...] = (arm(STEERED, LEAD, (model, optimizer), controls),)
        if against is not None:
            # Copied together, so that the copied optimiser holds the copied weights.
            twin = copy.deepcopy((model, optimizer))
            name = FULL_DEPTH if against == "none" else against
            self.arms += (arm(name, RIVAL, twin, Controls(self._rivals(self.start))),)

    @property
    def lead(self) -> Arm:
        """The arm that is steered."""
        return self.arms[0]

    @property
    def controls(self) -> Controls:
        """The lead's: every change is in its log."""
        return self.lead.controls

    @property
    def is_race(self) -> bool:
        """Whether there is a rival."""
        return len(self.arms) > 1

    def ask(self, name: str, value: Any) -> dict[str, Any]:
        """Ask for a value from the next step on; returns all that was asked for with it.

        Where the lead's layers cannot hold the saving that was asked for before, the most that they
        can is asked for as well.

        Raises:
            ValueError: not a value, or no saving can be held with it; nothing is asked for then.
        """
        value = self.asking.value(name, value)
        asked = {name: value}
        values = {**self.controls.wanted, **asked}
        if name in CONTROLS and values["dropping"] and not self.asking.holds(values):
            most = self.asking.largest_saving(values)
            if name == "saving" or most == 0:
                self.asking.check(values)  # raises, with the reason
            asked = {"saving": min(most, values["saving"]), name: value}
            self.asking.check({**values, **asked})
        for each, wanted in asked.items():
            self.controls.set(each, wanted)
        return asked

    def undo(self) -> bool:
        """Ask for the values before the last change; False where there is none."""
        return self.controls.undo()

    def pause(self) -> None:
        """Hold the session before its next step."""
        self._going.pause()

    def resume(self) -> None:
        """Let it go on."""
        self._going.resume()

    def step_once(self) -> None:
        """Let each arm do one step, and hold the session there."""
        self._going.step_once()

    def stop(self) -> None:
        """End the session at its next step, all arms after as many steps."""
        self._going.stop()

    @property
    def is_paused(self) -> bool:
        """Whether it is held between two steps."""
        return self._going.is_paused

    @property
    def is_stopped(self) -> bool:
        """Whether a stop is in force."""
        return bool(self._going[STOP])

    def return_points(self) -> list[int]:
        """Steps done at the checkpoints that every arm has, before the newest step; ascending."""
        done = self.lead.num_steps
        return sorted(step for step in self._shared_checkpoints() if step < done)

    def go_back(self) -> int:
        """End here, and go on from the last checkpoint before; returns its steps done.

        Raises:
            ValueError: there is none.
        """
        points = self.return_points()
        if not points:
            raise ValueError(
                "there is no checkpoint to go back to: give a folder, and "
                "checkpoints=CheckpointConfig(every_steps=50)"
            )
        self._return_to = points[-1]
        self.stop()
        return points[-1]

    def take_unread(self) -> tuple[int, list[list[StepRecord]]]:
        """`num_returns`, and the steps of each arm since the last call; for one reader."""
        with self._reading:
            return self.num_returns, [arm.take_unread() for arm in self.arms]

    def steps(self) -> Iterator[tuple[int, StepRecord]]:
        """Train: (number of the arm, record) of each step, until all arms have ended."""
        resume = self._resume
        while True:
            yield from self._race(resume)
            if self._return_to is None:
                return
            shared = self._shared_checkpoints()
            resume = self._return_to if self._return_to in shared else max(shared)
            self._return_to = None
            with self._reading:
                for arm in self.arms:
                    arm.forget()
                self.num_returns += 1

    def live_record(self, *, recipe: dict[str, Any] | None = None) -> LiveRecord:
        """Runs, changes and what they went by, once they are over.

        Args:
            recipe: what model, data and optimiser were made from, as `LiveRecord` has it.
        """
        samples = ({str(at): text for at, text in arm.samples.items()} for arm in self.arms)
        return LiveRecord(
            start=self.start,
            against=self.against,
            seed=self.seed,
            names=tuple(arm.name for arm in self.arms),
            runs=tuple(arm.record() for arm in self.arms),
            samples=tuple(samples),
            sensitivity_data=self.sensitivity_data,
            recipe=recipe,
        )

    @property
    def _going(self) -> Controls:
        """Of the arm that pauses and stops the session: the lead, as long as it goes on."""
        is_rival = self.is_race and self._is_lead_over
        return self.arms[1].controls if is_rival else self.controls

    def _race(self, resume: str | int) -> Iterator[tuple[int, StepRecord]]:
        """A step of the arm that has got least far in its budget, again and again."""
        self._is_lead_over = False
        with ExitStack() as stack:
            going = {
                place: stack.enter_context(closing(arm.going(resume)))
                for place, arm in enumerate(self.arms)
            }
            while going:
                place = min(going, key=lambda place: (self.arms[place].progress, place))
                if place == 0:
                    if self._pace is not None:
                        self._pace.keep()
                else:
                    self._follow()
                record = next(going[place], None)
                if record is not None:
                    yield place, record
                    continue
                del going[place]
                self._is_lead_over = self._is_lead_over or place == 0

    def _follow(self) -> None:
        """Let the rival have at its next step what the lead had at that step."""
        lead, rival = self.arms
        values = self._rivals(self.controls.at(rival.num_steps))
        for name, value in values.items():
            if rival.controls[name] != value:
                rival.controls.set(name, value)
        if self.controls[STOP] and rival.progress >= lead.progress:
            rival.controls.stop()

    def _rivals(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the rival trains with while these values are the lead's."""
        assert self.against is not None
        most = self.asking.offered.get(self.against, 0.0)
        return {
            "dropping": self.against != "none",
            "method": self.against,
            "saving": min(values["saving"], most),
            **{name: values[name] for name in SHARED},
        }

    def _rival_method(self, name: str) -> str:
        known = ("none", *self.asking.offered)
        return check_choice("against", name, known)

    def _shared_checkpoints(self) -> set[int]:
        return set.intersection(*(set(arm.checkpoints()) for arm in self.arms))
