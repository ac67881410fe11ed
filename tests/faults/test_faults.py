"""A few of every fault; and that a broken promise would be noticed."""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import threading
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch
from faults import (
    __main__,
    damaged,
    full_disk,
    hostile,
    interruptible,
    judge,
    killed,
    killed_saves,
    lives,
    racing,
    steady,
    twice,
)
from faults.lives import StuckError, shared_nursery
from faults.outcome import Outcome
from faults.worker import Job, plain, run_job

from sbldlib.dropping.skipping import attach
from sbldlib.storage.lock import FolderLock

NAMES = ("killed", "killed_saves", "damaged", "hostile", "full_disk", "interrupted", "racing")


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lives")
    with shared_nursery(folder) as entered:
        yield entered
        job = replace(racing.JOB, folder=str(folder / "run"))
        left = entered.start("faults.racing:contend", job=plain(job), gate=None)
        entered.await_event(left, "trains")
    FolderLock(folder / "run").acquire().release()  # it ended with its nursery


@pytest.fixture(scope="module")
def base(nursery, tmp_path_factory):
    return damaged.make_base(nursery, tmp_path_factory.mktemp("base"), 0, kill=True)


@pytest.mark.parametrize("name", [*NAMES, "steady"])
def test_promises_are_kept(name, nursery, tmp_path):
    _, num = __main__.FAULTS[name]
    found = __import__(f"faults.{name}", fromlist=["run"]).run(num, seed=1, folder=tmp_path)
    for outcome in found if isinstance(found, tuple) else (found,):
        assert outcome.kept == outcome.tried, outcome.failures
        assert outcome.tried >= (1 if name == "steady" else num)


def test_what_was_to_be_broken_was(nursery, tmp_path):
    found = killed.run(2, seed=2, folder=tmp_path / "killed")
    assert found.figures["lives"] > found.figures["runs"]
    found = killed_saves.run(6, seed=2, folder=tmp_path / "saves")
    assert found.figures["at random moments"] == found.figures["at calls"] == 3
    assert found.figures["calls of a save"] > 40 and found.figures["saves left half done"] > 0


def test_weights_that_are_moved_where_a_run_is_taken_up_are_noticed(nursery, tmp_path):
    found = killed.run(4, seed=3, folder=tmp_path, perturb=True)
    assert found.kept < found.tried
    assert any(" at step " in words for words in found.failures), found.failures


def test_a_difference_names_its_step():
    step = {"losses": 1.0, "norms": 1.0, "layers": [0], "keep": [], "controls": {}}
    whole: dict = {name: [value] * 3 for name, value in step.items()}
    whole |= {"steps": [0, 1, 2], "evaluations": [{}, {}, {"loss": 2.0}], "log": [], "inexact": []}
    whole |= dict.fromkeys(("weights", "optimizer", "generators", "outcome"), "same")
    assert judge.difference(whole, whole) is None
    other = {**whole, "losses": [1.0, 1.0 + 2**-52, 1.0]}
    assert str(judge.difference(other, whole)).startswith("losses at step 1: 1.0000000000000002")
    assert "weights" in str(judge.difference({**whole, "weights": "other"}, whole))
    lacking = {**whole, **{name: whole[name][1:] for name in (*step, "steps", "evaluations")}}
    assert judge.difference(lacking, whole) == "2 steps for 3"
    assert judge.difference(lacking, whole, may_lack_steps=True) is None


def test_a_mixture_of_two_saves_is_noticed(tmp_path):
    state = killed_saves.State(tmp_path, saved=(4, 0), begun=(5, 1))
    tree, other = killed_saves.made(5, 1, 100), killed_saves.made(5, 0, 100)
    assert killed_saves.belongs(5, tree, state) is None
    for part in ("model", "optimizer", "saved", "callbacks"):
        assert "a mixture" in str(killed_saves.belongs(5, {**tree, part: other[part]}, state))
    assert "what was saved at 5" in str(killed_saves.belongs(4, tree, state))
    too_old = killed_saves.belongs(3, killed_saves.made(3, 0, 100), state)
    assert "(4, 0) was saved" in str(too_old)


def test_damage_with_a_manifest_that_agrees_shows_in_the_result(nursery, base, tmp_path):
    life = nursery.start(
        "faults.damaged:tries",
        fault="a bit flipped in a file",
        seeds=[f"{i}" for i in range(6)],
        bases={"killed": str(base)},
        results=str(tmp_path / "results.json"),
        resign=True,
    )
    assert life.wait() == 0, life.last
    told = [failure for _, _, failure in judge.read(tmp_path / "results.json") if failure]
    assert any(" at step " in failure or "weights" in failure for failure in told), told


@pytest.mark.parametrize("fault", damaged.DAMAGES)
def test_damage_damages(fault):
    draw, content = random.Random(0), bytes(range(200))
    changed = [damaged.DAMAGES[fault](content, draw) for _ in range(50)]
    assert len(set(changed)) > 40 and content not in changed


@pytest.mark.parametrize(
    ("payload", "ending"),
    [
        (lambda place: place.canary.mkdir(), "ran"),
        (lambda place: (place.run / "settings.json").unlink(), "refused"),
        (lambda place: None, "trained on"),
    ],
)
def test_code_that_runs_is_noticed(payload, ending, nursery, base, tmp_path, monkeypatch):
    monkeypatch.setitem(hostile.PAYLOADS, "mine", payload)
    found, failure = hostile.one_try("mine", base, tmp_path / "try", nursery)
    assert found == ending and (failure is not None) == (ending == "ran")


def test_a_full_disk_must_be_said_to_be_full():
    told = {"error": "CheckpointError", "words": "run/ledger.jsonl: the disk is full"}
    assert full_disk.why_not_told(told) is None and full_disk.told_where(told) == "ledger.jsonl"
    assert "does not say" in str(full_disk.why_not_told({**told, "words": "it failed"}))
    assert "OSError" in str(full_disk.why_not_told({**told, "error": "OSError"}))


def test_two_that_train_are_noticed(nursery, tmp_path, monkeypatch):
    own = iter(range(100))
    apart = lambda job: plain(replace(job, folder=f"{job.folder}-{next(own)}"))  # noqa: E731
    each = [apart(replace(racing.JOB, folder=str(tmp_path / "run"))) for _ in range(3)]
    start = nursery.start
    monkeypatch.setattr(
        nursery, "start", lambda task, job, gate: start(task, job=each.pop(), gate=gate)
    )
    found = racing.race(3, nursery, tmp_path, 0)
    # On a busy machine one may have come too late to train with the others.
    assert len(found) == 3 and found[0].startswith(("2 trained", "3 trained"))


def test_a_leak_is_noticed(nursery, tmp_path):
    job = Job(steps=60, folder=str(tmp_path / "run"), write=str(tmp_path / "told.json"))
    life = nursery.start("faults.steady:watched", job=plain(job), leak_bytes=500_000)
    assert life.wait() == 0, life.last
    told = judge.read(tmp_path / "told.json")
    assert "MB became" in str(steady.why_not_steady(told))
    assert steady.why_not_steady({**told, "MB at the end": told["MB after warming up"]}) is None
    more = {**told, "MB at the end": 0, "files at the end": told["files at the end"] + 1}
    assert "files became" in str(steady.why_not_steady(more))


def test_what_an_interrupt_must_not_leave_is_noticed(monkeypatch):
    monkeypatch.setattr(interruptible, "HERE", interruptible.Here())
    monkeypatch.setattr(
        interruptible, "THREADS", {thread.ident for thread in threading.enumerate()}
    )
    parts = interruptible.make_parts(Job())
    interruptible.put_here(model=parts.model, optimizer=parts.optimizer, may_change=False)
    assert interruptible.complaints() == []
    attach(parts.model).set_dropped({1})
    parts.optimizer.param_groups[0]["lr"] = 1.0
    with torch.no_grad():
        next(parts.model.parameters()).add_(1)
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="left")
    thread.start()
    words = " ".join(interruptible.complaints())
    over.set()
    thread.join()
    for what in ("the thread 'left'", "still dropped", "weights have changed", "learning rate"):
        assert what in words


# ---- notebooks


def notebook(path: Path, *lines: str) -> Path:
    cells = [nbformat.v4.new_code_cell(line) for line in lines]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def test_notebooks_that_tell_other_numbers_or_leave_files_are_noticed(tmp_path):
    good = notebook(tmp_path / "good.ipynb", "import time\nprint(f'{time.time()} s'); 1 + 1")
    other = notebook(tmp_path / "other.ipynb", "import time; time.time()")
    files = notebook(tmp_path / "files.ipynb", "open('../left.txt', 'w').close()")
    found = twice.run(2, seed=0, folder=tmp_path / "run", notebooks=(good, other, files))
    assert found.tried == 6 and found.kept == 4
    told = " ".join(found.failures)
    assert "other.ipynb: cell 0 told" in told and "files.ipynb: left.txt was touched" in told


def test_only_times_are_passed_over():
    line = "loss 4.330, 12.5 s, 3 ms a step, on 2026-11-21, at 0x7f12, time saved about 7%"
    kept = "loss 4.330, ~, ~ a step, on ~date~, at ~address~, time saved about ~ %"
    assert twice.without_times(line) == kept
    html = (
        "<table><thead><tr><th></th><th>loss</th><th>seconds</th></tr></thead>"
        "<tbody><tr><th>sbld</th><td>4.3</td><td>29.4</td></tr></tbody></table>"
    )
    assert twice.Table.read(html) == " | loss | seconds\nsbld | 4.3 | ~"


# ---- lives


def test_a_fork_is_sound_and_a_fresh_process_does_the_same(nursery, tmp_path):
    came_to = []
    for number, start in enumerate((nursery.start, nursery.start_fresh)):
        job = Job(steps=3, write=str(tmp_path / f"{number}.json"))
        life = start("faults.worker:undisturbed", job=plain(job))
        nursery.await_event(life, "begins")
        assert life.wait() == 0, life.last
        came_to.append(judge.read(tmp_path / f"{number}.json"))
    assert judge.difference(*came_to) is None


def test_how_a_life_ended_is_told(nursery):
    life = nursery.start("faults.worker:live", job={"no_such_field": 1})
    assert life.wait() == 1 and "no_such_field" in life.last
    life = nursery.start("time:sleep", given_nothing=1)
    assert life.wait() == 1
    life = nursery.start("faults.racing:contend", job=plain(Job()), gate="/no/such/gate")
    assert life.wait() == 1 and "FileNotFoundError" in life.last


def test_a_life_that_is_stuck_is_told_and_ended(nursery, tmp_path):
    job = replace(racing.JOB, folder=str(tmp_path / "run"))
    life = nursery.start("faults.racing:contend", job=plain(job), gate=None)
    nursery.await_event(life, "trains")
    with pytest.raises(StuckError, match=f"process {life.pid} is still there"):
        life.wait(0.1)
    assert life.wait() == -9


def test_with_another_thread_nothing_is_forked(monkeypatch):
    monkeypatch.setattr(lives, "num_threads", lambda: 2)
    with pytest.raises(RuntimeError, match="2 threads: a fork would keep one"):
        lives._start({"task": "faults.worker:live"}, set())


def test_the_run_that_is_broken_has_everything_to_lose():
    whole, other_draws = (run_job(Job(steps=6, seed=seed)) for seed in (0, 1))
    assert whole["losses"] != other_draws["losses"]
    assert any(len(layers) < 3 for layers in whole["layers"]) and whole["evaluations"][4]


# ---- the table


def run_main(monkeypatch, tmp_path, outcome: Outcome | Exception, *arguments: str) -> int:
    def run_fault(name: str, num: int, *, seed: int) -> tuple[Outcome, ...]:
        if isinstance(outcome, Exception):
            raise outcome
        return (outcome,)

    monkeypatch.setattr(__main__, "run_fault", run_fault)
    told = str(tmp_path / "faults.json")
    monkeypatch.setattr(sys, "argv", ["faults", "steady", "--out", told, *arguments])
    return __main__.main()


def test_main_ends_with_1_where_a_promise_was_broken(monkeypatch, tmp_path, capsys):
    kept = Outcome(fault="a fault", promise="a promise", tried=3, kept=3)
    assert run_main(monkeypatch, tmp_path, kept) == 0
    broken = dataclasses.replace(kept, kept=2, failures=("try 1: it broke",))
    assert run_main(monkeypatch, tmp_path, broken) == 1
    shown = capsys.readouterr()
    assert "!! a fault: try 1: it broke" in shown.err and "a promise" in shown.out
    rows = json.loads((tmp_path / "faults.json").read_text())["outcomes"]
    assert [(row["name"], row["kept"]) for row in rows] == [("steady", 2)]


def test_a_harness_that_breaks_is_told_and_does_not_end_the_others(monkeypatch, tmp_path, capsys):
    assert run_main(monkeypatch, tmp_path, AssertionError("no kernel")) == 1
    assert "no kernel" in capsys.readouterr().err


def test_every_fault_has_its_module():
    for name in __main__.FAULTS:
        assert (Path(lives.__file__).parent / f"{name}.py").exists(), name
