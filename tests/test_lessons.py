from __future__ import annotations

from pathlib import Path

import pytest
from plotted import made_summary

from sbldlib import lessons


@pytest.fixture(autouse=True)
def own_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SBLD_DATA", str(tmp_path))
    monkeypatch.delenv("SBLD_TIER", raising=False)


def test_tier_is_cpu_unless_asked(monkeypatch):
    assert lessons.tier() == "cpu"
    monkeypatch.setenv("SBLD_TIER", "smoke")
    assert lessons.tier() == "smoke"
    assert lessons.by_tier(smoke=1, cpu=2) == 1


def test_unknown_tier_suggests_the_nearest(monkeypatch):
    monkeypatch.setenv("SBLD_TIER", "smok")
    with pytest.raises(ValueError, match=r"SBLD_TIER='smok'.*'smoke'"):
        lessons.tier()


def test_gpu_tier_needs_a_gpu(monkeypatch):
    monkeypatch.setenv("SBLD_TIER", "gpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device"):
        lessons.tier()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert lessons.by_tier(smoke=1, cpu=2) == 2 and lessons.by_tier(smoke=1, cpu=2, gpu=3) == 3


def test_artefacts_of_tiers_do_not_mix(monkeypatch):
    lessons.save_artefact("x.json", {"tier": "cpu"})
    monkeypatch.setenv("SBLD_TIER", "smoke")
    with pytest.raises(FileNotFoundError, match="run notebook 00 first"):
        lessons.load_artefact("x.json", made_by="00")
    lessons.save_artefact("x.json", {"tier": "smoke"})
    monkeypatch.setenv("SBLD_TIER", "cpu")
    assert lessons.load_artefact("x.json", made_by="00") == {"tier": "cpu"}


def test_runs_of_tiers_do_not_mix(monkeypatch, tmp_path):
    assert lessons.run_folder("one") == tmp_path / "runs" / "cpu" / "one"
    monkeypatch.setenv("SBLD_TIER", "smoke")
    assert lessons.run_folder("one") == tmp_path / "runs" / "smoke" / "one"


def test_attempt_reports_and_never_raises(capsys):
    def check(answer):
        assert answer == 4, f"2 + 2 is not {answer}"

    lessons.attempt(check, 4)
    assert capsys.readouterr().out == "Right.\n"
    lessons.attempt(check, 5)
    lessons.attempt(lambda answer: answer(), 5)
    out = capsys.readouterr().out
    assert "Right." not in out and "2 + 2 is not 5" in out and "TypeError" in out


def test_report_names_tier_and_versions(capsys):
    lessons.report()
    out = capsys.readouterr().out
    assert out.startswith("tier cpu") and "torch 2." in out


def test_comparisons_are_loaded_by_name_and_a_missing_one_says_what_makes_it(tmp_path):
    made_summary().save(tmp_path / "comparison-cpu.json")
    found = lessons.load_comparisons("cpu", folder=tmp_path)
    assert found.keys() == {"cpu"} and found["cpu"].name == "made"
    with pytest.raises(
        FileNotFoundError, match=r"comparison-long\.json .*benchmarks.comparisons long"
    ):
        lessons.load_comparisons("cpu", "long", folder=tmp_path)


def test_outside_a_checkout_there_are_no_comparisons(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert lessons.checkout() is None
    with pytest.raises(FileNotFoundError, match="in a clone of it"):
        lessons.load_comparisons()


def test_the_checkout_is_found_from_below(monkeypatch):
    root = Path(__file__).parents[1]
    monkeypatch.chdir(root / "tests")
    assert lessons.checkout() == root
