"""The first lesson's figures: measured once, kept cell by cell, gone on with, refused elsewhere."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from lesson_cells import counted, timed, trained
from PIL import Image

from benchmarks import lessons_files, lessons_parallelism
from benchmarks.lessons_files import LessonResults, measure_missing
from benchmarks.lessons_parallelism import CELLS, KINDS, configs_at, main, result_path
from benchmarks.lessons_sizes import SIZES, VARIANTS
from benchmarks.lessons_tables import recall_rows, work_and_span_rows
from sbldlib.models.recurrent import num_parameters

ROOT = Path(__file__).parents[2]
SMOKE = SIZES["smoke"]


def figures_make():
    spec = importlib.util.spec_from_file_location("figures_make", ROOT / "figures" / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_part_is_measured_once(tmp_path):
    assert main(["smoke", "--folder", str(tmp_path)]) == 0
    path = result_path("smoke", tmp_path)
    written = path.read_text()
    assert '"distances": [ 1, 7 ]' in written, "a list of numbers is one line"
    results = LessonResults.load(path)
    lengths = {"counts": SMOKE.count_lengths, "seconds": SMOKE.time_lengths}
    expected = {f"{part}/{kind}/{n}" for part in lengths for kind in KINDS for n in lengths[part]}
    expected |= {f"together/{variant}/0" for variant in VARIANTS}
    expected |= {f"alone/{variant}/{n}/0" for variant in VARIANTS for n in (1, 7)}
    assert set(results.cells) == expected
    assert {"device", "processor", "packages"} <= results.machine.keys()
    assert all(
        {"date", "seconds_taken", "config"} <= cell.keys() for cell in results.cells.values()
    )
    counts = {name: cell for name, cell in results.cells.items() if name.startswith("counts")}
    assert counts["counts/rnn/8"]["longest_path"] > counts["counts/rnn/4"]["longest_path"]
    paths = [counts[f"counts/attention/{n}"]["longest_path"] for n in (4, 8)]
    assert paths[0] == paths[1]
    for name, cell in results.cells.items():
        if name.startswith("seconds"):
            assert [len(rounds) for rounds in cell["seconds_by_threads"].values()] == [2]
            assert min(cell["seconds_by_threads"]["1"]) > 0
        if name.startswith(("alone", "together")):
            distances = {"1", "7"} if name.startswith("together") else {name.split("/")[2]}
            num_tokens = 1 + max(map(int, distances))
            for state in (cell["untrained"], cell["trained"]):
                assert len(state["reach"]) == num_tokens and state["reach"][0] == 1
                assert set(state["reach_at_mark"]) == distances
            assert cell["untrained"] != cell["trained"]
            assert set(cell["accuracy"]) == distances and cell["chance_level"] == 1 / 8
            assert len(cell["losses_nats"]) == 2
    assert main(["smoke", "--folder", str(tmp_path)]) == 0
    assert path.read_text() == written, "nothing is measured again"


def test_a_stopped_measurement_goes_on(tmp_path, monkeypatch):
    path, measured = tmp_path / "found.json", []
    monkeypatch.setattr(
        lessons_parallelism, "_counts", lambda config: measured.append(config) or {"n": 1}
    )
    only = {"parts": ("counts",)}
    assert not measure_missing(SMOKE, path, CELLS, stop_after=1e-9, **only)
    assert measured == [] and not path.exists()
    monkeypatch.setattr(lessons_files.time, "perf_counter", iter(range(100)).__next__)
    assert not measure_missing(SMOKE, path, CELLS, stop_after=5, **only)
    begun = len(measured)
    assert 0 < begun < 10 and len(LessonResults.load(path).cells) == begun
    assert measure_missing(SMOKE, path, CELLS, **only)
    assert len(measured) == len(LessonResults.load(path).cells) == 10


def test_numbers_of_another_size_machine_or_format_are_not_mixed(tmp_path, monkeypatch):
    path, measured = tmp_path / "found.json", []
    monkeypatch.setattr(
        lessons_parallelism, "_counts", lambda config: measured.append(config) or {"n": 1}
    )
    for size in (SMOKE, replace(SMOKE, width=16)):
        assert measure_missing(size, path, CELLS, parts=("counts",))
    assert len(measured) == 20
    monkeypatch.setattr(lessons_files, "machine", lambda: {"device": "another"})
    measure_missing(replace(SMOKE, width=16), path, CELLS, parts=("counts",))
    assert len(measured) == 30
    path.write_text("{}")
    measure_missing(replace(SMOKE, width=16), path, CELLS, parts=("counts",))
    assert len(measured) == 40 and len(LessonResults.load(path).cells) == 10


def test_all_kinds_have_one_budget_at_the_tasks_length():
    for name in ("cpu", "gpu"):
        size = SIZES[name]
        weights = {
            kind: num_parameters(config)
            for kind, config in configs_at(size, size.context_length).items()
        }
        assert tuple(weights) == KINDS
        assert max(weights.values()) < 1.05 * min(weights.values())


def test_a_gpu_measurement_needs_a_gpu(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["gpu", "--folder", str(tmp_path)]) == 2
    assert "gpu: torch sees no CUDA device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_figures_are_drawn_from_the_file_and_a_gpus_curve_where_there_is_one(tmp_path):
    make = figures_make()
    known = {"size": {}, "machine": {"device": "made up"}}
    widths = []
    for size, cells in (
        ("cpu", {**counted(), **timed(), **trained()}),
        ("gpu", {**timed(("0",))}),
    ):
        LessonResults(cells=cells, **known).save(result_path(size, tmp_path))
        files = make.save_lesson_figures(tmp_path, tmp_path)
        assert [path.name for path in files] == ["parallelism.png", "reach.png"]
        with Image.open(files[0]) as image:
            widths.append(image.width)
    assert widths[1] > widths[0], "one panel more"


def test_tables_give_ends_medians_and_ranges():
    cells = {**counted(), **timed(), **trained()}
    for kind, length in product(("lstm", "gru", "convolution"), (8, 16)):
        cells[f"counts/{kind}/{length}"] = cells[f"counts/rnn/{length}"]
    rows = work_and_span_rows(cells)
    assert rows[1] == [
        "RNN", "8 → 16", "24 → 48", "48 → 96", "0.0004 → 0.0008", "8, 16", "250.0, 125.0",
        "2.00, 2.00",
    ]  # fmt: skip
    assert [row[0] for row in rows[1:]] == ["RNN", "LSTM", "GRU", "convolution", "attention"]
    head, first, *_, last = recall_rows(cells, "alone")
    assert head == ["right, trained alone", "at 1", "at 3", "at 7"]
    assert first == ["RNN", *["0.45 (0.40 to 0.50)"] * 3]
    assert last == ["attention", "1.00", "1.00", "1.00"]


def test_the_readme_shows_what_the_file_holds():
    section = figures_make().lesson_section(LessonResults.load(result_path("cpu")))
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    assert f"<!-- lesson -->\n{section}\n<!-- /lesson -->" in readme
