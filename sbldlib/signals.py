"""Ctrl-C and SIGTERM, held back until what runs is whole again."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class HeldSignals:
    """While it is entered, a signal asks for the end, and whoever entered looks whether one did.

    So nothing is left half done: an exception out of nowhere could come between a change and the
    `finally` that undoes it. A second Ctrl-C does not wait. Signals reach the main thread alone: in
    another one this does nothing.

    Attributes:
        asked: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}
        self._depth = 0

    def __enter__(self):
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

    def let_through(self) -> None:
        """Do now what the signal that came would have done; nothing where none came."""
        if self.asked is None:
            return
        number, self.asked = self.asked, None
        signal.signal(number, self._before.get(number, signal.getsignal(number)))
        signal.raise_signal(number)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number
