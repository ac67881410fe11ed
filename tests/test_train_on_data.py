"""`sbld train --data`: own files end to end, and what cannot be had in one sentence."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sbldlib import RunRecord, SensitivityData, cli, cli_training
from sbldlib.data.hub import HubTokens, shards
from sbldlib.pretraining import PretrainConfig, pretrain
from sbldlib.pretraining.config import ACCURACY, Asked
from sbldlib.pretraining.text import dataset_of
from sbldlib.storage.lock import FolderLock

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
import huggingface_hub  # noqa: E402 - datasets brings them
import pyarrow.parquet as pq  # noqa: E402

runner = CliRunner()
RUN = ["train", "--method", "uniform", "--batch-size", "2", "--evaluate-every", "4"]
STEPS = ["--steps", "12"]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """One thread, a cache of this test's own, and a Hub that answers nobody."""
    before = torch.get_num_threads()
    monkeypatch.setenv("SBLD_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("HF_CACHE_HOME", "HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.setattr(datasets.config, name, tmp_path / "hf")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(shards, "SHARD_BYTES", 50_000)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power fails here
    yield
    torch.set_num_threads(before)


def texts(num: int = 600, seed: int = 0) -> list[str]:
    """Documents of words of an alphabet, some 300 letters each."""
    draws = random.Random(seed)
    words = ["".join(draws.choices("abcdefghijklmnop", k=draws.randint(2, 7))) for _ in range(900)]
    return [f"{i}: " + " ".join(draws.choices(words, k=55)) for i in range(num)]


def jsonl(path: Path, some: list[str], column: str = "text") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"n": i, column: t}) + "\n" for i, t in enumerate(some)))
    return path


def parquet(path: Path, some: list[str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    rows = [{"url": "u", "text": text} for text in some]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=50)
    return path


def sbld(*arguments: str | Path) -> tuple[int, str]:
    """The exit code of a command, and what it said in one line."""
    result = runner.invoke(cli.app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result.exit_code, " ".join(result.output.replace("│", " ").split())


def weights_of(folder: Path) -> bytes:
    return (folder / "checkpoints" / "step-00000012" / "model.safetensors").read_bytes()


@pytest.fixture
def stopping(monkeypatch):
    """Ctrl-C at the end of a step that is asked for."""

    def at(ends: int) -> None:
        def on_step(record):
            if record.step + 1 == ends:
                signal.raise_signal(signal.SIGINT)

        changed = lambda **asked: pretrain(**{**asked, "on_step": on_step})  # noqa: E731
        monkeypatch.setattr(cli_training, "pretrain", changed)

    return at


# ---- trained, stopped, gone on


@pytest.mark.parametrize(
    ("model", "preset"), [("conv", "tiny"), ("conv", "tiny-ahead"), ("diverging", "tiny")]
)
def test_a_variant_learns_a_file_and_goes_on_bit_for_bit(tmp_path, stopping, model, preset):
    path = jsonl(tmp_path / "mine.jsonl", texts())
    asked = [*RUN, *STEPS, "--model", model, "--preset", preset, "--data", path]
    code, said = sbld(*asked, "--out", "whole")
    assert code == 0, said
    whole = RunRecord.load("whole/run.json")
    assert ACCURACY not in whole.final and "exact answers" in said  # text alone has no problems
    assert whole.losses[-1] < whole.losses[0]
    for ends in (3, 5, 9):  # the diverging model grows at steps 4 and 8
        stopping(ends)
        code, said = sbld(*asked, "--out", "run")
        assert code == 130 and f"after {ends} steps" in said
    stopping(99)
    assert sbld(*asked, "--out", "run")[0] == 0
    run = RunRecord.load("run/run.json")
    assert run.losses == whole.losses and run.final == whole.final
    assert weights_of(tmp_path / "run") == weights_of(tmp_path / "whole")
    assert [taken_up["exact"] for taken_up in run.resumes] == [True] * 3
    code, said = sbld("sensitivity", "run", "--batches", "2", "--out", "s.json")
    assert code == 0 and SensitivityData.load("s.json").iteration == 12, said


def test_two_processes_prepare_a_file_once_and_share_a_growing_run(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", texts())
    asked = [*RUN, "--steps", "6", "--model", "diverging", "--accumulate", "2", "--data", path]
    command = [sys.executable, "-m", "sbldlib.cli", *asked, "--out", "shared", "--processes", "2"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "cache").glob("hub-*/card.json"))) == 1
    assert sbld(*asked, "--out", "alone")[0] == 0
    shared, alone = (RunRecord.load(f"{name}/run.json") for name in ("shared", "alone"))
    assert shared.losses == pytest.approx(alone.losses, abs=1e-5)  # grown at steps 2 and 4
    assert shared.final == pytest.approx(alone.final, abs=1e-4)


def test_what_is_asked_is_written_down_and_decides_the_text(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", texts(), column="body")
    flags = ["--data", path, "--columns", "body", "--max-bytes", "120000"]
    assert sbld(*RUN, "--steps", "2", *flags, "--out", "run")[0] == 0
    config = Asked.load("run/analysis/pretraining.json").config
    assert config["dataset"] == (str(path),) and config["columns"] == ("body",)
    assert config["max_bytes"] == 120_000 and config["corpus"] is None
    (card,) = (tmp_path / "cache").glob("hub-*/card.json")
    prepared = HubTokens.load(card.parent)
    assert 119_000 < prepared.card.num_bytes <= 120_000
    assert prepared.card.ended_by == "max_bytes"
    assert prepared.tokenizer.vocabulary_size == PretrainConfig().shape.vocabulary_size
    expected = prepared.lesson(context_length=64, batch_size=2, seed=0)
    data = PretrainConfig(**{**config, "learning_rate": None}).data()
    assert data.fingerprint == expected.fingerprint
    for mine, theirs in zip(data.train.batch(5), expected.train.batch(5), strict=True):
        assert mine.equal(theirs)


def test_files_and_a_folder_are_read_in_their_order(tmp_path):
    some = texts()
    parquet(tmp_path / "many" / "b.parquet", some[200:400])
    parquet(tmp_path / "many" / "a.parquet", some[:200])
    (tmp_path / "many" / "README.md").write_text("no data")
    parquet(tmp_path / "c.parquet", some[400:])
    of_all = dataset_of(["many", "c.parquet"])
    assert [file.name for file in of_all.files] == ["a.parquet", "b.parquet", "c.parquet"]
    run = [*RUN, "--steps", "2"]
    assert sbld(*run, "--data", "many", "--data", "c.parquet", "--out", "one")[0] == 0
    jsonl(tmp_path / "all.jsonl", some)
    assert sbld(*run, "--data", "all.jsonl", "--out", "two")[0] == 0
    one, two = (Asked.load(f"{name}/analysis/pretraining.json") for name in ("one", "two"))
    assert one.data_sha256 == two.data_sha256  # the same text, whatever it lies in


def test_a_second_run_prepares_nothing(tmp_path, monkeypatch):
    path = parquet(tmp_path / "a.parquet", texts())
    assert sbld(*RUN, "--steps", "2", "--data", path, "--out", "one")[0] == 0
    monkeypatch.setattr(datasets, "load_dataset_builder", None)
    (home,) = (tmp_path / "cache").glob("hub-*")
    with FolderLock(home):  # as another run that reads it
        assert sbld(*RUN, "--steps", "2", "--data", path, "--out", "two")[0] == 0


def test_a_dataset_of_the_hub_is_prepared_once_and_needs_no_network_then(tmp_path, monkeypatch):
    file, asked = parquet(tmp_path / "hub.parquet", texts()), []
    build = datasets.load_dataset_builder

    def builder(path, name, revision):
        asked.append((path, revision))
        return build("parquet", data_files={"train": [str(file)]})

    info = type("Info", (), {"sha": "c0ffee", "card_data": None})
    run = [*RUN, *STEPS, "--data", "open-web-math", "--out", "run"]
    with monkeypatch.context() as there:
        there.setattr(datasets, "load_dataset_builder", builder)
        there.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: info)
        code, said = sbld(*run)
        assert code == 0, said
    assert asked == [("open-web-math/open-web-math", "c0ffee")]
    before = RunRecord.load("run/run.json")
    assert sbld(*run)[0] == 0 and RunRecord.load("run/run.json") == before
    assert sbld("sensitivity", "run", "--batches", "2", "--out", "s.json")[0] == 0


# ---- other data is another run


def test_data_that_changed_between_stop_and_go_on_is_refused(tmp_path, stopping):
    path = jsonl(tmp_path / "mine.jsonl", texts())
    asked = [*RUN, *STEPS, "--out", "run", "--data"]
    stopping(5)
    assert sbld(*asked, path)[0] == 130
    code, said = sbld(*asked, path, "--max-bytes", "170000")
    assert code == 2 and "max_bytes=170000 is asked for, the run in 'run' has None" in said
    moved = jsonl(tmp_path / "moved" / "mine.jsonl", texts())
    stopping(7)
    code, said = sbld(*asked, moved)  # the same text in another place
    assert code == 130 and "after 7 steps" in said
    jsonl(path, texts(seed=1))
    jsonl(tmp_path / "a.jsonl", texts(seed=2))
    stopping(99)
    code, said = sbld(*asked, path)
    assert code == 2 and "data_sha256=" in said and "resume='never'" in said
    code, said = sbld(*asked, "a.jsonl")
    assert code == 2 and "dataset=('a.jsonl',) is asked for" in said
    code, said = sbld(*RUN, *STEPS, "--out", "run")
    assert code == 2 and "dataset=() is asked for" in said
    assert len(RunRecord.load("run/run.json")) == 7


def test_a_run_from_before_there_was_data_is_gone_on_with(tmp_path):
    run = [*RUN, "--steps", "2", "--out", "run"]
    assert sbld(*run)[0] == 0
    path = tmp_path / "run" / "analysis" / "pretraining.json"
    asked = Asked.load(path)
    names = ("dataset", "columns", "max_bytes")
    older = {name: value for name, value in asked.config.items() if name not in names}
    Asked(config=older, data_sha256=asked.data_sha256).save(path)
    assert sbld(*run)[0] == 0
    assert sbld("sensitivity", "run", "--batches", "2", "--out", "s.json")[0] == 0


def test_sensitivities_on_other_text_than_the_run_s(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", texts())
    assert sbld(*RUN, "--steps", "2", "--data", path, "--out", "run")[0] == 0
    found = []
    for corpus in ([], ["--corpus", "texts"]):
        for place, text in enumerate(texts(seed=3) if corpus else ()):
            (tmp_path / "texts").mkdir(exist_ok=True)
            (tmp_path / "texts" / f"{place}.txt").write_text(text)
        code, said = sbld("sensitivity", "run", "--batches", "2", *corpus, "--out", "s.json")
        assert code == 0, said
        found.append(SensitivityData.load("s.json").values)
    assert found[0] != found[1]


# ---- what cannot be had


@pytest.mark.parametrize("is_offline", [True, False])
def test_without_a_network_it_is_said_at_once(monkeypatch, is_offline):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", is_offline)
    start = time.monotonic()
    code, said = sbld(*RUN, "--data", "open-web-math", "--out", "run")
    assert code == 1 and time.monotonic() - start < 30
    assert "HubError: open-web-math/open-web-math cannot be reached: no network" in said
    assert "nothing was prepared yet" in said and not Path("run").exists()


def test_a_broken_file_is_named_and_what_was_before_it_kept(tmp_path):
    some = texts()
    files = [parquet(tmp_path / f"{i}.parquet", some[300 * i : 300 * i + 300]) for i in range(2)]
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[: len(whole) // 2])
    run = [*RUN, "--steps", "2", "--out", "run", "--data", files[0], "--data", files[1]]
    code, said = sbld(*run)
    assert code == 1 and "HubError: " in said and "1.parquet is broken, or was cut off" in said
    assert "300 rows (" in said and "the same call goes on after them" in said
    files[1].write_bytes(whole)
    assert sbld(*run)[0] == 0


def test_without_the_library_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    path = jsonl(tmp_path / "mine.jsonl", texts(9))
    monkeypatch.setitem(sys.modules, "datasets", None)
    code, said = sbld(*RUN, "--data", path, "--out", "run")
    assert code == 1 and "ModuleNotFoundError: " in said and "pip install datasets" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "open-web-maths"], "did you mean 'open-web-math'"),
        (["--data", "open-web-math", "--data", "a.jsonl"], "it goes alone"),
        (["--data", "gone.jsonl"], "dataset='gone.jsonl' is not known"),
        (["--data", "x" * 3000], "is not known"),
        (["--data", ""], "dataset='' must be a path"),
        (["--data", "notes.txt"], "'notes.txt' ends with none of .parquet"),
        (["--data", "empty"], "dataset='empty' is a folder without"),
        (["--data", "a.jsonl", "--data", "a.jsonl"], "names one twice"),
        (["--data", "a.jsonl", "--data", "a.parquet"], "several kinds, json and parquet"),
        (["--data", "a.jsonl", "--columns", "body"], "'body' is no column of a.jsonl; its"),
        (["--data", "a.jsonl", "--columns", "n"], "'n' of a.jsonl holds int64, not text"),
        (["--data", "a.jsonl", "--columns", "n", "--columns", "n"], "one or more different"),
        (["--data", "a.jsonl", "--max-bytes", "0"], "max_bytes=0 must be at least 1"),
        (["--data", "a.jsonl", "--max-bytes", "9"], "gives no text to train a tokenizer on"),
        (["--data", "a.jsonl", "--corpus", "empty"], "and corpus='empty': give one of them"),
        (["--columns", "body"], "columns=('body',) is of a dataset; name one"),
        (["--max-bytes", "9"], "max_bytes=9 is of a dataset; name one"),
    ],
)
def test_what_is_asked_wrongly_is_a_usage_error(tmp_path, arguments, message):
    jsonl(tmp_path / "a.jsonl", texts(3))
    parquet(tmp_path / "a.parquet", texts(3))
    (tmp_path / "notes.txt").write_text("no data")
    (tmp_path / "empty").mkdir()
    code, said = sbld(*RUN, *arguments, "--out", "run")
    assert code == 2 and message in said, said
    assert not Path("run").exists()


def test_the_bar_counts_bytes_and_rows(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(cli_training, "progress_bar", lambda: Bar(seen))
    path = jsonl(tmp_path / "mine.jsonl", texts())
    flags = ["--data", path, "--max-bytes", "150000"]
    assert sbld(*RUN, "--steps", "2", *flags, "--out", "run")[0] == 0
    told = [values for values in seen if values.get("in_bytes")]
    assert told[-1]["total"] == 150_000 and 149_000 < told[-1]["completed"] <= 150_000
    assert told[0]["description"].endswith("· 1 rows") and len(told) > 300
    assert seen[-1]["completed"] == 2 and not seen[-1].get("in_bytes")


class Bar:
    """A progress bar that keeps what it is told."""

    def __init__(self, seen: list[dict]):
        self.seen = seen

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def add_task(self, *_, **__) -> int:
        return 0

    def update(self, _, **values):
        self.seen.append(values)

    reset = update
