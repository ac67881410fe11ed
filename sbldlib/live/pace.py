"""A speed limit for lessons: the time between the beginnings of two steps."""

from __future__ import annotations

import time

from ..training.controls import Controls
from .values import STEPS_PER_SECOND

LOOK_SECONDS = 0.02  # between looks at the limit, which may change meanwhile


class Pace:
    """Holds a run's steps apart as its controls say."""

    def __init__(self, controls: Controls):
        self._controls, self._began = controls, 0.0

    def keep(self) -> None:
        """Wait until the next step may begin; a run that is to pause or to stop does not wait."""
        controls = self._controls
        while (limit := controls.wanted[STEPS_PER_SECOND]) and not controls.is_stopping:
            if controls.is_paused or time.monotonic() - self._began >= 1 / limit:
                break
            time.sleep(LOOK_SECONDS)
        self._began = time.monotonic()
