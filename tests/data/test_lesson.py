from __future__ import annotations

import heapq
import inspect
import subprocess
import sys

import pytest
import torch

from sbldlib.data import chance_level, prepare_lesson_data
from sbldlib.data.arithmetic import split_of
from sbldlib.data.batches import IGNORE, BatchSource

SMALL = dict(vocabulary_size=300, context_length=32, batch_size=4, arithmetic_rows=2)
SMALL |= dict(max_bytes=400_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(folder):
    return prepare_lesson_data(folder=folder, **SMALL)


def test_one_call_gives_all_that_a_lesson_needs(data):
    assert isinstance(data.train, BatchSource)
    inputs, targets = data.train.batch(0)
    assert inputs.shape == targets.shape == (4, 32)
    assert inputs.max() < data.vocabulary_size == 300
    assert (targets[:2] != IGNORE).all()
    assert (targets[2:] == IGNORE).any()
    assert 1 < data.bytes_per_token < 4
    assert all(batch[0].shape == (4, 32) for batch in data.validation)
    assert "standard library" in data.description
    assert f"chance level {chance_level(data.problems):.2f}" in data.description


def test_problems_are_different_ones_and_held_out(data):
    assert len(set(data.problems)) == len(data.problems) > 60
    copied = [p for p in data.problems if p.kind == "copy"]
    assert copied and all(split_of(p.prompt.removesuffix("=")) == "validation" for p in copied)


def test_from_the_cache_and_from_another_cache_it_is_the_same(data, folder, tmp_path):
    names = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    cached = prepare_lesson_data(folder=folder, **SMALL)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == names
    fresh = prepare_lesson_data(folder=tmp_path, **SMALL)
    for other in (cached, fresh):
        assert other.fingerprint == data.fingerprint
        assert torch.equal(other.train.batch(9, 1)[0], data.train.batch(9, 1)[0])
        assert torch.equal(other.validation[-1][0], data.validation[-1][0])
        assert other.problems == data.problems


def test_the_seed_moves_the_training_order_alone(data, folder):
    other = prepare_lesson_data(folder=folder, seed=1, **SMALL)
    assert other.fingerprint != data.fingerprint
    assert not torch.equal(other.train.batch(0)[0], data.train.batch(0)[0])
    assert torch.equal(other.validation[0][0], data.validation[0][0])
    assert other.problems == data.problems


def test_without_arithmetic_every_row_is_text(folder):
    data = prepare_lesson_data(folder=folder, **SMALL | {"arithmetic_rows": 0})
    assert (data.train.batch(0)[1] != IGNORE).all()


def test_a_folder_of_ones_own_text(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for i in range(120):
        (texts / f"{i}.txt").write_text(f"chapter {i} of a book\n" + inspect.getsource(heapq))
    data = prepare_lesson_data(root=texts, folder=tmp_path / "cache", **SMALL)
    assert str(texts) in data.description
    assert data.tokenizer.decode(data.validation[0][0][0].tolist()).startswith("chapter")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arithmetic_rows": 4}, r"arithmetic_rows=4 leaves .* batch_size=4 has room for 0\.\.3"),
        ({"arithmetic_rows": -1}, "arithmetic_rows=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"context_length": 0}, "context_length=0"),
        ({"vocabulary_size": 100}, "vocabulary_size=100"),
        ({"seed": -1}, "seed=-1"),
        ({"max_bytes": 0}, "max_bytes=0"),
    ],
)
def test_bad_sizes_are_named_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        prepare_lesson_data(folder=tmp_path / "cache", **SMALL | change)
    assert not (tmp_path / "cache").exists()


def test_the_room_needs_no_more_than_torch_numpy_and_tokenizers():
    code = (
        "import sys\n"
        "for name in ('scipy', 'pandas', 'matplotlib', 'transformers', 'datasets', 'rich'):\n"
        "    sys.modules[name] = None\n"
        "import sbldlib.data\n"
        "assert 'tokenizers' not in sys.modules\n"
        "import tokenizers\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
