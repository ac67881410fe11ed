"""Comparisons as benchmarks: stopped and gone on with, kept whole among the results."""

from __future__ import annotations

import pytest

from benchmarks.comparisons import load_summaries, main, result_path, run


def test_a_comparison_is_kept_when_it_is_whole_and_not_before(tmp_path):
    places = {"runs": tmp_path / "runs", "results": tmp_path / "results"}
    assert not run("smoke", processes=1, stop_after=1e-9, **places)
    assert not result_path("smoke", places["results"]).exists()
    assert run("smoke", processes=1, stop_after=0, **places)
    summaries = load_summaries(places["results"])
    assert list(summaries) == ["smoke"] and summaries["smoke"].missing == ()
    assert len(summaries["smoke"].runs) == 8
    written = result_path("smoke", places["results"]).read_text()
    assert run("smoke", processes=1, stop_after=0, **places)  # nothing is trained again
    assert result_path("smoke", places["results"]).read_text() == written


def test_a_gpu_comparison_needs_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["gpu-124m"]) == 2
    assert "gpu-124m: torch sees no CUDA device" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["no-such-comparison"])
