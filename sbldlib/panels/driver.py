"""How a panel runs its steps: in a thread while widgets are served, or inline and bit-identical.

The thread touches no widget and prints nothing; everything that is shown is drawn on the kernel's
own loop. That is what works in JupyterLab, on Colab and in a test alike.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from IPython.core.getipython import get_ipython

from ..environment import installed_version
from ..errors import unknown_name
from ..lessons import tier

MODES = ("thread", "sync")
POLL_SECONDS = 0.03
PATIENCE_SECONDS = 60.0  # for a step in progress, and for what is saved after it
BROKEN_IPYKERNEL = "7.0.0"


def choose_mode(asked: str | None = None) -> str:
    """How to run here: "thread" where a hand can steer, "sync" where none can.

    Args:
        asked: a mode; the default is $SBLD_PANEL, then "sync" outside of a notebook and at the
            smoke tier, else "thread".

    Raises:
        ValueError: not a mode.
        RuntimeError: a thread was asked for on an ipykernel that lets threads die.
    """
    mode = asked or os.environ.get("SBLD_PANEL")
    if mode is None:
        mode = "sync" if kernel_here() is None or tier() == "smoke" else "thread"
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    if mode == "thread" and installed_version("ipykernel") == BROKEN_IPYKERNEL:
        raise RuntimeError(
            f"ipykernel {BROKEN_IPYKERNEL} lets background threads die, so that no panel can run; "
            "pip install --upgrade ipykernel, then restart the kernel"
        )
    return mode


def kernel_here() -> Any:
    """The notebook kernel that this code runs in, or None."""
    return getattr(get_ipython(), "kernel", None)


class Driver:
    """Takes the steps of a generator one after the other and keeps their records.

    Attributes:
        records: what the generator yielded so far; only ever appended to.
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
        self.records: list[Any] = []
        self.error: BaseException | None = None
        self._make_steps, self._stop = make_steps, stop
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether the thread is still at work."""
        return self._thread is not None and self._thread.is_alive()

    def run(self) -> None:
        """Take every step; what is raised is kept for `check`."""
        try:
            steps = self._make_steps()
            try:
                for record in steps:
                    self.records.append(record)
            finally:
                # The traceback that is kept keeps the generator too, which would never be closed.
                getattr(steps, "close", lambda: None)()
        except BaseException as error:  # a thread has nobody above it to tell
            self.error = error

    def run_in_thread(self) -> None:
        """Start `run` in a thread that ends with the process."""
        self._thread = threading.Thread(target=self.run, name="sbld panel", daemon=True)
        _STARTED.add(self)
        self._thread.start()

    def stop(self, seconds: float = PATIENCE_SECONDS) -> bool:
        """Ask for the end at the next step and wait for it; whether it came within the time."""
        if self._stop is not None:
            self._stop()
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.is_running

    def check(self) -> None:
        """Raise what the run raised."""
        if self.error is not None:
            raise self.error


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


async def wait_for(task: asyncio.Task[None]) -> None:
    """Wait for a task in a cell while the widgets stay alive, on ipykernel 6 too."""
    kernel = kernel_here()
    while hasattr(kernel, "msg_queue") and not task.done():
        await serve_widgets(kernel)
        await asyncio.sleep(POLL_SECONDS)
    await asyncio.shield(task)  # a cell that is interrupted ends its wait, not the panel


def answer_widgets(kernel: Any) -> None:
    """Let an ipykernel 7.4 say that it has handled a widget's message while a cell awaited.

    It handles the message and stays silent, and the browser, which waits for that word, holds back
    every further one from the same widget. Does nothing to other kernels, or a second time.
    """
    handle = getattr(kernel, "dispatch_shell", None)
    if handle is None or "concurrent" not in inspect.signature(handle).parameters:
        return
    if getattr(handle, "answers", False):
        return

    async def handle_and_answer(message, /, subshell_id=None, *, concurrent=False):
        await handle(message, subshell_id, concurrent=concurrent)
        if concurrent:
            kernel._publish_status("idle", "shell")

    handle_and_answer.answers = True
    kernel.dispatch_shell = handle_and_answer


async def serve_widgets(kernel: Any) -> None:
    """Handle the messages that wait in an ipykernel 6's queue; cells to run keep their turn.

    ipykernel 6 (Colab has 6.17) handles one message after the other, so that a slider moved while a
    cell awaits would act only after that cell.
    """
    queue = kernel.msg_queue
    if not queue.qsize():
        return
    identity, parent = kernel._parent_ident["shell"], kernel.get_parent("shell")
    on_interrupt = kernel.saved_sigint_handler
    cells = []
    try:
        while queue.qsize():
            item = queue.get_nowait()
            _, dispatch, arguments = item
            if _message_type(kernel.session, arguments[0]) == "execute_request":
                cells.append(item)
            else:
                await dispatch(*arguments)
    finally:
        for item in cells:
            queue.put_nowait(item)
        # Each message makes itself the one that is answered and interrupted: undo that.
        kernel.set_parent(identity, parent, channel="shell")
        kernel.saved_sigint_handler = on_interrupt


def _message_type(session: Any, frames: Any) -> str:
    """The type of a message still in its frames, which may be unpacked in full only once."""
    _, (_, header, *_) = session.feed_identities(frames, copy=False)
    return session.unpack(header.bytes)["msg_type"]
