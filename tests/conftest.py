"""What every test shares: no window opens, and hypothesis draws the same examples in every run."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")

# Two cores shared by two workers make any deadline a coin toss.
settings.register_profile("kit", deadline=None, derandomize=True)
settings.load_profile("kit")
