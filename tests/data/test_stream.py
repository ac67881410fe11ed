"""Streamed text gives the tokens of the whole text in flat memory, or no file at all."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
from collections import Counter
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.data import (
    TokenBatches,
    TokenFile,
    load_corpus,
    sample_texts,
    stream,
    stream_tokens,
    train_tokenizer,
    writing,
)
from sbldlib.data.reading import SPLITS, pieces
from sbldlib.data.writing import TokenWriter

SAMPLE = [
    "the quick brown fox's tail isn't 12345 long; we'll see, they've said \"no\"!\n" * 4,
    "def f(x):\n    return x + 1  # add one\n\n\n\tthe end of it, 2024-01-31\n" * 4,
    "naïve café — ünï¢ode, 中文没有空格。日本語も、한국어 🙂🙂 e\u0301\u00a0x\n" * 4,
]


@cache
def bpe(size: int = 380):
    return train_tokenizer(SAMPLE, size)


@cache
def plain_bytes():
    return train_tokenizer([], 256)


def expected(texts, tokenizer) -> list[int]:
    return [token for text in texts for token in [*tokenizer.encode(text), tokenizer.end_of_text]]


def streamed(source, tokenizer, folder, **options) -> list[int]:
    return stream_tokens(source, tokenizer, folder / "t.tokens", **options).tokens.tolist()


# ---- the same tokens

WORDS = st.sampled_from(
    ["the", " quick", "fox's", "isn't", "'", "''ll", "12345", "7", " ", "  ", "\n", "\n\n", "\t",
     " \n ", "(", "):", "->", "中文没有空格", "。", "🙂", "é", "e\u0301", "\u00a0", "\u2003",
     "\x1c", "\x85", "\u200b", "\ufeff", "٣", "½", "Ⅷ", "_", "<|endoftext|>", "'re", "REST"]
)  # fmt: skip


@given(st.lists(st.lists(WORDS, max_size=60).map("".join), min_size=1, max_size=3))
def test_cut_text_has_the_tokens_of_the_whole(texts):
    tokenizer, counts = bpe(), Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "PART_CHARACTERS", 7)
        patch.setattr(stream, "BATCH_PARTS", 8)
        parts = [list(stream._parts((text,), counts)) for text in texts]
    assert ["".join(some) for some in parts] == texts
    if not counts["cut_anywhere"]:
        found = [tokenizer.encode_parts(some).tolist() for some in parts if some]
        assert found == [tokenizer.encode(text) for text in texts if text]


def test_long_text_is_cut_and_none_of_its_tokens_is(tmp_path):
    text = "".join(SAMPLE) * 900
    assert len(text) > 5 * stream.PART_CHARACTERS
    assert len(list(stream._parts((text,), Counter()))) > 5
    assert streamed([text], bpe(), tmp_path) == expected([text], bpe())


@pytest.mark.parametrize(
    "run",
    ["1" * 200_000, "a(" * 100_000, "x" * 130_000 + " y" * 70_000],
    ids=["digits", "marks", "late"],
)
def test_without_white_space_other_borders_are_found(tmp_path, run):
    counts = Counter()
    assert streamed([run], bpe(), tmp_path, counts=counts) == expected([run], bpe())
    assert counts["cut_anywhere"] == 0


def test_a_run_without_a_border_is_cut_and_counted(tmp_path):
    run, counts = "x" * (2**20 + 2**19), Counter()
    found = streamed([run], bpe(), tmp_path, counts=counts)
    assert counts["cut_anywhere"] == 1
    assert bpe().decode(found[:-1]) == run
    assert abs(len(found) - len(expected([run], bpe()))) <= 2


def test_plain_bytes_are_the_bytes(tmp_path):
    text = "".join(SAMPLE) * 500
    assert plain_bytes().is_plain_bytes and not bpe().is_plain_bytes
    found = streamed([text, "b"], plain_bytes(), tmp_path)
    assert found == [*text.encode(), 0, ord("b"), 0]


def test_a_document_may_come_in_pieces(tmp_path):
    text = "".join(SAMPLE) * 900
    cut = [text[place : place + 999] for place in range(0, len(text), 999)]
    assert streamed([iter(cut), "b"], bpe(), tmp_path) == expected([text, "b"], bpe())


# ---- files


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 64])
def test_blocks_cut_no_character_and_no_line_end(tmp_path, block_bytes):
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbf" + "aé\r\n中\r🙂\r\r\nb\r".encode())
    found = list(pieces(path, block_bytes=block_bytes))
    assert "".join(found) == "aé\n中\n🙂\n\nb\n"
    assert block_bytes == 64 or len(found) > 2


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "texts"
    for place in range(60):
        path = root / f"{place % 7}" / f"{place}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((SAMPLE[place % 3] + f"{place}\r\n").encode())
    return root


def test_a_folder_is_its_files_in_order(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(stream, "pieces", partial(pieces, block_bytes=17))
    texts = [
        path.read_text()
        for path in sorted(folder.rglob("*.txt"), key=lambda p: p.relative_to(folder).as_posix())
    ]
    counts = Counter()
    assert streamed(folder, bpe(), tmp_path, counts=counts) == expected(texts, bpe())
    assert counts["found"] == 60 and sum(counts.values()) == 60
    file = folder / "1" / "1.txt"
    assert streamed(str(file), bpe(), tmp_path) == expected([file.read_text()], bpe())


def test_a_split_is_load_corpus_s(tmp_path, folder):
    corpus = load_corpus(folder, validation_fraction=0.05, test_fraction=0.05)
    for split in SPLITS:
        assert streamed(folder, bpe(), tmp_path, split=split) == expected(
            corpus.texts(split), bpe()
        )


def test_what_is_no_text_is_left_out_and_counted(tmp_path):
    root = tmp_path / "texts"
    root.mkdir()
    (root / "a.txt").write_text("first ")
    (root / "b.bin").write_bytes(b"\0\1\2")
    (root / "c.txt").write_bytes(b"good at first " * 100_000 + b"\xff then not")
    (root / "d.txt").write_bytes(b"")
    (root / "e.txt").write_bytes(b"half a letter" + "é".encode()[:1])
    os.mkfifo(root / "f.pipe")
    (root / "g.txt").symlink_to(root / "nowhere")
    (root / "h.txt").write_text("last")
    counts = Counter()
    assert streamed(root, bpe(), tmp_path, counts=counts) == expected(["first ", "last"], bpe())
    assert counts == {"found": 8, "not_utf8": 3, "unreadable": 2, "empty": 1, "cut_anywhere": 0}


def test_a_file_that_goes_while_it_is_read_is_taken_back(tmp_path, folder, monkeypatch):
    def failing(path, **options):
        for place, piece in enumerate(pieces(path, block_bytes=50)):
            if path.name == "7.txt" and place == 3:
                raise OSError("gone")
            yield piece

    whole = streamed(folder, bpe(), tmp_path)
    gone = expected([(folder / "0" / "7.txt").read_text()], bpe())
    monkeypatch.setattr(stream, "pieces", failing)
    counts = Counter()
    found = streamed(folder, bpe(), tmp_path, counts=counts)
    assert counts["unreadable"] == 1 and len(found) == len(whole) - len(gone)


# ---- whole or not there


def test_what_is_written_is_a_token_file_like_any_other(tmp_path):
    told = []
    written = stream_tokens(SAMPLE, bpe(), tmp_path / "deep" / "t.tokens", on_bytes=told.append)
    opened = TokenFile.open(tmp_path / "deep" / "t.tokens", verify=True)
    assert opened == written
    assert opened.num_bytes == sum(len(text.encode()) for text in SAMPLE) == told[-1]
    assert told == sorted(told)
    assert opened.num_tokens == len(opened.tokens) and opened.tokens.max() < 380
    inputs_BT, _ = TokenBatches(opened, context_length=8, batch_size=2).batch(0)
    assert inputs_BT.shape == (2, 8)


def test_the_fingerprint_is_of_text_borders_and_tokenizer(tmp_path):
    names = [
        stream_tokens(texts, tokenizer, tmp_path / "t.tokens").fingerprint
        for texts, tokenizer in (
            (["ab", "c"], bpe()), (["ab", "c"], bpe()), (["a", "bc"], bpe()), (["ab", "d"], bpe()),
            (["ab", "c"], bpe(300)),
        )
    ]  # fmt: skip
    assert names[0] == names[1] and len(set(names)) == 4


def failing_documents():
    yield from SAMPLE
    raise RuntimeError("the source broke")


def test_a_stream_that_breaks_leaves_what_was_there(tmp_path):
    path = tmp_path / "t.tokens"
    before = stream_tokens(["old"], bpe(), path)
    with pytest.raises(RuntimeError, match="the source broke"):
        stream_tokens(failing_documents(), bpe(), path)
    assert TokenFile.open(path, verify=True) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.json", "t.tokens"]


@pytest.mark.parametrize("last", ["write_atomically", "sync_folder"])
def test_new_tokens_never_stand_beside_an_old_side_file(tmp_path, monkeypatch, last):
    path = tmp_path / "t.tokens"
    stream_tokens(["old, of the same length"], plain_bytes(), path)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, last, stop)
    with pytest.raises(KeyboardInterrupt):
        stream_tokens(["new, of the same length"], plain_bytes(), path)
    with pytest.raises(FileNotFoundError, match="is gone"):
        TokenFile.open(path)


KILLED = """
import os, signal, sys
from sbldlib.data import stream_tokens, train_tokenizer
def documents():
    for place in range(100):
        yield "some text of a document\\n" * 1000
        if place == 50:
            os.kill(os.getpid(), signal.SIGKILL)
stream_tokens(documents(), train_tokenizer([], 256), sys.argv[1])
"""


def test_a_killed_stream_leaves_nothing_that_counts_and_is_cleared_by_the_next(tmp_path):
    path = tmp_path / "t.tokens"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=120)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".t.tokens.") and left.name.endswith(".part")
    with pytest.raises(FileNotFoundError):
        TokenFile.open(path)
    mine = tmp_path / f".t.tokens.{os.getpid()}-999.part"  # of a process that lives
    mine.write_bytes(b"x")
    stream_tokens(["whole"], plain_bytes(), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [mine.name, "t.json", "t.tokens"]


def test_a_callback_s_own_error_is_not_the_file_s(tmp_path, folder):
    def broken(_):
        raise OSError("no terminal")

    with pytest.raises(OSError, match="no terminal"):
        stream_tokens(folder, bpe(), tmp_path / "t.tokens", on_bytes=broken)


# ---- refused


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no such place", "source='no such place' is neither a file nor a folder"),
        (3, "source=3 must be a list"),
        ([], r"source=\[\] holds no text"),
        ([""], "holds no text"),
        ([3], "source=3 must be a list"),
        ([["a", 3]], "source=3 must be text"),
        (["a\ud800b"], r"source='a\\ud800b' holds '\\ud800' at place 1, half a character"),
    ],
)
def test_a_source_without_text_is_named(tmp_path, source, message):
    with pytest.raises(ValueError, match=message):
        stream_tokens(source, bpe(), tmp_path / "t.tokens")
    assert list(tmp_path.iterdir()) == []


# ---- samples


def test_a_sample_of_a_folder_takes_from_many_files(folder):
    sample = sample_texts(folder, max_bytes=3000)
    assert sum(len(text.encode()) for text in sample) <= 3000
    assert len(sample) == 60 and len({text[:5] for text in sample}) == 3
    assert sample == sample_texts(folder, max_bytes=3000)
    assert train_tokenizer(sample, 300).vocabulary_size == 300


def test_a_sample_of_documents_is_their_beginning():
    endless = (text for text in iter(lambda: "é" * 10, None))
    sample = sample_texts(endless, max_bytes=45)
    assert "".join(sample) == "é" * 22
    with pytest.raises(ValueError, match="holds no text to take a sample of"):
        sample_texts([])


def test_a_sample_of_one_file_reads_no_more_than_it_needs(tmp_path, monkeypatch):
    path, asked = tmp_path / "large", []
    path.write_text("text " * 1000)

    def counted(path):
        for piece in pieces(path, block_bytes=10):
            asked.append(piece)
            yield piece

    monkeypatch.setattr(stream, "pieces", counted)
    assert sample_texts(path, max_bytes=20) == ["text " * 4]
    assert asked == ["text text "] * 2


def test_two_streams_at_once_do_not_meet(tmp_path):
    path = tmp_path / "t.tokens"
    texts = [["a" * 50_000], ["b" * 50_000]]
    threads = [
        threading.Thread(target=stream_tokens, args=(some, plain_bytes(), path)) for some in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = TokenFile.open(path).tokens[:-1]
    assert len(np.unique(found)) == 1 and len(found) == 50_000


def test_a_disk_that_is_full_at_the_close_leaves_nothing_behind(tmp_path):
    tokenizer = train_tokenizer([], 256)

    class Full(io.BytesIO):
        def close(self):
            super().close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "text.tokens"
    with pytest.raises(OSError, match="No space left"), TokenWriter(target, tokenizer) as writer:
        writer._file.close()
        writer._file = Full()
        writer.add(["some text"])
    assert not list(tmp_path.iterdir())
