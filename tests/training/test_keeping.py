"""Runs in folders: taken up bit for bit, wherever they ended, or refused with the reason."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import Source, gpt, same_weights, weights
from torch import nn

from sbldlib.live.dropping import LiveDropping
from sbldlib.losses import evaluate_loss
from sbldlib.methods import adjust_probability, make_method
from sbldlib.records import RunRecord, SensitivityData
from sbldlib.storage.checkpoints import CheckpointError
from sbldlib.storage.lock import FolderLock, RunBusyError
from sbldlib.training.callbacks import Callback
from sbldlib.training.checkpoints import CheckpointConfig, load_weights
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.controls import Controls
from sbldlib.training.folder import RunMismatchError
from sbldlib.training.interrupts import TrainingInterrupted
from sbldlib.training.ledger import read_ledger
from sbldlib.training.loop import train, train_steps
from sbldlib.training.optimizer import make_optimizer

STEPS = 9
CONFIG = TrainConfig(budget=Budget(steps=STEPS), evaluate_every=4, accumulate=2)
HELD_OUT = [Source().batch(99)]
SENSITIVITY = SensitivityData(values=(3.0, 1.0, 0.0, 2.0), standard_errors=(0.1,) * 4)


class NoisyGPT(nn.Module):
    """A GPT that draws from torch's own generator in every forward, as dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.gpt = gpt()
        self.noise = nn.Dropout(0.1)

    def forward(self, tokens_BT):
        return self.noise(self.gpt(tokens_BT))


class Trained:
    """One run's parts, made anew as another process would make them."""

    def __init__(self, method: str = "uniform", *, seed: int = 3, **draws):
        torch.manual_seed(5)
        self.model = NoisyGPT()
        self.optimizer = make_optimizer(self.model, learning_rate=1e-2)
        options = {"sensitivity_data": SENSITIVITY} if method in ("sbld", "dropbp") else {}
        self.callbacks = [
            make_method(method, self.model, saving=0.25, seed=seed, **options, **draws)
        ]
        self.controls: Controls | None = None

    def arguments(self, folder: Path | None, **changes) -> dict:
        evaluations = {"loss": lambda model: evaluate_loss(model, HELD_OUT)}
        return {
            "config": CONFIG,
            "callbacks": self.callbacks,
            "evaluations": evaluations,
            "controls": self.controls,
            "folder": folder,
            **changes,
        }

    def train(self, folder: Path | None = None, **changes) -> RunRecord:
        return train(self.model, Source(), self.optimizer, **self.arguments(folder, **changes))

    def begin(self, folder: Path, steps: int, **changes) -> None:
        """Some steps, and then an end without a word, as a kill is one."""
        running = train_steps(
            self.model, Source(), self.optimizer, **self.arguments(folder, **changes)
        )
        with closing(running):
            for _ in range(steps):
                next(running)


def facts(run: RunRecord) -> list[tuple]:
    """What must be equal, bit for bit: all but the seconds."""
    return [
        (
            *(s.loss_nats, s.gradient_norm, s.learning_rate, s.layers_run, s.flops),
            *(s.evaluations, s.keep_probability, s.controls, s.progress),
        )
        for s in run
    ]


def optimizer_state(trained: Trained) -> list[torch.Tensor]:
    state = trained.optimizer.state_dict()["state"]
    return [tensor for each in state.values() for tensor in each.values()]


def assert_equal(one: Trained, run: RunRecord, other: Trained, expected: RunRecord) -> None:
    assert facts(run) == facts(expected)
    assert same_weights(one.model, weights(other.model))
    pairs = zip(optimizer_state(one), optimizer_state(other), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def undisturbed() -> tuple[Trained, RunRecord]:
    trained = Trained()
    return trained, trained.train()


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize("steps", range(1, STEPS + 1))
def test_a_run_ended_after_any_step_goes_on_bit_for_bit(steps, undisturbed, tmp_path):
    Trained().begin(tmp_path, steps)
    random.random(), np.random.random(), torch.rand(3)  # another process is elsewhere
    again = Trained()
    run = again.train(tmp_path)
    assert_equal(again, run, *undisturbed)
    assert run.outcome == "completed" and len(run) == STEPS
    expected = [] if steps == STEPS else [{"step": steps, "exact": True, "why_not": ""}]
    assert list(run.resumes) == expected


@pytest.mark.parametrize(
    ("method", "draws"),
    [
        ("sbld", {}),
        ("sbld", {"scope": "per_sequence", "mode": "fixed_count"}),
        ("pld", {"rescale": "train_inverse"}),
        ("linear", {"rescale": "eval_scale"}),
        ("dropbp", {}),
        ("freezing", {}),
    ],
)
def test_every_way_of_dropping_goes_on(method, draws, tmp_path):
    whole = Trained(method, **draws)
    expected = whole.train()
    for steps in (2, 3):  # taken up twice
        Trained(method, **draws).begin(tmp_path, steps)
    again = Trained(method, **draws)
    assert_equal(again, again.train(tmp_path), whole, expected)


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(undisturbed, tmp_path):
    one = Trained()
    generator = train_steps(
        one.model,
        Source(),
        one.optimizer,
        **one.arguments(tmp_path / "run", checkpoints=CheckpointConfig(every_steps=3)),
    )
    for _ in range(5):
        next(generator)
    # What a kill leaves: the files as they are now.
    killed = shutil.copytree(tmp_path / "run", tmp_path / "killed")
    generator.close()
    again = Trained()
    run = again.train(killed)
    assert run.resumes[0]["step"] == 4  # saved before its evaluation
    assert_equal(again, run, *undisturbed)


def test_a_run_that_is_done_is_not_trained_again(undisturbed, tmp_path):
    Trained().train(tmp_path)
    again, seen = Trained(), []
    run = again.train(tmp_path, on_step=seen.append)
    assert_equal(again, run, *undisturbed)
    assert seen == [] and run.resumes == () and run.outcome == "completed"
    assert facts(RunRecord.load(tmp_path / "run.json")) == facts(run)


def test_ended_before_anything_was_saved_it_begins_again(undisturbed, tmp_path):
    Trained().begin(tmp_path, 0)
    again = Trained()
    assert_equal(again, again.train(tmp_path), *undisturbed)


def test_a_killed_evaluation_is_done_again(undisturbed, tmp_path):
    def killed(model: nn.Module) -> float:
        raise MemoryError("killed")

    one = Trained()
    with pytest.raises(MemoryError):
        one.train(tmp_path, evaluations={"loss": killed})
    assert len(read_ledger(tmp_path)) == 4
    again = Trained()
    assert_equal(again, again.train(tmp_path), *undisturbed)


def test_budgets_in_flops_go_on(tmp_path):
    flops = Trained().train().steps[0].flops * 6.5
    config = replace(CONFIG, budget=Budget(flops=flops))
    whole = Trained()
    expected = whole.train(config=config)
    Trained().begin(tmp_path, 3, config=config)
    again = Trained()
    assert_equal(again, again.train(tmp_path, config=config), whole, expected)


def test_a_schedule_that_was_put_in_while_training_holds_on(tmp_path):
    def half_way(trained: Trained, start: int = 0):
        def adjust(record) -> None:
            if record.step == 3:
                adjust_probability(trained.model, lambda progress: 0.9 - 0.3 * progress)

        return adjust

    whole = Trained()
    expected = whole.train(on_step=half_way(whole))
    one = Trained()
    generator = train_steps(one.model, Source(), one.optimizer, **one.arguments(tmp_path))
    with closing(generator):
        for _ in range(6):
            half_way(one)(next(generator))
    again = Trained()
    assert_equal(again, again.train(tmp_path), whole, expected)


def test_data_and_callbacks_with_a_state_of_their_own_go_on(tmp_path):
    class Counting(Callback):
        def __init__(self):
            self.total = 0.0

        def after_step(self, record):
            self.total += record.loss_nats

        def state_dict(self):
            return {"total": self.total}

        def load_state_dict(self, state):
            self.total = state["total"]

    def counted() -> Trained:
        trained = Trained()
        trained.callbacks.append(Counting())
        return trained

    whole = counted()
    whole.train()
    counted().begin(tmp_path, 4)
    again = counted()
    again.train(tmp_path)
    assert again.callbacks[1].total == whole.callbacks[1].total > 0


# ---------------------------------------------------------------- live changes

CHANGES = {1: ("saving", 0.3), 2: ("method", "pld"), 5: ("saving", 0.1), 7: ("dropping", False)}


class Live(Trained):
    def __init__(self) -> None:
        super().__init__("none")
        self.callbacks = [LiveDropping(self.model, sensitivity_data=SENSITIVITY, seed=3)]
        values = {"dropping": True, "method": "sbld", "saving": 0.25}
        self.controls = Controls(values)

    def steer(self, record) -> None:
        """A hand that makes each change after the step before it."""
        if (change := CHANGES.get(record.step + 1)) is not None:
            assert self.controls is not None
            self.controls.set(*change)


@pytest.mark.parametrize("last_save", [3, 5, 6])
def test_live_changes_after_the_last_checkpoint_are_made_again(last_save, tmp_path, monkeypatch):
    whole = Live()
    expected = whole.train(on_step=whole.steer)
    assert len(expected.controls_log) == 4
    one = Live()
    arguments = one.arguments(tmp_path, config=replace(CONFIG, evaluate_every=0))
    generator = train_steps(
        one.model,
        Source(),
        one.optimizer,
        **{**arguments, "checkpoints": CheckpointConfig(every_steps=last_save)},
    )
    for _ in range(8):
        one.steer(next(generator))
    monkeypatch.setattr("sbldlib.training.keeping.Keeper.save", lambda self: None)
    generator.close()  # nothing is saved at this end
    monkeypatch.undo()
    saved = max(int(path.name[5:]) for path in (tmp_path / "checkpoints").glob("step-*"))
    assert saved < 8
    again = Live()  # and no hand
    run = again.train(tmp_path, config=replace(CONFIG, evaluate_every=0))
    assert run.losses == expected.losses
    assert [s.controls for s in run] == [s.controls for s in expected]
    assert run.controls_log == expected.controls_log
    assert same_weights(again.model, weights(whole.model))


def test_a_change_that_is_lost_is_noticed_and_can_be_left_out(tmp_path, monkeypatch):
    one = Live()
    generator = train_steps(one.model, Source(), one.optimizer, **one.arguments(tmp_path))
    for _ in range(7):
        one.steer(next(generator))
    monkeypatch.setattr("sbldlib.training.keeping.Keeper.save", lambda self: None)
    generator.close()
    monkeypatch.undo()
    log = tmp_path / "controls.jsonl"
    content = log.read_bytes()
    log.write_bytes(content[: content[:-1].rfind(b"\n") + 1])
    with pytest.raises(CheckpointError, match=r"controls\.jsonl is damaged: step 5 ran with sav"):
        Live().train(tmp_path)
    log.write_bytes(content.replace(b"0.1", b"0.2"))
    with pytest.raises(CheckpointError, match=r"controls\.jsonl is damaged: line 1"):
        Live().train(tmp_path)
    run = Live().train(tmp_path, resume=4)  # goes on without what came after
    assert [s.controls["saving"] for s in run][3:] == [0.3] * 6


def test_a_stop_is_saved_and_taken_up(undisturbed, tmp_path):
    one = Trained()
    one.controls = controls = Controls({})
    run = one.train(tmp_path, on_step=lambda s: controls.stop() if s.step == 4 else None)
    assert (run.outcome, len(run)) == ("stopped", 5)
    again = Trained()
    again.controls = Controls({})
    assert_equal(again, again.train(tmp_path), *undisturbed)


def test_a_pause_is_saved(tmp_path):
    one = Trained()
    one.controls = controls = Controls({})
    config = replace(CONFIG, evaluate_every=0)

    def hold(record) -> None:
        if record.step == 2:
            controls.pause()

    thread = threading.Thread(target=lambda: one.train(tmp_path, config=config, on_step=hold))
    thread.start()
    path = tmp_path / "checkpoints" / "step-00000003" / "manifest.json"
    for _ in range(400):
        if path.exists():
            break
        thread.join(0.05)
    assert path.exists() and controls.is_paused
    controls.resume()
    thread.join(20)
    assert not thread.is_alive()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": replace(CONFIG, clip_norm=0.5)}, r"config\.clip_norm=0\.5 is asked for, .* 1"),
        ({"config": replace(CONFIG, budget=Budget(steps=12))}, r"config\.budget\.steps=12 .* 9"),
        ({"evaluations": {}}, r"evaluations=\[\] is asked for"),
        ({"callbacks": []}, r"callbacks\.0\.\w+=nothing is asked for"),
    ],
)
def test_another_run_is_refused_with_the_field(changes, words, tmp_path):
    Trained().begin(tmp_path, 2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RunMismatchError, match=words):
        Trained().train(tmp_path, **changes)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_other_draws_weights_data_and_rates_are_other_runs(tmp_path):
    Trained().begin(tmp_path, 2)
    with pytest.raises(RunMismatchError, match=r"callbacks\.0\.seed=4 is asked for, .* has 3"):
        Trained(seed=4).train(tmp_path)
    other = Trained()
    with torch.no_grad():
        next(iter(other.model.parameters())).add_(1)
    with pytest.raises(RunMismatchError, match="start_sha256"):
        other.train(tmp_path)
    with pytest.raises(RunMismatchError, match=r"data\.class"):
        one = Trained()
        train(one.model, [HELD_OUT[0]], one.optimizer, **one.arguments(tmp_path))
    slower = Trained()
    slower.optimizer = make_optimizer(slower.model, learning_rate=5e-3)
    with pytest.raises(RunMismatchError, match=r"optimizer\.groups"):
        slower.train(tmp_path)


def test_always_takes_up_whatever_the_weights_are(undisturbed, tmp_path):
    with pytest.raises(CheckpointError, match=r"resume='always', but .* holds no checkpoint"):
        Trained().train(tmp_path, resume="always")
    Trained().begin(tmp_path, 5)
    other = Trained()
    with torch.no_grad():
        next(iter(other.model.parameters())).add_(1)
    assert_equal(other, other.train(tmp_path, resume="always"), *undisturbed)


def test_never_begins_anew_and_leaves_other_files(undisturbed, tmp_path):
    Trained(seed=4).begin(tmp_path, 5)
    (tmp_path / "notes.txt").write_text("mine")
    again = Trained()
    run = again.train(tmp_path, resume="never")
    assert_equal(again, run, *undisturbed)
    assert run.resumes == () and (tmp_path / "notes.txt").read_text() == "mine"


def test_a_step_can_be_chosen(undisturbed, tmp_path):
    Trained().begin(tmp_path, 7, checkpoints=CheckpointConfig(every_steps=1, keep_last=5))
    with pytest.raises(CheckpointError, match=r"step=2 has no checkpoint .* it has \[3, 4, 5"):
        Trained().train(tmp_path, resume=2)
    again = Trained()
    run = again.train(tmp_path, resume=4)
    assert run.resumes[-1]["step"] == 4
    assert_equal(again, run, *undisturbed)


@pytest.mark.parametrize("resume", ["maybe", -1, 2.5, None, True])
def test_an_unknown_resume_is_refused(resume, tmp_path):
    with pytest.raises(ValueError, match=f"resume={resume!r}"):
        Trained().train(tmp_path, resume=resume)
    assert not any(tmp_path.iterdir())


def test_a_folder_of_other_things_or_a_file_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other things \('thesis.tex'\)"):
        Trained().train(tmp_path)
    with pytest.raises(ValueError, match="is a file; name a folder"):
        Trained().train(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == ["thesis.tex"]


def test_a_second_writer_is_refused_and_the_first_unharmed(undisturbed, tmp_path):
    one = Trained()
    generator = train_steps(one.model, Source(), one.optimizer, **one.arguments(tmp_path))
    with closing(generator):
        next(generator)
        with torch.random.fork_rng(), pytest.raises(RunBusyError, match=f"{os.getpid()} on"):
            Trained().train(tmp_path)
        for _ in generator:
            pass
    again = Trained()
    assert_equal(again, again.train(tmp_path), *undisturbed)
    FolderLock(tmp_path).acquire().release()


def test_keep_best_must_be_an_evaluation(tmp_path):
    with pytest.raises(ValueError, match=r"keep_best='lost' is not known.*did you mean 'loss'"):
        Trained().train(tmp_path, checkpoints=CheckpointConfig(keep_best="lost"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("every_minutes", 0), ("every_steps", -1), ("keep_last", 0), ("keep_best", 3)],
)
def test_checkpoint_settings_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field}={value}"):
        CheckpointConfig(**{field: value})


# ---------------------------------------------------------------- what stays


def test_the_newest_and_the_best_stay(tmp_path):
    losses = iter([3.0, 1.0, 2.0, 2.5, 1.5, 1.7, 9.0, 8.0, 7.0])
    one = Trained()
    run = one.train(
        tmp_path,
        config=replace(CONFIG, evaluate_every=1),
        evaluations={"loss": lambda model: next(losses)},
        checkpoints=CheckpointConfig(keep_last=3, keep_best="loss"),
    )
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    assert names == ["step-00000002", "step-00000007", "step-00000008", "step-00000009"]
    best = Trained()
    assert load_weights(best.model, tmp_path, step="best") == 2
    assert load_weights(best.model, tmp_path) == 9 and same_weights(best.model, weights(one.model))
    assert run.steps[1].evaluations == {"loss": 1.0}


def test_weights_of_another_model_are_refused_and_nothing_is_put(tmp_path):
    Trained().begin(tmp_path, 1)
    other = gpt()
    before = weights(other)
    with pytest.raises(CheckpointError, match=r"None in this model|None in .*step-00000001"):
        load_weights(other, tmp_path)
    assert same_weights(other, before)
    with pytest.raises(CheckpointError, match="keeps no best"):
        load_weights(other, tmp_path, step="best")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_weights(other, tmp_path / "nothing")


def test_a_damaged_checkpoint_is_named_and_the_one_before_offered(undisturbed, tmp_path):
    Trained().begin(tmp_path, 7)
    newest = tmp_path / "checkpoints" / "step-00000007"
    content = bytearray((newest / "training.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "training.safetensors").write_bytes(content)
    words = r"step-00000007.training.safetensors is damaged.*step 4 is whole: resume=4 goes on"
    with pytest.raises(CheckpointError, match=words):
        Trained().train(tmp_path)
    again = Trained()
    assert_equal(again, again.train(tmp_path, resume=4), *undisturbed)


def test_where_no_whole_one_is_left_it_says_so(tmp_path):
    Trained().begin(tmp_path, 2)
    (tmp_path / "checkpoints" / "step-00000002" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no whole one before it: resume='never' begins anew"):
        Trained().train(tmp_path)


def test_a_damaged_ledger_or_settings_are_named(tmp_path):
    Trained().begin(tmp_path, 6)
    for name in ("ledger.jsonl", "settings.json"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:30] + b"?" + content[31:])
        with pytest.raises(CheckpointError, match=f"{name} is damaged"):
            Trained().train(tmp_path)
        (tmp_path / name).write_bytes(content)


def test_nothing_else_is_written(tmp_path):
    folder = tmp_path / "run"
    Trained().train(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    top = {path.name for path in folder.iterdir()}
    assert top == {"settings.json", "ledger.jsonl", "controls.jsonl", "run.json", ".lock"} | {
        "checkpoints"
    }
    assert len(json.loads((folder / "run.json").read_text())["steps"]) == STEPS


def test_the_ledger_can_be_read_while_it_grows(tmp_path):
    seen = []
    Trained().train(tmp_path, on_step=lambda s: seen.append(len(read_ledger(tmp_path))))
    assert seen == list(range(1, STEPS + 1))


# ---------------------------------------------------------------- interrupts


def interrupt(number: int = signal.SIGINT):
    os.kill(os.getpid(), number)


class InterruptAt(Callback):
    """A signal in the middle of a step."""

    def __init__(self, step: int, number: int = signal.SIGINT):
        self.step, self.number = step, number

    def before_step(self, context) -> None:
        if context.step == self.step:
            interrupt(self.number)

    def identity(self):
        return {}


def test_ctrl_c_ends_at_the_step_boundary_and_the_same_call_goes_on(undisturbed, tmp_path):
    one = Trained()
    one.callbacks.append(InterruptAt(5))
    with pytest.raises(TrainingInterrupted, match="interrupted after 6 steps, saved in") as caught:
        one.train(tmp_path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(caught.value.record) == 6 and caught.value.record.outcome == "interrupted"
    again = Trained()
    again.callbacks.append(InterruptAt(-1))
    assert_equal(again, again.train(tmp_path), *undisturbed)


def test_without_a_folder_ctrl_c_ends_at_the_boundary_too():
    one = Trained()
    one.callbacks.append(InterruptAt(2))
    with pytest.raises(TrainingInterrupted, match="nothing is kept: give a folder") as caught:
        one.train()
    assert len(caught.value.record) == 3


def test_ctrl_c_in_a_generator_s_step_ends_that_step(tmp_path):
    one = Trained()
    one.callbacks.append(InterruptAt(2))
    steps = []
    with pytest.raises(TrainingInterrupted, match="after 3 steps"):
        for record in train_steps(one.model, Source(), one.optimizer, **one.arguments(tmp_path)):
            steps.append(record)
    assert len(steps) == 3 == len(read_ledger(tmp_path))


def test_ctrl_c_while_paused_ends_the_run(tmp_path):
    one = Trained()
    one.controls = controls = Controls({})
    controls.pause()
    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(TrainingInterrupted, match="after 0 steps"):
        one.train(tmp_path)
    timer.join()


def test_a_second_ctrl_c_does_not_wait():
    class Twice(Callback):
        def before_step(self, context) -> None:
            interrupt()
            interrupt()

    one = Trained()
    one.callbacks.append(Twice())
    with pytest.raises(KeyboardInterrupt) as caught:
        one.train()
    assert not isinstance(caught.value, TrainingInterrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_saves_and_ends_the_process(undisturbed, tmp_path):
    one = Trained()
    one.callbacks.append(InterruptAt(5, signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        one.train(tmp_path)
    assert caught.value.code == 143
    again = Trained()
    again.callbacks.append(InterruptAt(-1))
    assert_equal(again, again.train(tmp_path), *undisturbed)


def test_where_another_handles_sigterm_it_is_told(tmp_path):
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    try:
        one = Trained()
        one.callbacks.append(InterruptAt(5, signal.SIGTERM))
        run = one.train(tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [1] and run.outcome == "interrupted" and len(run) == 6


def test_an_error_in_on_step_saves_what_was_done(undisturbed, tmp_path):
    def fail(record) -> None:
        if record.step == 6:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        Trained().train(tmp_path, on_step=fail)
    again = Trained()
    run = again.train(tmp_path)
    assert run.resumes[0]["step"] == 7
    assert_equal(again, run, *undisturbed)


def test_a_full_disk_keeps_the_old_checkpoint_and_says_so(undisturbed, tmp_path, monkeypatch):
    import errno

    from sbldlib.storage import checkpoints

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    one = Trained()
    generator = train_steps(one.model, Source(), one.optimizer, **one.arguments(tmp_path))
    for _ in range(5):
        next(generator)
    monkeypatch.setattr(checkpoints, "sync_file", refuse)
    with pytest.raises(CheckpointError, match=r"disk is full .*; the one of step 4 is kept"):
        for _ in generator:
            pass
    monkeypatch.undo()
    again = Trained()
    run = again.train(tmp_path)
    assert run.resumes[0]["step"] == 4
    assert_equal(again, run, *undisturbed)


def test_a_loss_that_is_not_finite_names_the_last_checkpoint(tmp_path):
    from sbldlib.losses import next_token_loss
    from sbldlib.training.finite import NotFiniteError

    calls = []

    def loss(model, batch):
        calls.append(1)
        value = next_token_loss(model, batch)
        return value * float("nan") if len(calls) > 12 else value

    with pytest.raises(NotFiniteError, match=r"last good checkpoint.*step-00000004"):
        Trained().train(tmp_path, loss=loss)


def test_whether_it_goes_on_exactly_is_said(tmp_path, monkeypatch):
    Trained().begin(tmp_path, 3)
    conditions = {"torch": "1.0", "threads": 96}
    real = __import__("sbldlib.training.state", fromlist=["conditions"]).conditions
    monkeypatch.setattr(
        "sbldlib.training.keeping.conditions", lambda device: {**real(device), **conditions}
    )
    run = Trained().train(tmp_path)
    (resumed,) = run.resumes
    assert not resumed["exact"]
    assert "torch was" in resumed["why_not"] and "is 96" in resumed["why_not"]


def test_the_runs_of_this_file_drop_layers(undisturbed):
    _, run = undisturbed
    assert 0 < run.realised_drop < 0.6
