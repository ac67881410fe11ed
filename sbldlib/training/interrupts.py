"""Ctrl-C and SIGTERM end a run at a step boundary, not in the middle of a step."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from ..signals import HeldSignals


class TrainingInterrupted(KeyboardInterrupt):
    """A run ended at a step boundary because it was asked to; the model is as after that step.

    Attributes:
        record: the run so far, where `train` raised it.
    """

    def __init__(self, message: str, record: Any = None):
        super().__init__(message)
        self.record = record


class Interrupts(HeldSignals):
    """Signals held back until the run is at a step boundary."""

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
