from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sbldlib import cli, demo
from sbldlib.demo import DemoRecord

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
    assert "demo" in result.output and "doctor" in result.output
