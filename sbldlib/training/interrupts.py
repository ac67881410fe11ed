"""Ctrl-C and SIGTERM end a run at a step boundary, not in the middle of a step."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(KeyboardInterrupt):
    """A run ended at a step boundary because it was asked to; the model is as after that step.

    Attributes:
        record: the run so far, where `train` raised it.
    """

    def __init__(self, message: str, record: Any = None):
        super().__init__(message)
        self.record = record


class Interrupts:
    """While it is entered, a signal asks for the end, and the loop looks whether one did.

    A second Ctrl-C does not wait for the boundary. Signals reach the main thread alone: in another
    one this does nothing, and the run is ended by its controls.

    Attributes:
        asked: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}
        self._depth = 0

    def __enter__(self) -> Interrupts:
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before is not None:  # None: set by another language, which must keep it
                    self._before[number] = before
                    signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            while self._before:
                signal.signal(*self._before.popitem())

    def end(self, message: str, record: Any = None) -> None:
        """Do what the signal would have done, now that the run is at a step boundary.

        Raises:
            TrainingInterrupted: it was Ctrl-C, an interrupt of the kernel, or came to another rank.
            SystemExit: it was SIGTERM and nobody else handles it.
        """
        if self.asked != signal.SIGTERM:
            _exit_as_interrupted()
            raise TrainingInterrupted(message, record)
        if callable(signal.getsignal(signal.SIGTERM)):
            os.kill(os.getpid(), signal.SIGTERM)  # a notebook's kernel has its own way to end
        else:
            raise SystemExit(128 + signal.SIGTERM)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number


def _exit_as_interrupted() -> None:
    """Where nobody catches it, end with a shell's code for Ctrl-C.

    Python itself gives that to KeyboardInterrupt alone, and to what derives from it a plain 1.
    """
    before = sys.excepthook
    if getattr(before, "ends_as_interrupted", False):
        return

    def show_and_end(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        before(kind, error, trace)
        if issubclass(kind, TrainingInterrupted):
            raise SystemExit(128 + signal.SIGINT)

    show_and_end.ends_as_interrupted = True  # type: ignore[attr-defined]
    sys.excepthook = show_and_end
