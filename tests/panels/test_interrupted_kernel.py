"""A real kernel, interrupted while a cell waits for a panel that trains."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from sbldlib import RunRecord
from sbldlib.training.ledger import read_ledger

PATIENCE = 60
SETUP = """
import sys
sys.path.insert(0, {tests!r})
from panels.test_live import SlowBatches, make_panel
"""
TRAIN = """
panel = make_panel(steps={steps}, data=SlowBatches(0.01), folder={folder!r})
await panel.start("thread").wait()
print(panel.text)
"""


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    manager, client = start_new_kernel(startup_timeout=PATIENCE)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def outcome(client, asked: str) -> str:
    """What a cell printed, and the error that ended it."""
    said = []
    while True:
        message = client.get_iopub_msg(timeout=PATIENCE)
        content, kind = message["content"], message["msg_type"]
        if message["parent_header"].get("msg_id") != asked:
            continue
        if kind == "stream":
            said.append(content["text"])
        if kind == "error":
            said.append(f"{content['ename']}: {content['evalue']}")
        if kind == "status" and content["execution_state"] == "idle":
            return "".join(said)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a kernel over TCP says so
def test_the_cell_ends_its_run_at_a_step_and_run_again_goes_on(kernel, tmp_path):
    manager, client = kernel
    setup = SETUP.format(tests=str(Path(__file__).parents[1]))
    assert outcome(client, client.execute(setup)) == ""
    train = TRAIN.format(steps=300, folder=str(tmp_path))
    cell = client.execute(train)
    end = time.monotonic() + PATIENCE
    while len(read_ledger(tmp_path)) < 5:
        assert time.monotonic() < end, "it does not train"
        time.sleep(0.02)
    manager.interrupt_kernel()
    said = outcome(client, cell)
    assert "CancelledError: Stopped after" in said and "saved: run it again to go on" in said
    stopped = RunRecord.load(tmp_path / "run.json")
    assert stopped.outcome == "stopped" and 5 <= len(stopped) < 300
    said = outcome(client, client.execute(train))
    assert "Finished after 300 steps." in said
    run = RunRecord.load(tmp_path / "run.json")
    assert run.steps[: len(stopped)] == stopped.steps and len(run) == 300
    assert [taken_up["step"] for taken_up in run.resumes] == [len(stopped)]
