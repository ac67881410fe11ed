"""What every test shares: no window opens, and hypothesis draws the same examples in every run."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")

# A run that a shell started in the background inherits an ignored Ctrl-C; these tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Two cores shared by two workers make any deadline a coin toss.
settings.register_profile("kit", deadline=None, derandomize=True)
settings.load_profile("kit")
