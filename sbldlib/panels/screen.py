"""Renews what a live panel shows, and draws no more often than a share of the time allows."""

from __future__ import annotations

import time
from collections.abc import Callable

from .board import Board
from .view import LiveView

REFRESH_SECONDS = 1 / 3
DRAWING_SHARE = 0.015  # of the time; where a drawing takes longer, there are fewer of them
SPARING_SECONDS = 0.5  # who asks for fewer refreshes than that spends a smaller share on drawing
DRAWING_CREDIT_SECONDS = 0.15  # so that the first pictures, and a change, do not wait


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
        self.begin()

    def begin(self) -> None:
        """Reckon the time from here."""
        self._began, self._drawing_seconds = time.monotonic(), 0.0

    def refresh(self, *, is_over: bool) -> float:
        """Show what is new; returns the seconds until it should be called again."""
        self._view.read()
        self._board.follow()
        self.write()
        allowed = self._share * (time.monotonic() - self._began) + DRAWING_CREDIT_SECONDS
        if is_over or (self._view.progress > 0 and self._drawing_seconds <= allowed):
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
        self._drawing_seconds += time.thread_time() - began
