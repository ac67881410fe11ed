from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from types import SimpleNamespace

import pytest

from sbldlib.panels import driver
from sbldlib.panels.driver import (
    Driver,
    answer_widgets,
    choose_mode,
    serve_widgets,
    wait_for,
    watch,
)


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch):
    monkeypatch.delenv("SBLD_PANEL", raising=False)
    monkeypatch.delenv("SBLD_TIER", raising=False)


@pytest.fixture
def in_a_notebook(monkeypatch):
    monkeypatch.setattr(driver, "kernel_here", lambda: object())


def test_outside_of_a_notebook_there_is_nobody_to_steer():
    assert choose_mode() == "sync"


def test_in_a_notebook_a_hand_may_steer(in_a_notebook, monkeypatch):
    assert choose_mode() == "thread"
    monkeypatch.setenv("SBLD_TIER", "smoke")
    assert choose_mode() == "sync"
    monkeypatch.setenv("SBLD_PANEL", "thread")
    assert choose_mode() == "thread"
    assert choose_mode("sync") == "sync"


def test_unknown_mode_suggests_the_nearest(monkeypatch):
    monkeypatch.setenv("SBLD_PANEL", "tread")
    with pytest.raises(ValueError, match=r"mode='tread' is not known.*did you mean 'thread'"):
        choose_mode()


def test_the_broken_ipykernel_is_refused_with_a_sentence(in_a_notebook, monkeypatch):
    monkeypatch.setattr(driver, "installed_version", lambda package: "7.0.0")
    with pytest.raises(RuntimeError, match=r"ipykernel 7\.0\.0 lets background threads die"):
        choose_mode()
    assert choose_mode("sync") == "sync"


def test_inline_and_in_a_thread_give_the_same_records():
    inline, threaded = Driver(lambda: iter(range(5))), Driver(lambda: iter(range(5)))
    inline.run()
    threaded.run_in_thread()
    asyncio.run(watch(threaded, lambda: 0.001))
    assert inline.records == threaded.records == [0, 1, 2, 3, 4]


def test_what_ends_a_thread_is_kept_for_check():
    def steps():
        yield 1
        raise KeyboardInterrupt("in the middle")

    broken = Driver(steps)
    broken.run_in_thread()
    asyncio.run(watch(broken, lambda: 0.001))
    assert broken.records == [1]
    with pytest.raises(KeyboardInterrupt, match="in the middle"):
        broken.check()


def test_a_driver_is_stopped_and_waited_for():
    asked, go = threading.Event(), threading.Event()
    held = Driver(lambda: (go.wait(10) and step for step in range(3)), stop=asked.set)
    held.run_in_thread()
    assert held.stop(0.01) is False and asked.is_set() and held.is_running
    go.set()
    assert held.stop() is True and not held.is_running


@pytest.mark.parametrize("fails", [False, True])
def test_the_generator_is_closed_whatever_ended_it(fails):
    closed = []

    def steps():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    driver = Driver(steps)
    if fails:
        driver.records = None  # the next append raises, and its traceback is kept
    driver.run()
    assert closed == [True] and (driver.error is not None) == fails


def test_the_last_refresh_comes_after_the_last_record():
    go, seen = threading.Event(), []
    held = Driver(lambda: (go.wait(10) and step for step in range(3)))

    def refresh() -> float:
        seen.append(len(held.records))
        go.set()
        return 0.001

    held.run_in_thread()
    asyncio.run(watch(held, refresh))
    assert seen[0] == 0 and seen[-1] == 3


def test_waiting_raises_what_the_drawing_raised():
    async def scenario():
        async def draws():
            raise OSError("no pixels")

        await wait_for(asyncio.create_task(draws()))

    with pytest.raises(OSError, match="no pixels"):
        asyncio.run(scenario())


def test_an_interrupted_wait_leaves_the_panel_alive():
    async def scenario():
        task = asyncio.create_task(asyncio.sleep(0.05))
        waiting = asyncio.create_task(wait_for(task))
        await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not task.cancelled()
        await wait_for(task)
        assert task.done() and not task.cancelled()

    asyncio.run(scenario())


class OldKernel:
    """The parts of an ipykernel 6 that serving touches: one queue, one message at work."""

    def __init__(self, *message_types: str):
        self.session = SimpleNamespace(
            feed_identities=lambda frames, copy: (None, frames), unpack=lambda header: header
        )
        self._parent_ident, self.parent = {"shell": b"cell"}, "cell"
        self.saved_sigint_handler = "ours"
        self.waiting = deque(self.item(kind) for kind in message_types)
        self.handled: list[str] = []
        self.msg_queue = SimpleNamespace(
            qsize=self.waiting.__len__,
            get_nowait=self.waiting.popleft,
            put_nowait=self.waiting.append,
        )

    def item(self, kind: str):
        header = SimpleNamespace(bytes={"msg_type": kind})
        return (0, self.dispatch, ([b"signature", header, b"content"],))

    def types(self) -> list[str]:
        return [frames[1].bytes["msg_type"] for _, _, (frames,) in self.waiting]

    async def dispatch(self, frames) -> None:
        kind = frames[1].bytes["msg_type"]
        self.handled.append(kind)
        self.set_parent(b"other", kind, "shell")
        self.saved_sigint_handler = "default"
        if kind == "comm_open":
            self.waiting.append(self.item("comm_msg"))  # one that arrives meanwhile
        if kind == "comm_close":
            raise KeyboardInterrupt

    def get_parent(self, channel: str) -> str:
        return self.parent

    def set_parent(self, identity, parent, channel) -> None:
        self._parent_ident["shell"], self.parent = identity, parent


def test_old_kernels_serve_widgets_and_keep_the_cells_in_turn():
    kernel = OldKernel("execute_request", "comm_open", "execute_request", "kernel_info_request")
    asyncio.run(serve_widgets(kernel))
    assert kernel.handled == ["comm_open", "kernel_info_request", "comm_msg"]
    assert kernel.types() == ["execute_request", "execute_request"]
    assert (kernel.parent, kernel._parent_ident["shell"]) == ("cell", b"cell")
    assert kernel.saved_sigint_handler == "ours"


def test_an_interrupt_while_serving_loses_no_cell():
    kernel = OldKernel("execute_request", "comm_close", "comm_msg")
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(serve_widgets(kernel))
    assert sorted(kernel.types()) == ["comm_msg", "execute_request"]
    assert kernel.parent == "cell"


def test_a_wait_serves_until_the_task_is_done(monkeypatch):
    kernel = OldKernel("comm_msg")
    monkeypatch.setattr(driver, "kernel_here", lambda: kernel)

    async def scenario():
        async def until_served():
            end = time.monotonic() + 10
            while not kernel.handled and time.monotonic() < end:
                await asyncio.sleep(0.001)

        await wait_for(asyncio.create_task(until_served()))

    asyncio.run(scenario())
    assert kernel.handled == ["comm_msg"]


class SilentKernel:
    """An ipykernel 7.4: it handles a widget's message during a cell, and does not say so."""

    def __init__(self):
        self.said: list[tuple[str, str]] = []
        self.handled: list[tuple] = []

    async def dispatch_shell(self, msg, /, subshell_id=None, *, concurrent=False):
        self.handled.append((msg, subshell_id, concurrent))

    def _publish_status(self, status, channel):
        self.said.append((status, channel))


def test_a_silent_kernel_is_made_to_answer_once_each():
    kernel = SilentKernel()
    answer_widgets(kernel)
    answer_widgets(kernel)
    asyncio.run(kernel.dispatch_shell("comm", subshell_id=None, concurrent=True))
    asyncio.run(kernel.dispatch_shell("cell", subshell_id="s"))
    assert kernel.handled == [("comm", None, True), ("cell", "s", False)]
    assert kernel.said == [("idle", "shell")]


def test_other_kernels_are_left_alone():
    class Plain:
        async def dispatch_shell(self, msg, /, subshell_id=None): ...

    kernel = Plain()
    answer_widgets(kernel)
    assert "dispatch_shell" not in vars(kernel)
    answer_widgets(object())
