"""How a panel runs its steps: in a thread, so many at a click, or inline and bit-identical.

The thread touches no widget and prints nothing; everything that is shown is drawn on the kernel's
own loop. That is what works in JupyterLab, on Colab and in a test alike.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from ..environment import installed_version
from ..errors import unknown_name
from ..lessons import tier
from .kernels import kernel_here

# What each does, and what the reader has to do about it.
DRIVERS = {
    "thread": "trains in a thread: steer at any time, and run other cells meanwhile",
    "awaited": "trains in a thread, and its controls act while a cell awaits them: "
    "leave `await panel.wait()` in the panel's own cell",
    "chunked": "trains some steps at each click, and nothing else runs meanwhile: "
    "let the cell end, then click",
    "inline": "trains to the end before anything else happens: nothing can be steered meanwhile",
}
IN_A_THREAD = ("thread", "awaited")
CHUNKED, INLINE = "chunked", "inline"
NO_THREADS = "emscripten"  # Python in the browser
BROKEN_IPYKERNEL = "7.0.0"
FIRST_TO_SERVE = 7  # the ipykernel that handles a widget's message while a cell awaits
PATIENCE_SECONDS = 60.0  # for a step in progress, and for what is saved after it


def choose_driver(asked: str | None = None) -> str:
    """How to run here: a key of `DRIVERS`.

    Args:
        asked: a driver; the default is $SBLD_PANEL, then what suits the place: inline outside of a
            notebook and at the smoke tier, chunked where threads cannot run, awaited on an
            ipykernel before 7 (Colab has 6.17), else thread.

    Raises:
        ValueError: not a driver.
        RuntimeError: a thread was asked for where none can run, or where they die.
    """
    name = _known(asked or os.environ.get("SBLD_PANEL") or _suited())
    if name in IN_A_THREAD and sys.platform == NO_THREADS:
        raise RuntimeError(
            f"driver={name!r} needs a thread, and {NO_THREADS} has none; use driver='chunked'"
        )
    if name in IN_A_THREAD and installed_version("ipykernel") == BROKEN_IPYKERNEL:
        raise RuntimeError(
            f"ipykernel {BROKEN_IPYKERNEL} lets background threads die, and a panel trains in one; "
            "pip install --upgrade ipykernel and restart the kernel, or set SBLD_PANEL=chunked"
        )
    return name


def describe_driver(name: str) -> str:
    """One sentence for the panel: the driver, what was found here, and what the reader has to do.

    Args:
        name: a key of `DRIVERS`.

    Raises:
        ValueError: not a driver.
    """
    found = ["no notebook"] if kernel_here() is None else _versions("ipykernel")
    found += _versions("ipywidgets")
    return f"Driver {_known(name)} ({', '.join(found)}) {DRIVERS[name]}."


def _suited() -> str:
    if kernel_here() is None or tier() == "smoke":
        return "inline"
    if sys.platform == NO_THREADS:
        return "chunked"
    major = (installed_version("ipykernel") or "").partition(".")[0]
    return "awaited" if major.isdigit() and int(major) < FIRST_TO_SERVE else "thread"


def _known(name: str) -> str:
    if name not in DRIVERS:
        raise unknown_name("driver", name, DRIVERS)
    return name


def _versions(package: str) -> list[str]:
    version = installed_version(package)
    return [f"no {package}" if version is None else f"{package} {version}"]


class Driver:
    """Takes the steps of a generator one after the other.

    Attributes:
        error: what ended it before its time, or None.
    """

    def __init__(
        self, make_steps: Callable[[], Iterator[Any]], *, stop: Callable[[], object] | None = None
    ):
        """
        Args:
            make_steps: gives the generator, in the thread that takes its steps.
            stop: asks the generator to end at its next step; called from any thread.
        """
        self.error: BaseException | None = None
        self._make_steps, self._stop = make_steps, stop
        self._steps: Iterator[Any] | None = None
        self._has_ended = self._is_at_work = False
        # Two clicks may come on two threads of the kernel's; a step may call its own driver.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has begun, and is at work or has steps left."""
        if self._thread is not None:
            return self._thread.is_alive()
        return self._steps is not None

    @property
    def is_over(self) -> bool:
        """Whether the generator has ended, or was ended by what it raised."""
        return self._has_ended and not self.is_running

    def run(self) -> None:
        """Take every step that is left; what is raised is kept for `check`."""
        self._take(None)

    def run_in_thread(self) -> None:
        """Start `run` in a thread that ends with the process."""
        self._thread = threading.Thread(target=self.run, name="sbld panel", daemon=True)
        _STARTED.add(self)
        self._thread.start()

    def run_chunk(self, num_steps: int) -> bool:
        """Take up to so many steps here; whether the end has not been met yet.

        What is raised is kept for `check`. Called again while it is at work, it waits for its turn.
        """
        _STARTED.add(self)
        self._take(num_steps)
        return not self._has_ended

    def stop(self, seconds: float = PATIENCE_SECONDS) -> bool:
        """Ask for the end at the next step and wait for it; whether it came within the time.

        A run in chunks takes the steps here that it takes to see what was asked of it.
        """
        if self._stop is not None:
            self._stop()
        end = time.monotonic() + seconds
        if self._thread is not None:
            self._thread.join(seconds)
        elif not self._is_at_work:
            while self.is_running and time.monotonic() < end:
                self.run_chunk(1)
        return not self.is_running

    def check(self) -> None:
        """Raise what the run raised."""
        if self.error is not None:
            raise self.error

    def _take(self, num_steps: int | None) -> None:
        """Take so many steps, or all; at the end and at an error the generator is closed."""
        with self._lock:
            if self._has_ended or self._is_at_work:
                return
            self._is_at_work = True
            try:
                if self._steps is None:
                    self._steps = iter(self._make_steps())
                taken = sum(1 for _ in islice(self._steps, num_steps))
                self._has_ended = taken != num_steps
            except BaseException as error:  # a thread has nobody above it to tell
                self.error, self._has_ended = error, True
            finally:
                self._is_at_work = False
            if self._has_ended:
                self._close()

    def _close(self) -> None:
        """Close the generator: the traceback that is kept keeps it, and would leave it open."""
        steps, self._steps = self._steps, None
        try:
            getattr(steps, "close", lambda: None)()
        except BaseException as error:
            self.error = error


_STARTED: weakref.WeakSet[Driver] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """A daemon thread is cut off where it stands; a run ends at a step, and saved."""
    for driver in list(_STARTED):
        if driver.is_running:
            driver.stop()


async def watch(driver: Driver, refresh: Callable[[], float]) -> None:
    """Call `refresh` while the driver runs, and once after it.

    Args:
        refresh: draws what there is and returns the seconds until it should be called again.
    """
    while driver.is_running:
        await asyncio.sleep(refresh())
    refresh()
