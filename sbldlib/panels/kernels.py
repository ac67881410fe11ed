"""What panels need of a notebook's kernel, and what ipykernel 6 and 7.4 leave to be done for it."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from IPython.core.getipython import get_ipython

POLL_SECONDS = 0.03


def kernel_here() -> Any:
    """The notebook kernel that this code runs in, or None."""
    return getattr(get_ipython(), "kernel", None)


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
