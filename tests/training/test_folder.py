"""A run's folder that was damaged: named, with a way on; or mended from what is there twice."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from small import Source, gpt, same_weights, weights

from sbldlib.losses import evaluate_loss
from sbldlib.storage.checkpoints import CheckpointError
from sbldlib.storage.files import GONE
from sbldlib.training.checkpoints import CheckpointConfig, load_weights
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.folder import RunFolder
from sbldlib.training.loop import train, train_steps
from sbldlib.training.optimizer import make_optimizer

STEPS = 8
CONFIG = TrainConfig(budget=Budget(steps=STEPS), evaluate_every=2)
KEEP = CheckpointConfig(every_steps=1, keep_last=4, keep_best="loss")
HELD_OUT = [Source().batch(99)]


def arguments(folder: Path, **more) -> dict:
    evaluations = {"loss": lambda model: evaluate_loss(model, HELD_OUT)}
    settings = {"config": CONFIG, "evaluations": evaluations, "checkpoints": KEEP}
    return {**settings, "folder": folder, **more}


def run(folder: Path, **more):
    model = gpt(2, width=8)
    optimizer = make_optimizer(model, learning_rate=1e-2)
    return model, train(model, Source(), optimizer, **arguments(folder, **more))


def begin(folder: Path, steps: int) -> None:
    model = gpt(2, width=8)
    optimizer = make_optimizer(model, learning_rate=1e-2)
    with closing(train_steps(model, Source(), optimizer, **arguments(folder))) as generator:
        for _ in range(steps):
            next(generator)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return (*run(folder), json.loads((folder / "checkpoints" / "best.json").read_text()))


@pytest.fixture
def begun(tmp_path) -> Path:
    begin(tmp_path / "run", 6)
    return tmp_path / "run"


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_where_the_ledger_s_end_is_damaged_an_earlier_checkpoint_goes_on(begun, undisturbed):
    flip(begun / "ledger.jsonl", -20)
    with pytest.raises(CheckpointError, match=r"ledger\.jsonl is damaged.*; resume=5 goes on"):
        run(begun)
    model, record = run(begun, resume=5)
    assert record.losses == undisturbed[1].losses
    assert same_weights(model, weights(undisturbed[0]))


def test_where_its_beginning_is_damaged_the_run_goes_on_without_those_lines(begun, undisturbed):
    flip(begun / "ledger.jsonl", 30)
    with pytest.raises(CheckpointError, match="resume='always' goes on from the newest"):
        run(begun)
    model, record = run(begun, resume="always")
    assert [step.step for step in record] == list(range(1, STEPS))
    assert record.losses == undisturbed[1].losses[1:]
    assert [s.evaluations for s in record] == [s.evaluations for s in undisturbed[1]][1:]
    assert same_weights(model, weights(undisturbed[0]))
    assert (begun / "ledger.jsonl.damaged").exists()
    _, again = run(begun)  # and is whole from now on
    assert again.losses == record.losses


@pytest.mark.parametrize("how", ["damaged", "gone", "a link"])
def test_settings_that_cannot_be_read_are_named_and_can_be_done_without(how, begun, undisturbed):
    path = begun / "settings.json"
    if how == "damaged":
        flip(path, 50)
    else:
        path.unlink()
    if how == "a link":
        path.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=r"settings\.json.*resume='always' goes on"):
        run(begun)
    model, _ = run(begun, resume="always")
    assert same_weights(model, weights(undisturbed[0]))
    assert run(begun)[1].losses == undisturbed[1].losses


def test_a_mark_of_the_best_that_is_damaged_is_written_again(begun, undisturbed):
    mark = begun / "checkpoints" / "best.json"
    flip(mark, mark.read_bytes().index(b"value") + 12)
    with pytest.raises(CheckpointError, match=r"best\.json is damaged"):
        load_weights(gpt(2, width=8), begun, step="best")
    run(begun)
    assert json.loads(mark.read_text()) == undisturbed[2]


def test_going_back_the_best_is_what_it_was_then(begun):
    mark = begun / "checkpoints" / "best.json"
    assert json.loads(mark.read_text())["step"] == 6
    model = gpt(2, width=8)
    optimizer = make_optimizer(model, learning_rate=1e-2)
    taken_up = arguments(begun, resume=4)
    with closing(train_steps(model, Source(), optimizer, **taken_up)) as generator:
        next(generator)
        assert json.loads(mark.read_text())["step"] == 4


def test_never_that_is_killed_in_the_middle_leaves_no_run_half_there(begun, monkeypatch):
    folder = RunFolder(begun, KEEP)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    folder.clear()
    folder.close()
    monkeypatch.undo()
    assert (begun / "settings.json").exists() and not (begun / "checkpoints").exists()
    _, record = run(begun)
    assert record.resumes == () and not list(begun.glob(f".*{GONE}"))


@pytest.mark.parametrize("name", ["ledger.jsonl", "controls.jsonl"])
def test_what_a_link_leads_to_is_not_written(name, begun, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (begun / name).unlink()
    (begun / name).symlink_to(precious)
    with pytest.raises(CheckpointError, match=name):
        run(begun)
    shutil.rmtree(begun / "checkpoints")
    with pytest.raises(CheckpointError, match=name):
        run(begun)
    assert precious.read_text() == "mine"


def test_a_checkpoint_under_another_step_s_name_is_refused(begun):
    checkpoints = begun / "checkpoints"
    shutil.rmtree(checkpoints / "step-00000006")
    shutil.copytree(checkpoints / "step-00000005", checkpoints / "step-00000006")
    with pytest.raises(CheckpointError, match="step-00000006 is of step 5"):
        run(begun)
