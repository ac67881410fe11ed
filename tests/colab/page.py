"""A real kernel, and what stands for a browser's page: it speaks its messages, and listens."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = PATIENCE_SECONDS = 60
SHORTLY = 0.05


class Page:
    """What a page does with a kernel: it runs cells, moves widgets and shows what they hold.

    Attributes:
        state: widget id -> what the kernel last said of it, by trait.
        told: (widget id, trait, value) of every change that the kernel told, in order.
        replies: ids of the cells that were answered, in that order.
    """

    def __init__(self, client: BlockingKernelClient):
        self.state: dict[str, dict[str, Any]] = defaultdict(dict)
        self.told: list[tuple[str, str, Any]] = []
        self.replies: list[str] = []
        self._client = client
        self._printed: dict[str, str] = defaultdict(str)
        self._idle: set[str] = set()

    def run(self, code: str) -> str:
        """Ask for a cell and return its id; others may wait for their turn before it."""
        return self._client.execute(code)

    def outcome(self, cell: str) -> str:
        """What a cell printed, with the error that ended it; waits for its reply."""
        self.wait_until("the cell's reply", lambda: self.is_answered(cell) and cell in self.replies)
        return self._printed[cell]

    def evaluate(self, expression: str) -> Any:
        """The value of an expression that JSON can hold."""
        code = f"import json; print(json.dumps({expression}))"
        printed = self.outcome(self.run(code))
        try:
            return json.loads(printed)
        except json.JSONDecodeError:
            raise AssertionError(f"{expression}: {printed}") from None

    def move(self, widget: str, **state: Any) -> str:
        """Move a widget as a hand on the page does; the message's id."""
        return self._send(widget, {"method": "update", "state": state, "buffer_paths": []})

    def click(self, widget: str) -> str:
        """Click a button; the message's id."""
        return self._send(widget, {"method": "custom", "content": {"event": "click"}})

    def interrupt(self) -> None:
        """The page's stop button."""
        client = self._client
        client.control_channel.send(client.session.msg("interrupt_request", {}))

    def is_answered(self, message: str) -> bool:
        """Whether the kernel said that it is done with a message; a widget waits for that."""
        return message in self._idle

    def wait_until(self, what: str, holds: Callable[[], bool]) -> None:
        """Listen to the kernel until a condition holds."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < end, f"{what}: not seen in {PATIENCE_SECONDS} s"
            self._listen()

    def _send(self, widget: str, data: dict[str, Any]) -> str:
        client = self._client
        message = client.session.msg("comm_msg", {"comm_id": widget, "data": data})
        client.shell_channel.send(message)
        return message["header"]["msg_id"]

    def _listen(self) -> None:
        """Take in all that waits, or what comes shortly."""
        with contextlib.suppress(Empty):
            while True:
                reply = self._client.get_shell_msg(timeout=0)
                if reply["msg_type"] == "execute_reply":
                    self.replies.append(reply["parent_header"]["msg_id"])
        with contextlib.suppress(Empty):
            seconds = SHORTLY
            while True:
                self._hear(self._client.get_iopub_msg(timeout=seconds))
                seconds = 0

    def _hear(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        parent = message["parent_header"].get("msg_id", "")
        if kind == "stream":
            self._printed[parent] += content["text"]
        elif kind == "error":
            self._printed[parent] += f"{content['ename']}: {content['evalue']}\n"
        elif kind == "status" and content["execution_state"] == "idle":
            self._idle.add(parent)
        elif kind in ("comm_open", "comm_msg") and "state" in content["data"]:
            widget = content["comm_id"]
            self.state[widget].update(content["data"]["state"])
            self.told += [(widget, *item) for item in content["data"]["state"].items()]


@contextlib.contextmanager
def open_page(stack: Path | None) -> Iterator[Page]:
    """A kernel of this Python, ended afterwards.

    Args:
        stack: packages that go before this Python's own; None for none.
    """
    path = os.pathsep.join(str(folder) for folder in (stack, REPOSITORY) if folder is not None)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    for wish in ("SBLD_PANEL", "SBLD_TIER"):
        environment.pop(wish, None)
    manager = KernelManager()
    manager.start_kernel(env=environment)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=START_SECONDS)
        yield Page(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
