"""Results: verdicts, what every committed file must hold, and what is not measured twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import results
from benchmarks.common import (
    ON_CPU,
    ON_CUDA,
    Finding,
    Prepared,
    Question,
    Setting,
    UnavailableError,
    exactly,
)
from benchmarks.results import (
    QUESTIONS,
    Result,
    answer,
    answer_missing,
    is_present,
    load_results,
    result_files,
)
from benchmarks.timing import Spread, spread

COMMITTED = result_files()
SETTINGS = {setting.name: setting for setting in (*ON_CPU, *ON_CUDA)}
SETTING = Setting(name="here", preset="tiny", batch_size=4, num_tokens=8, effort="few")


def finding(median: float, low: float, high: float, **target: float) -> Finding:
    values = Spread(median=median, p10=low, p90=high, low=low, high=high)
    return Finding(claim="it", unit="x", spread=values, **target)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (finding(0.95, 0.9, 1.0, at_least=0.95), "met"),
        (finding(0.94, 0.9, 0.95, at_least=0.95), "within noise"),
        (finding(0.94, 0.9, 0.949, at_least=0.95), "missed"),
        (finding(1.0, 0.5, 1.5, at_most=1.0), "met"),
        (finding(1.1, 1.0, 1.5, at_most=1.0), "within noise"),
        (finding(1.1, 1.01, 1.5, at_most=1.0), "missed"),
        (finding(1.1, 1.01, 1.5), ""),
    ],
)
def test_verdict_is_the_medians_and_its_intervals(found: Finding, verdict: str) -> None:
    assert found.verdict == verdict
    assert found.to_dict()["verdict"] == verdict


class Counted:
    """A question that counts how often it was prepared."""

    def __init__(self, *, fails: Exception | None = None) -> None:
        self.prepared: list[Setting] = []
        self.closed = 0
        self._fails = fails
        self.question = Question(
            name="counted", rounds={"few": 3}, prepare=self._prepare, findings=self._findings
        )

    def _prepare(self, setting: Setting) -> Prepared:
        self.prepared.append(setting)
        if self._fails is not None and len(self.prepared) == 1:
            raise self._fails
        return Prepared(arms={"arm": lambda: None}, facts={"two": 2}, close=self._close)

    def _close(self) -> None:
        self.closed += 1

    @staticmethod
    def _findings(rounds: Any, facts: Any) -> tuple[Finding, ...]:
        return (Finding(claim="two", unit="x", spread=exactly(facts["two"]), at_least=1.0),)


def test_a_present_result_is_not_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = Counted()
    answer_missing((SETTING,), [counted.question], folder=tmp_path)
    assert is_present(counted.question, SETTING, tmp_path)
    written = (tmp_path / "counted-here.json").read_bytes()
    answer_missing((SETTING,), [counted.question], folder=tmp_path)
    assert len(counted.prepared) == counted.closed == 1
    assert "present, not measured again" in capsys.readouterr().err
    assert (tmp_path / "counted-here.json").read_bytes() == written
    answer_missing((SETTING,), [counted.question], folder=tmp_path, force=True)
    assert len(counted.prepared) == 2


def test_another_version_machine_or_setting_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted()
    answer_missing((SETTING,), [counted.question], folder=tmp_path)
    longer = dataclasses.replace(SETTING, num_tokens=16)
    assert not is_present(counted.question, longer, tmp_path)
    here = results.machine()
    other = {**here, "packages": {**here["packages"], "torch": "0.1"}}
    monkeypatch.setattr(results, "machine", lambda: other)
    assert not is_present(counted.question, SETTING, tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"kind": "Result", "format": 0}'])
def test_a_damaged_result_is_measured_anew(tmp_path: Path, text: str) -> None:
    counted = Counted()
    (tmp_path / "counted-here.json").write_text(text)
    answer_missing((SETTING,), [counted.question], folder=tmp_path)
    assert Result.load(tmp_path / "counted-here.json").facts == {"two": 2}


def test_what_is_missing_here_is_skipped_loudly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = Counted(fails=UnavailableError("no such library"))
    answer_missing((SETTING,), [counted.question], folder=tmp_path)
    assert "!! SKIPPED: counted, here: no such library" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_setting_whose_effort_a_question_does_not_name_is_not_asked(tmp_path: Path) -> None:
    counted = Counted()
    other = dataclasses.replace(SETTING, effort="cuda")
    answer_missing((other,), [counted.question], folder=tmp_path)
    assert counted.prepared == []


def test_a_batch_that_does_not_fit_is_halved_and_counts_as_present(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = Counted(fails=torch.OutOfMemoryError("no room"))
    answer_missing((SETTING,), [counted.question], folder=tmp_path)
    assert [setting.batch_size for setting in counted.prepared] == [4, 2]
    assert "out of memory, now with a batch of 2" in capsys.readouterr().err
    assert Result.load(tmp_path / "counted-here.json").setting["batch_size"] == 2
    assert is_present(counted.question, SETTING, tmp_path)


def test_a_batch_of_one_that_does_not_fit_is_an_error() -> None:
    counted = Counted(fails=torch.OutOfMemoryError("no room"))
    with pytest.raises(torch.OutOfMemoryError):
        answer(counted.question, dataclasses.replace(SETTING, batch_size=1))


def test_a_result_is_read_as_it_was_written_and_its_rounds_take_one_line(tmp_path: Path) -> None:
    result = answer(Counted().question, SETTING, rounds=5)
    path = result.save(tmp_path / result.file_name)
    assert Result.load(path) == result
    assert len(result.rounds["arm"]) == 5
    (line,) = [line for line in path.read_text().splitlines() if '"arm": [' in line]
    assert line.count(",") == 4


def test_other_records_may_lie_beside_the_results(tmp_path: Path) -> None:
    result = answer(Counted().question, SETTING)
    saved = dataclasses.replace(result, question="saving")
    saved.save(tmp_path / saved.file_name)
    (tmp_path / "demo.json").write_text("{}")
    assert load_results(tmp_path) == [saved]


def test_machine_tells_no_name_of_a_host_or_a_person() -> None:
    known = {"device", "system", "processor_cores", "torch_threads", "python", "processor"}
    assert set(results.machine()) == known | {"packages"}


def test_every_question_is_answered_on_the_cpu() -> None:
    wanted = {
        results.file_name(name, setting.name)
        for name, question in QUESTIONS.items()
        for setting in ON_CPU
        if setting.effort in question.rounds
    }
    assert wanted <= {path.name for path in COMMITTED}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
class TestCommitted:
    """Every result in the repository."""

    def test_it_names_what_it_measured_where_and_when(self, path: Path) -> None:
        result = Result.load(path)
        assert result.file_name == path.name
        setting = SETTINGS[result.setting["name"]].describe()
        measured = {**result.setting, "batch_size": setting["batch_size"]}
        assert measured == {**setting, "clock": result.setting["clock"]}
        assert set(result.machine) == set(results.machine())
        assert (result.machine["device"] == "cpu") == (result.setting["device"] == "cpu")
        assert len(result.date) == len("2000-01-01")

    def test_it_holds_at_least_nine_rounds_of_every_arm(self, path: Path) -> None:
        result = Result.load(path)
        lengths = {len(seconds) for seconds in result.rounds.values()}
        most = max(lengths)
        assert most >= 9
        # Counts of a whole run come once for its several windows.
        assert all(length >= 3 and most % length == 0 for length in lengths)
        assert all(value > 0 for seconds in result.rounds.values() for value in seconds)

    def test_its_summary_findings_and_verdicts_follow_from_its_rounds(self, path: Path) -> None:
        result = Result.load(path)
        summary = {name: dataclasses.asdict(spread(v)) for name, v in result.rounds.items()}
        assert result.summary == summary
        again = QUESTIONS[result.question].findings(result.rounds, result.facts)
        assert json.loads(json.dumps(result.findings)) == [f.to_dict() for f in again]

    def test_every_target_says_whether_it_is_met(self, path: Path) -> None:
        for found in Result.load(path).findings:
            has_target = found["at_least"] is not None or found["at_most"] is not None
            assert (found["verdict"] in ("met", "within noise", "missed")) == has_target
