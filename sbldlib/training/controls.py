"""Values that may change while a run trains, read once at the start of each step.

Any thread may ask for a change; it is in force from the next step on, and logged there. The log
replays the run: same seed, same log, same losses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import check_kind, check_positive_int, items, shown, unknown_name

STOP = "stop"
LEARNING_RATE_SCALE = "learning_rate_scale"  # a control of this name multiplies the learning rate
POLL_SECONDS = 0.05  # of a run that is paused
LogEntry = tuple[int, str, Any, Any]


class Controls:
    """Named plain values, changed from outside and applied at step boundaries.

    Attributes:
        first: the values before any change, without `stop`.
        log: (step, name, old, new) of every change that came into force.
        num_asked: changes asked for so far; of several for one value the last before a step counts.
    """

    def __init__(self, values: Mapping[str, Any], *, replay: Iterable[LogEntry] = ()):
        """
        Args:
            values: the names and their first values; `stop` is added.
            replay: a log to apply again, at its steps.
        """
        right = "a dict of names and values, such as {'saving': 0.25}"
        given = check_kind("values", values, Mapping, right)
        for name in given:
            check_kind("values", name, str, "a dict whose names are text")
        self._in_force: dict[str, Any] = {**given, STOP: False}
        self._wanted = dict(self._in_force)
        self._lock, self._running = threading.Lock(), threading.Event()
        self._running.set()
        self._single_steps, self._is_held = 0, False
        self._before: list[dict[str, Any]] = []  # the values before each step's changes
        self._num_undone = 0  # of them: asked back, and not yet in force
        self.first = self._values = self._without_stop(self._in_force)
        self.num_asked = 0
        self._script: dict[int, list[tuple[str, Any]]] = {}
        self._kept: dict[int, list[tuple[str, Any]]] = {}  # what a folder had after its checkpoint
        for entry in items("replay", replay):
            step, name, _, new = self._entry(entry)
            self._script.setdefault(step, []).append((name, new))
        self.log: list[LogEntry] = []

    def __getitem__(self, name: str) -> Any:
        return self._in_force[self._known(name)]

    def set(self, name: str, value: Any) -> None:
        """Ask for a value; it holds from the start of the next step on."""
        with self._lock:
            self._wanted[self._known(name)] = value
            self.num_asked += 1
            if self._wanted[STOP]:
                self._running.set()

    def pause(self) -> None:
        """Hold the run at its next step boundary; one that is to stop is not held."""
        with self._lock:
            if not self._wanted[STOP]:
                self._running.clear()

    def resume(self) -> None:
        """Let a paused run go on."""
        with self._lock:
            self._single_steps = 0
            self._running.set()

    def step_once(self) -> None:
        """Let the run do one more step, and hold it there."""
        with self._lock:
            if not self._wanted[STOP]:
                self._running.clear()
                self._single_steps += 1

    def undo(self) -> bool:
        """Ask for the values before the last change; False where none is left to undo.

        What is asked for and not yet in force goes first. An undo is logged as a change like any
        other, and is not undone itself.
        """
        with self._lock:
            before, undone = self._before, self._num_undone
            asked_back = before[-undone] if undone else self._values
            if self._without_stop(self._wanted) == asked_back:
                if undone == len(before):
                    return False
                self._num_undone += 1
                asked_back = before[-self._num_undone]
            self._wanted.update(asked_back)
            return True

    @property
    def is_paused(self) -> bool:
        """Whether the run is held at a step boundary."""
        return not self._running.is_set()

    @property
    def is_stopping(self) -> bool:
        """Whether the run is to end at its next step boundary."""
        return bool(self._wanted[STOP])

    def stop(self) -> None:
        """End the run at its next step boundary, paused or not."""
        self.set(STOP, True)

    def begin_step(
        self,
        step: int,
        *,
        on_pause: Callable[[], object] | None = None,
        is_interrupted: Callable[[], bool] | None = None,
    ) -> bool:
        """Put the asked values in force, waiting while paused; False where the run is to stop.

        Args:
            on_pause: called once before it waits; not again between single steps.
            is_interrupted: looked at while it waits; True ends the waiting, and the run.
        """
        if self._running.is_set():
            self._is_held = False
        elif not self._is_held:
            self._is_held = True
            if on_pause is not None:
                on_pause()
        # In short waits: a signal's handler can then set a plain flag, and needs no lock.
        while not self._running.wait(POLL_SECONDS) and not self._takes_single_step():
            if is_interrupted is not None and is_interrupted():
                return False
        with self._lock:
            self._apply(step)
        return not self._in_force[STOP]

    def at(self, step: int) -> dict[str, Any]:
        """The values that were in force at a step so far, without `stop`."""
        values = dict(self._values)
        for later, name, old, _ in reversed(self.log):
            if later <= step:
                break
            values[name] = old
        return self._without_stop(values)

    def state_dict(self) -> dict[str, Any]:
        """The values in force and the log so far, for a checkpoint."""
        with self._lock:
            return {"in_force": dict(self._in_force), "log": [list(entry) for entry in self.log]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a checkpoint's values in force again; a stop that was asked for then is over."""
        values = {self._known(name): value for name, value in state["in_force"].items()}
        with self._lock:
            self._in_force.update(values)
            self._in_force[STOP] = False
            self._wanted = dict(self._in_force)
            self._values = self._without_stop(self._in_force)
            self._before, self._num_undone, self._kept = [], 0, {}
            # The stop too is no change of the run that goes on: replayed, it would end it there.
            self.log = [
                (int(step), name, old, new) for step, name, old, new in state["log"] if name != STOP
            ]

    def replay(self, log: Iterable[LogEntry]) -> None:
        """Apply these changes again at their steps, but for those that stopped the run."""
        with self._lock:
            for step, name, _, new in log:
                if self._known(name) != STOP:
                    self._kept.setdefault(step, []).append((name, new))

    @property
    def wanted(self) -> dict[str, Any]:
        """The values asked for last, which hold from the next step on; without `stop`."""
        with self._lock:
            return self._without_stop(self._wanted)

    def values(self) -> dict[str, Any]:
        """The values in force, without `stop`: one dict until a change, not to be written to."""
        return self._values

    def _apply(self, step: int) -> None:
        """Put what is asked for in force, and log it."""
        for script in (self._script, self._kept):
            self._wanted.update(script.get(step, ()))
        values, undone = self._without_stop(self._wanted), self._num_undone
        self._num_undone = 0
        for name, new in self._wanted.items():
            if (old := self._in_force[name]) != new:
                self.log.append((step, name, old, new))
                self._in_force[name] = new
        if values == self._values:
            return
        if undone and values == self._before[-undone]:
            del self._before[-undone:]
        else:
            self._before.append(self._values)
        self._values = values

    def _takes_single_step(self) -> bool:
        with self._lock:
            if self._single_steps == 0:
                return False
            self._single_steps -= 1
            return True

    @staticmethod
    def _without_stop(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name != STOP}

    def _entry(self, entry: Any) -> LogEntry:
        """One entry of a log to be replayed, or ValueError where it is none."""
        if not isinstance(entry, (tuple, list)) or len(entry) != 4:
            raise ValueError(f"replay: {shown(entry)} must be (step, name, old, new)")
        step, name, old, new = entry
        if name not in self._in_force:
            raise unknown_name("replay", name, self._in_force)
        return check_positive_int("replay", step, minimum=0), name, old, new

    def _known(self, name: str) -> str:
        if name not in self._in_force:
            raise unknown_name("control", name, self._in_force)
        return name
