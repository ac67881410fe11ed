from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from typer.testing import CliRunner

from sbldlib import RunRecord, SensitivityData, cli, demo
from sbldlib.demo import DemoRecord
from sbldlib.storage.lock import FolderLock

runner = CliRunner()


@pytest.fixture
def small_demo(monkeypatch):
    """The demonstration with everything but its arms cut to seconds."""
    asked = {}
    real = demo.run_demo

    def run(config, **listeners):
        asked["config"] = config
        return real(
            demo.DemoConfig(
                warmup_steps=2, pilot_steps=20, num_pilot_pairs=1, steps=config.steps, batch_size=2,
                arithmetic_rows=1, num_validation_batches=2, num_problems=4,
                seed=config.seed, saving=config.saving,
            ),
            **listeners,
        )  # fmt: skip

    monkeypatch.setattr(cli, "run_demo", run)
    return asked


def test_demo_writes_its_record_and_figures(small_demo, tmp_path):
    out, figures = tmp_path / "out", tmp_path / "figures"
    arguments = ["--steps", "3", "--seed", "5", "--saving", "0.2"]
    folders = ["--out", str(out), "--figures", str(figures)]
    result = runner.invoke(cli.app, ["demo", *arguments, *folders])
    assert result.exit_code == 0, result.output
    assert small_demo["config"].steps == 3 and small_demo["config"].seed == 5
    record = DemoRecord.load(out / "demo.json")
    assert record.settings["saving"] == 0.2
    assert len(list(figures.glob("*.png"))) == 4
    assert "full depth" in result.output and "One seed" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--saving", "0.9"], "saving=0.9 is outside (0, 0.4]"),
        (["--steps", "0"], "steps=0 must be at least 1"),
        (["--seed", "x"], "Invalid value for '--seed'"),
    ],
)
def test_bad_values_are_usage_errors_that_start_nothing(monkeypatch, arguments, message):
    monkeypatch.setattr(cli, "run_demo", lambda *a, **k: pytest.fail("work began"))
    result = runner.invoke(cli.app, ["demo", *arguments])
    assert result.exit_code == 2
    shown = " ".join(result.output.replace("│", " ").split())
    assert message in shown, shown


def test_doctor_prints_what_it_found():
    result = runner.invoke(cli.app, ["doctor"])
    assert result.exit_code == 0 and "torch" in result.output
    findings = json.loads(runner.invoke(cli.app, ["doctor", "--json"]).output)
    assert {"part", "state", "found", "mend"} == findings[0].keys()


def test_doctor_fails_where_something_is_missing(monkeypatch):
    broken = cli.examine()[:1]
    monkeypatch.setattr(
        cli, "examine", lambda: [type(broken[0])(part="x", state="missing", found="no", mend="do")]
    )
    assert runner.invoke(cli.app, ["doctor"]).exit_code == 1


def test_help_names_every_command():
    result = runner.invoke(cli.app, ["--help"])
    for name in ("demo", "train", "sensitivity", "compare", "doctor"):
        assert name in result.output


# ---- train and sensitivity

TINY_RUN = ["train", "--method", "pld", "--batch-size", "1", "--evaluate-every", "0"]


def num_lines(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def begun(out, *more: str) -> subprocess.Popen:
    """`sbld train` in a process of its own, some steps after it began or went on."""
    command = [sys.executable, "-m", "sbldlib.cli", *TINY_RUN, "--out", str(out), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    enough = num_lines(out / "ledger.jsonl") + 10
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while num_lines(out / "ledger.jsonl") < enough:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    return process


def ended(process: subprocess.Popen) -> tuple[int, str]:
    output = process.communicate(timeout=60)[0]
    return process.returncode, " ".join(output.split())


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_train_ended_in_three_ways_goes_on_to_the_same_run(tmp_path, one_thread):
    steps = ["--steps", "400"]
    often = ["--save-every", "0.0005"]
    run = begun(tmp_path / "run", *steps, *often)
    run.kill()
    assert ended(run)[0] == -signal.SIGKILL
    run = begun(tmp_path / "run", *steps, *often)
    run.send_signal(signal.SIGINT)
    code, said = ended(run)
    assert code == 130 and "interrupted after" in said and "goes on from there" in said, said
    run = begun(tmp_path / "run", *steps)
    run.terminate()
    code, said = ended(run)
    assert code == 143 and "ended by SIGTERM, and saved" in said, said
    for name in ("run", "whole"):
        result = runner.invoke(cli.app, [*TINY_RUN, *steps, "--out", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
    assert result.output.count("taken up at step") == 0
    stopped, whole = (RunRecord.load(tmp_path / n / "run.json") for n in ("run", "whole"))
    assert len(whole) == 400 and stopped.losses == whole.losses
    assert stopped.final == whole.final
    assert [taken_up["exact"] for taken_up in stopped.resumes] == [True] * 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short run, and what the command said."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = runner.invoke(cli.app, [*TINY_RUN, "--steps", "3", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder, result.output


def test_train_says_what_came_of_it(trained):
    folder, output = trained
    record = RunRecord.load(folder / "run.json")
    assert f"{record.final['validation_loss']:.3f}" in output and "loss on new text" in output
    assert f"{record.realised_drop:.1%}" in output
    again = runner.invoke(cli.app, [*TINY_RUN, "--steps", "3", "--out", str(folder)])
    assert again.exit_code == 0 and RunRecord.load(folder / "run.json") == record


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "4"], "steps=4 is asked for, the run in"),
        (["--steps", "3", "--saving", "2"], "saving=2.0 is outside [0, 1)"),
        (["--steps", "3", "--preset", "tinny"], "did you mean 'tiny'"),
        (["--steps", "3", "--method", "sblt"], "did you mean 'sbld'"),
        (["--steps", "3", "--save-every", "0"], "every_minutes=0.0 is outside"),
        (["--steps", "3", "--resume", "perhaps"], "resume='perhaps' is not known"),
        (["--steps", "3", "--corpus", "nowhere"], "root='nowhere' is not a folder"),
        (["--steps", "3", "--threads", "0"], "Invalid value for '--threads'"),
        (["--steps", "3", "--processes", "2"], "accumulate=1 cannot be shared out by processes=2"),
        (["--steps", "3", "--device", "tpu"], "device='tpu' is not known"),
    ],
)
def test_train_asked_wrongly_is_a_usage_error(trained, arguments, message):
    result = runner.invoke(cli.app, [*TINY_RUN, *arguments, "--out", str(trained[0])])
    shown = " ".join(result.output.replace("│", " ").split())
    assert result.exit_code == 2 and message in shown, shown


def test_processes_share_a_run_and_refuse_another(tmp_path):
    shared = [*TINY_RUN, "--steps", "4", "--accumulate", "2", "--out", str(tmp_path / "shared")]
    command = [sys.executable, "-m", "sbldlib.cli", *shared, "--processes", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("loss on new text") == 1  # one of them speaks
    alone = [*shared[:-1], str(tmp_path / "alone")]
    assert runner.invoke(cli.app, alone).exit_code == 0
    two, one = (RunRecord.load(tmp_path / name / "run.json") for name in ("shared", "alone"))
    assert (
        two.losses == pytest.approx(one.losses, abs=1e-6) and two.final.keys() == one.final.keys()
    )
    other = runner.invoke(cli.app, [*shared, "--saving", "0.1", "--processes", "2"])
    assert other.exit_code == 2 and "saving=0.1 is asked for" in other.output


def test_what_goes_wrong_is_one_sentence(trained):
    asked = [*TINY_RUN, "--steps", "3", "--out", str(trained[0])]
    with FolderLock(trained[0]):
        busy = runner.invoke(cli.app, asked)
    assert busy.exit_code == 1 and "RunBusyError: folder=" in busy.output
    none = runner.invoke(cli.app, [*asked, "--resume", "2"])
    assert none.exit_code == 1 and "CheckpointError: step=2 has no checkpoint" in none.output
    assert "Traceback" not in busy.output + none.output


def test_sensitivity_prints_and_writes_what_was_measured(trained, tmp_path):
    out = tmp_path / "measured.json"
    asked = ["sensitivity", str(trained[0]), "--batches", "2", "--step", "best"]
    result = runner.invoke(cli.app, [*asked, "--out", str(out)])
    assert result.exit_code == 0, result.output
    measured = SensitivityData.load(out)
    assert measured.num_layers == 8 and measured.num_batches == 2 and measured.iteration == 3
    for value, error in zip(measured.values, measured.standard_errors, strict=True):
        assert f"{value:+.4g}" in result.output and f"{error:.2g}" in result.output
    assert "standard error" in result.output and "after 3 steps" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--method", "loss_detla"], 2, "did you mean 'loss_delta'"),
        (["--batches", "1"], 2, "num_batches=1 must be at least 2"),
        (["--step", "worst"], 2, "step='worst'"),
        (["--step", "2"], 1, "CheckpointError: step=2 has no checkpoint"),
    ],
)
def test_sensitivity_asked_wrongly_is_said(trained, tmp_path, arguments, code, message):
    out = tmp_path / "none.json"
    result = runner.invoke(cli.app, ["sensitivity", str(trained[0]), *arguments, "--out", str(out)])
    shown = " ".join(result.output.replace("│", " ").split())
    assert result.exit_code == code and message in shown, shown
    assert not out.exists()
