from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections import deque
from types import SimpleNamespace

import pytest

from sbldlib.panels import driver, kernels
from sbldlib.panels.driver import DRIVERS, Driver, choose_driver, describe_driver, watch
from sbldlib.panels.kernels import answer_widgets, serve_widgets, wait_for


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch):
    monkeypatch.delenv("SBLD_PANEL", raising=False)
    monkeypatch.delenv("SBLD_TIER", raising=False)


@pytest.fixture
def place(monkeypatch):
    """Sets what is found here: a notebook, versions by package, a platform."""

    def set_place(*, notebook: bool = True, platform: str = "linux", **versions: str | None):
        monkeypatch.setattr(driver, "kernel_here", lambda: object() if notebook else None)
        monkeypatch.setattr(driver, "installed_version", versions.get)
        monkeypatch.setattr(driver, "sys", SimpleNamespace(platform=platform))

    return set_place


def test_outside_of_a_notebook_there_is_nobody_to_steer():
    assert choose_driver() == "inline"


@pytest.mark.parametrize(
    ("ipykernel", "platform", "suited"),
    [
        ("7.4.0", "linux", "thread"),
        ("7.0.1", "win32", "thread"),
        ("10.0.0", "darwin", "thread"),
        (None, "linux", "thread"),
        ("6.17.1", "linux", "awaited"),
        ("6.31.0", "linux", "awaited"),
        ("6.17.1", "emscripten", "chunked"),
        (None, "emscripten", "chunked"),
    ],
)
def test_a_notebook_gets_the_driver_that_suits_it(place, monkeypatch, ipykernel, platform, suited):
    place(ipykernel=ipykernel, platform=platform)
    assert choose_driver() == suited
    monkeypatch.setenv("SBLD_TIER", "smoke")
    assert choose_driver() == "inline"
    place(ipykernel=ipykernel, platform=platform, notebook=False)
    monkeypatch.delenv("SBLD_TIER")
    assert choose_driver() == "inline"


def test_the_environment_overrules_the_place_and_the_argument_both(place, monkeypatch):
    place(ipykernel="7.4.0")
    monkeypatch.setenv("SBLD_TIER", "smoke")
    monkeypatch.setenv("SBLD_PANEL", "awaited")
    assert choose_driver() == "awaited"
    assert choose_driver("chunked") == "chunked"
    monkeypatch.setenv("SBLD_PANEL", "")  # as good as unset
    assert choose_driver() == "inline"


@pytest.mark.parametrize(
    ("wish", "hint"),
    [("tread", "did you mean 'thread'"), ("sync", "awaited, chunked, inline, thread")],
)
def test_an_unknown_driver_is_refused_with_what_would_be_right(monkeypatch, wish, hint):
    monkeypatch.setenv("SBLD_PANEL", wish)
    with pytest.raises(ValueError, match=rf"driver='{wish}' is not known.*{hint}"):
        choose_driver()
    with pytest.raises(ValueError, match=rf"driver='{wish}' is not known.*{hint}"):
        describe_driver(wish)


def test_the_broken_ipykernel_is_refused_with_a_sentence(place):
    place(ipykernel="7.0.0")
    for wish in (None, "thread", "awaited"):
        with pytest.raises(RuntimeError, match=r"ipykernel 7\.0\.0 lets.*SBLD_PANEL=chunked"):
            choose_driver(wish)
    assert [choose_driver(wish) for wish in ("chunked", "inline")] == ["chunked", "inline"]


def test_a_thread_is_refused_where_there_are_none(place):
    place(ipykernel="7.4.0", platform="emscripten")
    for wish in ("thread", "awaited"):
        with pytest.raises(RuntimeError, match=rf"driver='{wish}' needs a thread.*chunked"):
            choose_driver(wish)


def test_a_driver_says_what_was_found_and_what_is_to_be_done(place):
    place(ipykernel="6.17.1", ipywidgets="7.7.1")
    said = {name: describe_driver(name) for name in DRIVERS}
    for name, sentence in said.items():
        assert sentence.startswith(f"Driver {name} (ipykernel 6.17.1, ipywidgets 7.7.1) ")
        assert sentence.endswith(".") and sentence.count(". ") == 0
    assert "`await panel.wait()` in the panel's own cell" in said["awaited"]
    assert "run other cells meanwhile" in said["thread"]
    assert "let the cell end, then click" in said["chunked"]
    assert "nothing can be steered" in said["inline"]
    place(notebook=False, ipykernel="7.4.0", ipywidgets="8.1.9")
    assert "(no notebook, ipywidgets 8.1.9)" in describe_driver("inline")
    place()
    assert "(no ipykernel, no ipywidgets)" in describe_driver("chunked")


def counted(steps: list[int], num: int = 5, before=lambda: None):
    """A generator that notes its steps, and makes each wait for `before`."""
    for step in range(num):
        before()
        steps.append(step)
        yield step


def in_chunks(driver: Driver, num_steps: int) -> list[bool]:
    left = [driver.run_chunk(num_steps)]
    while left[-1]:
        left.append(driver.run_chunk(num_steps))
    return left


def test_inline_in_a_thread_and_in_chunks_take_the_same_steps():
    taken = [[], [], []]
    inline, threaded, chunked = (Driver(lambda each=each: counted(each)) for each in taken)
    inline.run()
    threaded.run_in_thread()
    asyncio.run(watch(threaded, lambda: 0.001))
    in_chunks(chunked, 2)
    assert taken == [[0, 1, 2, 3, 4]] * 3
    for each in (inline, threaded, chunked):
        assert each.is_over and not each.is_running
        each.check()


@pytest.mark.parametrize(
    ("num_steps", "left"),
    [(1, [True] * 5 + [False]), (2, [True, True, False]), (5, [True, False]), (6, [False])],
)
def test_a_chunk_takes_so_many_steps_and_says_whether_some_are_left(num_steps, left):
    steps, sizes = [], []
    chunked = Driver(lambda: counted(steps))
    assert not chunked.is_running and not chunked.is_over
    for expected in left:
        before = len(steps)
        assert chunked.run_chunk(num_steps) is expected
        sizes.append(len(steps) - before)
        assert chunked.is_running is expected and chunked.is_over is not expected
    assert max(sizes) == min(num_steps, 5) and sum(sizes) == 5
    assert chunked.run_chunk(num_steps) is False and len(steps) == 5


def test_what_ends_a_run_is_kept_for_check():
    def steps():
        yield 1
        raise KeyboardInterrupt("in the middle")

    threaded, chunked = Driver(steps), Driver(steps)
    threaded.run_in_thread()
    asyncio.run(watch(threaded, lambda: 0.001))
    assert in_chunks(chunked, 1) == [True, False]
    for broken in (threaded, chunked):
        assert broken.is_over
        with pytest.raises(KeyboardInterrupt, match="in the middle"):
            broken.check()


def test_a_generator_that_cannot_be_made_is_an_error_of_the_run():
    def make_steps():
        raise OSError("no folder")

    broken = Driver(make_steps)
    assert broken.run_chunk(1) is False and broken.is_over
    with pytest.raises(OSError, match="no folder"):
        broken.check()


def test_a_driver_is_stopped_and_waited_for():
    asked, go = threading.Event(), threading.Event()
    held = Driver(lambda: counted([], 3, lambda: go.wait(10)), stop=asked.set)
    held.run_in_thread()
    assert held.stop(0.01) is False and asked.is_set() and held.is_running
    go.set()
    assert held.stop() is True and held.is_over


def test_a_chunked_run_is_stopped_at_its_next_step():
    asked, steps, ended = threading.Event(), [], []

    def until_asked():
        while not asked.is_set():
            steps.append(len(steps))
            yield
        ended.append("saved")

    chunked = Driver(until_asked, stop=asked.set)
    assert chunked.run_chunk(3) is True
    assert chunked.stop() is True and chunked.is_over
    assert steps == [0, 1, 2] and ended == ["saved"]
    unstoppable = Driver(lambda: counted([], 3, lambda: time.sleep(0.02)))
    assert unstoppable.run_chunk(1) and unstoppable.stop(0.01) is False
    assert unstoppable.is_running and unstoppable.stop() is True


def test_a_step_that_calls_its_own_driver_does_not_end_it():
    asked, steps = threading.Event(), []

    def until_asked():
        while not asked.is_set():
            steps.append(len(steps))
            if len(steps) == 2:
                assert own.run_chunk(5) is True and own.stop(10) is False
            yield

    own = Driver(until_asked, stop=asked.set)
    own.run()
    own.check()
    assert steps == [0, 1] and own.is_over


def test_two_clicks_on_two_threads_take_their_chunks_one_after_the_other():
    steps, began, go = [], threading.Event(), threading.Event()
    run = Driver(lambda: counted(steps, 9, lambda: (began.set(), go.wait(10))))
    clicks = [threading.Thread(target=run.run_chunk, args=(3,)) for _ in range(2)]
    clicks[0].start()
    assert began.wait(10)
    clicks[1].start()
    go.set()
    for click in clicks:
        click.join(10)
    run.check()
    assert len(steps) == 6 and run.is_running


def test_a_run_in_chunks_that_was_not_begun_has_nothing_to_stop():
    never = Driver(lambda: pytest.fail("it began"), stop=lambda: None)
    assert never.stop() is True and not never.is_over


def test_a_process_that_ends_lets_its_runs_end_at_a_step():
    code = """
import threading, time
from sbldlib.panels.driver import Driver
def begin(name):
    asked = threading.Event()
    def steps():
        while not asked.is_set():
            time.sleep(0.01)
            yield
        print("saved", name)
    return Driver(steps, stop=asked.set)
threaded, chunked, never = map(begin, ("thread", "chunks", "never"))
threaded.run_in_thread()
chunked.run_chunk(1)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert sorted(run.stdout.splitlines()) == ["saved chunks", "saved thread"]
    assert (run.stderr, run.returncode) == ("", 0)


@pytest.mark.parametrize("num_steps", [None, 1, 2])
@pytest.mark.parametrize("fails", [False, True])
def test_the_generator_is_closed_whatever_ended_it(fails, num_steps):
    closed = []

    class Steps:
        def __init__(self):
            self.left = [1, 2]

        def __iter__(self):
            return self

        def __next__(self):
            if fails:
                raise OSError("no disk")
            if not self.left:
                raise StopIteration
            return self.left.pop()

        def close(self):
            closed.append(True)

    driver = Driver(Steps)
    if num_steps is None:
        driver.run()
    else:
        in_chunks(driver, num_steps)
    assert closed == [True] and isinstance(driver.error, OSError) == fails


def test_an_error_while_closing_is_kept_too():
    class Unclosable:
        def __iter__(self):
            return self

        def __next__(self):
            raise StopIteration

        def close(self):
            raise OSError("it cannot be saved")

    driver = Driver(Unclosable)
    driver.run()
    assert driver.is_over
    with pytest.raises(OSError, match="it cannot be saved"):
        driver.check()


def test_the_last_refresh_comes_after_the_last_step():
    go, seen, steps = threading.Event(), [], []
    held = Driver(lambda: counted(steps, 3, lambda: go.wait(10)))

    def refresh() -> float:
        seen.append(len(steps))
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
    monkeypatch.setattr(kernels, "kernel_here", lambda: kernel)

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
