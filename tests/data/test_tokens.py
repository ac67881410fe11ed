from __future__ import annotations

import dataclasses
import heapq
import inspect
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from sbldlib.data import corpus_from_texts, tokens
from sbldlib.data.tokenizer import Tokenizer
from sbldlib.data.tokens import (
    TokenFile,
    cached_tokenizer,
    default_cache_folder,
    prepare_tokens,
)

SOURCE = inspect.getsource(heapq).split("\n\n")
CORPUS = corpus_from_texts({"train": SOURCE[:-9], "validation": [*SOURCE[-9:], "größer"]})
NUM_FILES = 6  # tokenizer and digest, two splits of tokens with their side files


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    return cached_tokenizer(CORPUS, 280, tmp_path_factory.mktemp("cache"))


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_token_files_hold_the_tokens_and_what_is_known_of_them(tmp_path, tokenizer):
    files = prepare_tokens(CORPUS, tokenizer, tmp_path)
    assert set(files) == {"train", "validation"}
    for split, file in files.items():
        expected = tokenizer.encode_documents(CORPUS.texts(split))
        assert (file.tokens == expected).all()
        assert isinstance(file.tokens, np.memmap) and not file.tokens.flags.writeable
        assert file.num_tokens == len(expected)
        assert file.num_bytes == sum(len(text.encode()) for text in CORPUS.texts(split))
        assert file.bytes_per_token == file.num_bytes / file.num_tokens
        assert file.vocabulary_size == 280
        assert TokenFile.open(file.path, verify=True) == file
    assert files["train"].fingerprint != files["validation"].fingerprint


def test_the_second_time_nothing_is_encoded_or_trained(tmp_path, monkeypatch):
    first = cached_tokenizer(CORPUS, 280, tmp_path)
    files = prepare_tokens(CORPUS, first, tmp_path)
    before = content_of(tmp_path)
    assert len(before) == NUM_FILES

    def refuse(*_):
        raise AssertionError("the cache was not used")

    monkeypatch.setattr(tokens, "train_tokenizer", refuse)
    monkeypatch.setattr(Tokenizer, "encode_documents", refuse)
    again = cached_tokenizer(CORPUS, 280, tmp_path)
    assert again == first
    assert prepare_tokens(CORPUS, again, tmp_path) == files
    assert content_of(tmp_path) == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("pattern", ["*.tokens", "train-*.json", "tokenizer-*.json", "*.sha256"])
@pytest.mark.parametrize("damage", [cut, flip, empty, Path.unlink])
def test_what_is_damaged_or_gone_is_made_again_as_it_was(tmp_path, caplog, pattern, damage):
    prepare_tokens(CORPUS, cached_tokenizer(CORPUS, 280, tmp_path), tmp_path)
    before = content_of(tmp_path)
    damage(next(tmp_path.glob(pattern)))
    with caplog.at_level(logging.WARNING):
        prepare_tokens(CORPUS, cached_tokenizer(CORPUS, 280, tmp_path), tmp_path)
    assert content_of(tmp_path) == before
    assert ("damaged cache" in caplog.text) == (damage is not Path.unlink)


def test_a_side_file_of_other_tokens_does_not_count(tmp_path, tokenizer):
    files = prepare_tokens(CORPUS, tokenizer, tmp_path)
    path = files["validation"].path
    for suffix in (".tokens", ".json"):
        content = files["train"].path.with_suffix(suffix).read_bytes()
        path.with_suffix(suffix).write_bytes(content)
    assert prepare_tokens(CORPUS, tokenizer, tmp_path) == files


def test_opening_says_what_is_wrong_and_how_to_make_it_again(tmp_path, tokenizer):
    file = prepare_tokens(CORPUS, tokenizer, tmp_path)["train"]
    side = file.path.with_suffix(".json")
    written, facts = file.path.read_bytes(), side.read_text()

    file.path.write_bytes(written[:-2])
    with pytest.raises(ValueError, match=rf"holds {len(written) - 2} bytes where {len(written)}"):
        TokenFile.open(file.path)
    flipped = bytearray(written)
    flipped[0] ^= 1
    file.path.write_bytes(flipped)
    with pytest.raises(ValueError, match="has changed since it was written; prepare_tokens"):
        TokenFile.open(file.path)
    assert TokenFile.open(file.path, verify=False) == file
    file.path.write_bytes(written)

    for bad in ("[]", "{}", facts.replace('"format": 1', '"format": 0'), facts[:-9]):
        side.write_text(bad)
        with pytest.raises(ValueError, match=r"json cannot be read \(.*; prepare_tokens"):
            TokenFile.open(file.path)
    side.unlink()
    with pytest.raises(FileNotFoundError, match=r"json is gone; prepare_tokens\(corpus"):
        TokenFile.open(file.path)
    file.path.unlink()
    with pytest.raises(FileNotFoundError, match="tokens is gone"):
        TokenFile.open(file.path)


def test_large_files_are_hashed_on_request_only(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(tokens, "CHEAP_BYTES", 10)
    file = prepare_tokens(CORPUS, tokenizer, tmp_path)["train"]
    flip(file.path)
    assert TokenFile.open(file.path) == file
    with pytest.raises(ValueError, match="has changed"):
        TokenFile.open(file.path, verify=True)


@pytest.mark.parametrize("num_renames", [0, 1, 2, 3])
def test_a_failed_write_leaves_nothing_behind(tmp_path, tokenizer, monkeypatch, num_renames):
    real, done = os.replace, []

    def fail_later(*arguments):
        if len(done) == num_renames:
            raise OSError("the disk is full")
        done.append(arguments)
        real(*arguments)

    monkeypatch.setattr(os, "replace", fail_later)
    with pytest.raises(OSError, match="the disk is full"):
        prepare_tokens(CORPUS, tokenizer, tmp_path)
    monkeypatch.undo()
    assert not [name for name in content_of(tmp_path) if name.endswith(".part")]
    files = prepare_tokens(CORPUS, tokenizer, tmp_path)
    for split, file in files.items():
        assert (file.tokens == tokenizer.encode_documents(CORPUS.texts(split))).all()


def test_tokens_beyond_two_bytes_take_four(tmp_path, tokenizer):
    wide = dataclasses.replace(tokenizer, vocabulary_size=70_000)
    numbers = np.array([0, 69_999, 65_536])
    file = TokenFile.write(tmp_path / "a.tokens", numbers, num_bytes=3, tokenizer=wide, name="x")
    assert file.path.stat().st_size == 12
    assert TokenFile.open(file.path).tokens.tolist() == numbers.tolist()


def test_side_files_are_plain_json(tmp_path, tokenizer):
    file = prepare_tokens(CORPUS, tokenizer, tmp_path)["train"]
    facts = json.loads(file.path.with_suffix(".json").read_text())
    assert facts["num_tokens"] == file.num_tokens and facts["format"] == tokens.FORMAT


def test_the_cache_name_holds_all_that_the_content_depends_on(tmp_path, monkeypatch):
    cached_tokenizer(CORPUS, 280, tmp_path)
    cached_tokenizer(CORPUS, 281, tmp_path)
    cached_tokenizer(corpus_from_texts({"train": CORPUS.texts("train")}), 280, tmp_path)
    monkeypatch.setattr("tokenizers.__version__", "0.0.0")
    cached_tokenizer(CORPUS, 280, tmp_path)
    assert len(list(tmp_path.glob("tokenizer-*.json"))) == 4


def test_a_tokenizer_sees_the_training_text_alone(tmp_path, tokenizer):
    other = corpus_from_texts({"train": CORPUS.texts("train"), "validation": ["zqzqzqzq" * 99]})
    assert cached_tokenizer(other, 280, tmp_path) == tokenizer


def test_the_default_folder(tmp_path, monkeypatch):
    checkout = tmp_path / "checkout"
    (checkout / "sbldlib").mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    (checkout / "notebooks").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(checkout / "notebooks")
    assert default_cache_folder({}) == checkout / "data" / "cache"
    assert default_cache_folder({"SBLD_DATA": ""}) == checkout / "data" / "cache"
    assert default_cache_folder({"SBLD_DATA": str(tmp_path / "set")}) == tmp_path / "set"
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert default_cache_folder({}) == tmp_path / "home" / ".cache" / "sbldlib"


def test_the_default_folder_is_used(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setenv("SBLD_DATA", str(tmp_path / "cache"))
    file = prepare_tokens(CORPUS, tokenizer)["train"]
    assert file.path.parent == tmp_path / "cache"
