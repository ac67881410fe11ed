"""The lock: one holder, named to the others, and gone with its process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from sbldlib.storage.lock import LOCK, FolderLock, RunBusyError

HOLD = """
import sys, time
from sbldlib.storage.lock import FolderLock
FolderLock(sys.argv[1]).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_holder_is_told_who_holds_it(tmp_path):
    with FolderLock(tmp_path):
        words = rf"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(RunBusyError, match=words):
            FolderLock(tmp_path).acquire()
    with FolderLock(tmp_path):  # given back
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert (tmp_path / LOCK).read_text() == ""


def test_of_many_that_race_one_wins(tmp_path):
    barrier = Barrier(20)

    def race(_: int) -> FolderLock | None:
        barrier.wait()
        try:
            return FolderLock(tmp_path).acquire()
        except RunBusyError:
            return None

    with ThreadPoolExecutor(20) as threads:
        winners = [lock for lock in threads.map(race, range(20)) if lock is not None]
    assert len(winners) == 1
    winners[0].release()


def test_a_killed_holder_s_lock_is_free_at_once(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(RunBusyError, match=f"process {holder.pid}"):
            FolderLock(tmp_path).acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with FolderLock(tmp_path):
        pass


def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path):
    lock = FolderLock(tmp_path).acquire()
    child = os.fork()
    if child == 0:
        time.sleep(20)
        os._exit(0)
    try:
        # As the parent's death would: its file is closed, and nothing is unlocked by hand.
        os.close(lock._descriptor)
        lock._descriptor = None
        deadline = time.monotonic() + 10
        while True:  # the child may not have begun yet
            try:
                FolderLock(tmp_path).acquire().release()
                break
            except RunBusyError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_damaged_note_of_the_holder_changes_nothing(tmp_path):
    with FolderLock(tmp_path):
        (tmp_path / LOCK).write_text("{")
        with pytest.raises(RunBusyError, match="another process"):
            FolderLock(tmp_path).acquire()


def test_a_dead_holder_is_not_named(tmp_path, monkeypatch):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    monkeypatch.setattr("sbldlib.storage.lock._PATIENCE_SECONDS", 0.05)
    with FolderLock(tmp_path):
        known = json.loads((tmp_path / LOCK).read_text())
        (tmp_path / LOCK).write_text(json.dumps({**known, "pid": dead.pid}))
        with pytest.raises(RunBusyError, match="written by another process"):
            FolderLock(tmp_path).acquire()
        (tmp_path / LOCK).write_text(json.dumps({**known, "pid": dead.pid, "host": "elsewhere"}))
        with pytest.raises(RunBusyError, match=f"process {dead.pid} on elsewhere"):
            FolderLock(tmp_path).acquire()


def test_what_a_link_leads_to_is_not_written(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / LOCK).symlink_to(precious)
    with pytest.raises(RunBusyError, match=r"cannot be locked: .* is a link"):
        FolderLock(tmp_path).acquire()
    assert precious.read_text() == "mine"
