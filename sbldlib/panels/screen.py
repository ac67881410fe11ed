"""Renews what a live panel shows, and draws no more often than a share of the time allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from .board import Board
from .view import LiveView

REFRESH_SECONDS = 1 / 3
DRAWING_SHARE = 0.015  # of the time; where a drawing takes longer, there are fewer of them
SPARING_SECONDS = 0.5  # who asks for fewer refreshes than that spends a smaller share on drawing
MOST_CREDIT_SECONDS = 0.15  # so that the first pictures, and a change, do not wait
# A drawing with new axes costs ten times as much: it must not stop the next one for long, unless
# they come all the time. What goes beyond twice the cheapest is taken from a purse of its own.
USUAL = 2.0
PURSE_SHARE, MOST_IN_PURSE_SECONDS = 0.004, 0.3


class Screen:
    """Text at every refresh, the picture when it is due; all of it on the kernel's own loop."""

    def __init__(
        self, view: LiveView, board: Board, state: Callable[[], str], *, refresh_seconds: float
    ):
        """
        Args:
            state: what goes on, in a sentence.
            refresh_seconds: between two looks at what is new.
        """
        self._view, self._board, self._state = view, board, state
        self._refresh_seconds = refresh_seconds
        self._share = DRAWING_SHARE * min(1.0, SPARING_SECONDS / refresh_seconds)
        self._cheapest_seconds, self._credit_seconds, self._purse_seconds = math.inf, 0.0, 0.0
        self._reckoned_at = time.monotonic()

    def begin(self) -> None:
        """Draw the empty axes, and reckon the time from here."""
        self._cheapest_seconds = math.inf
        self.draw()
        self._cheapest_seconds = math.inf
        self._credit_seconds, self._purse_seconds = MOST_CREDIT_SECONDS, MOST_IN_PURSE_SECONDS
        self._reckoned_at = time.monotonic()

    def refresh(self, *, is_over: bool) -> float:
        """Show what is new; returns the seconds until it should be called again."""
        self._view.read()
        self._board.follow()
        self.write()
        self._reckon()
        if is_over or (self._view.progress > 0 and self._credit_seconds >= 0):
            self.draw()
        if is_over:
            self._board.close()
        return self._refresh_seconds

    def draw_against(self, against: str) -> None:
        """Draw and compare losses over "steps", "flops" or "seconds" from now on."""
        self._view.against = against
        self.write()
        self.draw()

    def write(self) -> None:
        """Renew the text."""
        self._board.show(
            state=self._state(),
            numbers=self._view.lines(),
            progress=self._view.progress,
            samples=self._view.written(),
        )

    def draw(self) -> None:
        """Renew the picture."""
        began = time.thread_time()
        self._board.image.value = self._view.picture.png()
        seconds = time.thread_time() - began
        self._cheapest_seconds = min(self._cheapest_seconds, seconds)
        beyond = max(0.0, seconds - USUAL * self._cheapest_seconds)
        forgiven = min(beyond, self._purse_seconds)
        self._purse_seconds -= forgiven
        self._credit_seconds -= seconds - forgiven

    def _reckon(self) -> None:
        """What the time since the last look has brought in."""
        now = time.monotonic()
        elapsed, self._reckoned_at = now - self._reckoned_at, now
        credit = self._credit_seconds + self._share * elapsed
        purse = self._purse_seconds + PURSE_SHARE * elapsed
        self._credit_seconds = min(credit, MOST_CREDIT_SECONDS)
        self._purse_seconds = min(purse, MOST_IN_PURSE_SECONDS)
