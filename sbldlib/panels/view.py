"""What a live session has come to, in numbers, in words and as a picture."""

from __future__ import annotations

from typing import Any

from ..dropping.lists import create_block_allow_lists
from ..dropping.schedules import tabulate
from ..live.course import Course
from ..live.dropping import lists_of
from ..live.session import LiveSession
from ..live.standing import standing, time_saved
from ..live.summary import RunSummary
from ..live.values import MEASURED
from ..pretraining.config import VALIDATION_LOSS
from .picture import LivePicture
from .words import written

SCHEDULE_POINTS = 200


class LiveView:
    """Reads the session's records as they come; nothing that is shown is known elsewhere.

    Attributes:
        picture: drawn by `picture.png()`.
        summaries: one an arm.
        measured_block: layers on the block list that the sensitivities give.
    """

    def __init__(self, session: LiveSession):
        self._session = session
        num_layers, num_steps = session.asking.num_layers, session.num_steps
        self.picture = LivePicture(
            [arm.name for arm in session.arms],
            num_layers,
            num_steps,
            sensitivity_data=session.sensitivity_data,
        )
        known = session.sensitivity_data
        self.measured_block: tuple[int, ...] = ()
        if known is not None and num_layers > 1:
            self.measured_block = create_block_allow_lists(known).block
        self._num_returns, self._shown_values = 0, None
        self._begin()

    @property
    def summary(self) -> RunSummary:
        """The lead's."""
        return self.summaries[0]

    @property
    def progress(self) -> float:
        """Of the lead, in [0, 1]."""
        last = self.summary.last
        return 0.0 if last is None else last.progress

    @property
    def against(self) -> str:
        """What losses are drawn and compared over: "steps", "flops" or "seconds"."""
        return self.picture.against

    @against.setter
    def against(self, wanted: str) -> None:
        self.picture.against = wanted

    def read(self) -> None:
        """Take in what the session has done since the last call."""
        num_returns, unread = self._session.take_unread()
        if num_returns != self._num_returns:
            self._num_returns = num_returns
            self.picture.clear()
            self._begin()
        for place, (new, summary) in enumerate(zip(unread, self.summaries, strict=True)):
            for record in new:
                summary.add(record)
            self.picture.add(place, new, self._session.controls.log)
        self._show_plan()

    def doing(self, *, is_held: bool) -> str:
        """What goes on, in a sentence."""
        session = self._session
        if is_held:
            return f"Paused before step {session.lead.num_steps + 1}."
        values = session.controls.values()
        if not values["dropping"]:
            return "Training at full depth."
        return f"Training with {values['method']}, asked saving {values['saving']:.2f}."

    def ended(self, error: BaseException | None = None) -> str:
        """How it ended, in a sentence or two."""
        session = self._session
        after = f"after {session.lead.num_steps} steps"
        if error is not None:
            return f"Failed {after}: {type(error).__name__}: {error}."
        if not session.is_stopped:
            return f"Finished {after}."
        kept = "" if session.folder is None else " They are saved: run it again to go on."
        return f"Stopped {after}.{kept}"

    def lines(self) -> list[str]:
        """The numbers in words, for the eye and for a screen reader."""
        summary = self.summary
        found = [summary.line()]
        if not len(summary.course):
            return found
        courses = [each.course for each in self.summaries]
        found.append(summary.savings(measured=self._time_saved(courses)))
        said = ""
        if self._session.is_race:
            names = [arm.name for arm in self._session.arms]
            stand = standing(courses, against=self.against, measure=VALIDATION_LOSS)
            if stand is not None:
                found.append(f"Race, {stand.line(names)}")
                said = stand.measure
        for arm, each in zip(self._session.arms, self.summaries, strict=True):
            if results := each.results(but=said):
                found.append(f"{arm.name}: {results}")
        return found

    def written(self) -> str:
        """What the models wrote, as a part of a page."""
        return written({arm.name: dict(arm.samples) for arm in self._session.arms})

    def _begin(self) -> None:
        session = self._session
        self.summaries = [
            RunSummary(
                session.asking.num_layers, session.num_steps, saved_bytes=session.saved_bytes
            )
            for _ in session.arms
        ]

    def _time_saved(self, courses: list[Course]) -> float | None:
        """Measured where the rival runs at full depth."""
        beside_full_depth = self._session.against == "none"
        return time_saved(courses) if beside_full_depth else None

    def _show_plan(self) -> None:
        """Keep probabilities in force, and the schedule that is asked for."""
        session, last = self._session, self.summary.last
        wanted = session.controls.wanted
        if last is not None and last.keep_probability:
            self.picture.show_keep(last.keep_probability, self._blocked(last.controls))
        if wanted != self._shown_values:
            self._shown_values = wanted
            self.picture.show_schedule(self._schedule(wanted))

    def _blocked(self, values: dict[str, Any]) -> tuple[int, ...]:
        """Layers on the block list in force; only sbld has one."""
        known = self._session.sensitivity_data
        if known is None or values.get("method") != "sbld" or not values.get("dropping"):
            return ()
        lists = lists_of(values.get("block", MEASURED), known)
        return self.measured_block if lists is None else lists.block

    def _schedule(self, values: dict[str, Any]) -> Any:
        """Mean keep probability over the run, as these values have it; None at full depth."""
        if not values["dropping"]:
            return None
        try:
            method = self._session.asking.method(values)
        except ValueError:  # between two changes that belong together
            return None
        return tabulate(method.schedule, SCHEDULE_POINTS)
