"""The table and the figure are drawn from the results, and the README shows just those."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.report import BEGIN, END, FIGURE, README
from benchmarks.results import QUESTIONS, Result, load_results

RESULTS = load_results()


def fake_result(**changes) -> Result:
    found = {
        "claim": "a claim", "unit": "%", "at_least": None, "at_most": 1.0, "verdict": "met",
        "spread": {"median": 0.5, "p10": 0.25, "p90": 2.0, "low": 0.375, "high": 1.0},
    }  # fmt: skip
    fields = {
        "question": "overhead",
        "setting": {"name": "cpu-x", "device": "cpu"},
        "machine": {},
        "date": "2000-01-01",
        "seconds_taken": 1.0,
        "rounds": {},
        "summary": {},
        "facts": {},
        "findings": ({**found, **changes},),
    }
    return Result(**fields)


def test_a_row_says_value_spread_target_and_verdict() -> None:
    header, row = report.rows([fake_result()])
    assert header == report.HEADER
    assert row == (
        "cpu-x", "a claim", "0.50 %", "0.25 % to 2.00 %", "0.38 % to 1.00 %", "<= 1 %", "met",
    )  # fmt: skip


def test_a_computed_number_has_no_spread_and_an_informing_row_no_verdict() -> None:
    same = dict.fromkeys(("median", "p10", "p90", "low", "high"), 0.5)
    result = fake_result(spread=same, unit="x", at_most=None, verdict="")
    assert report.rows([result])[1] == ("cpu-x", "a claim", "0.500", "computed", "", "", "")


def test_the_plain_table_has_straight_columns() -> None:
    text = report.plain_table([("a", "long header"), ("longer", "b")])
    assert text.splitlines() == ["a       long header", "-" * 19, "longer  b"]


def test_the_readme_holds_the_results_table() -> None:
    text = README.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    table = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert table == report.markdown(RESULTS)


def test_the_readme_names_every_script_and_each_verdict_that_is_not_met() -> None:
    text = README.read_text()
    assert all(f"`{name}.py`" in text for name in QUESTIONS)
    for result in RESULTS:
        for found in result.findings:
            if found["verdict"] not in ("", "met"):
                begins = f"| {result.setting['name']} | {found['claim']} |"
                ends = f"| {found['verdict']} |"
                lines = [line for line in text.splitlines() if line.startswith(begins)]
                # "the same" may follow several claims, each with a verdict of its own.
                assert any(line.endswith(ends) for line in lines)


def test_renewing_replaces_what_is_between_the_markers_alone(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    report.renew_readme(RESULTS, path)
    assert path.read_text() == f"before\n{BEGIN}\n{report.markdown(RESULTS)}\n{END}\nafter\n"
    path.write_text("no markers")
    with pytest.raises(ValueError, match="lacks the markers"):
        report.renew_readme(RESULTS, path)
    assert path.read_text() == "no markers"


def test_the_figure_is_drawn_from_the_results_and_is_in_the_repository(tmp_path: Path) -> None:
    path = report.draw_saving(RESULTS, tmp_path / "saving.png")
    with Image.open(path) as drawn, Image.open(FIGURE) as committed:
        assert drawn.size == committed.size
        darkest, lightest = drawn.convert("L").getextrema()
        assert darkest < 60 and lightest == 255


def test_gpu_without_a_gpu_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert command.main(["--gpu"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_redraw_measures_nothing_and_prints_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "answer_missing", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr(report, "redraw", lambda: [fake_result()])
    assert command.main(["--redraw"]) == 0
    assert "a claim" in capsys.readouterr().out


def test_an_unknown_question_is_refused_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "savings"])
    assert "saving" in capsys.readouterr().err
