from __future__ import annotations

import os
from pathlib import Path

import pytest

from sbldlib.data import text
from sbldlib.data.reading import pieces
from sbldlib.data.text import SPLITS, corpus_from_texts, load_corpus


def write_folder(folder: Path, num_files: int) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(num_files):
        (folder / f"{i:03}.txt").write_text(f"document {i}\n" * 20)
    return folder


def split_of_each_path(corpus) -> dict[str, str]:
    return {d.path: split for split, documents in corpus.splits.items() for d in documents}


def test_the_standard_library_is_found_filtered_and_shared_out():
    corpus = load_corpus()
    paths = split_of_each_path(corpus)
    assert {"json/decoder.py", "heapq.py", "asyncio/events.py"} <= paths.keys()
    folders = {part for path in paths for part in path.split("/")[:-1]}
    assert not folders & {"test", "tests", "site-packages", "dist-packages", "encodings", "idlelib"}
    assert not any("_sysconfigdata" in path or "sitecustomize" in path for path in paths)
    total = sum(corpus.num_bytes.values())
    assert total > 4_000_000
    assert corpus.num_bytes["train"] / total > 0.8
    assert min(corpus.num_bytes.values()) / total > 0.01
    assert corpus.counts["kept"] == len(paths)
    assert corpus.source.endswith(corpus.python_version)
    assert load_corpus().fingerprint == corpus.fingerprint


def test_no_text_lies_in_two_splits():
    corpus = load_corpus()
    texts = [each for split in SPLITS for each in corpus.texts(split)]
    assert len(set(texts)) == len(texts)


def test_the_split_of_a_path_is_the_same_on_every_machine(tmp_path):
    paths = split_of_each_path(load_corpus(write_folder(tmp_path / "a", 100)))
    others = {split: [p[:3] for p, s in paths.items() if s == split] for split in SPLITS[1:]}
    assert others == {
        "validation": ["007", "017", "023", "024", "030", "075", "087"],
        "test": ["014", "016", "037", "046", "059", "076", "077"],
    }


def test_a_file_stays_in_its_split_when_others_come(tmp_path):
    before = split_of_each_path(load_corpus(write_folder(tmp_path / "a", 100)))
    after = split_of_each_path(load_corpus(write_folder(tmp_path / "a", 160)))
    assert len(after) == 160
    assert before.items() <= after.items()


def test_the_fingerprint_is_of_content_and_path_not_of_place(tmp_path):
    first = load_corpus(write_folder(tmp_path / "a", 100))
    same = load_corpus(write_folder(tmp_path / "b", 100))
    assert first.fingerprint == same.fingerprint
    (tmp_path / "b" / "007.txt").write_text("changed\n")
    changed = load_corpus(tmp_path / "b")
    (tmp_path / "a" / "007.txt").rename(tmp_path / "a" / "007b.txt")
    renamed = load_corpus(tmp_path / "a")
    assert len({first.fingerprint, changed.fingerprint, renamed.fingerprint}) == 3


def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path):
    unix = load_corpus(write_folder(tmp_path / "a", 100))
    write_folder(tmp_path / "b", 100)
    for path in (tmp_path / "b").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_corpus(tmp_path / "b").fingerprint == unix.fingerprint


def test_what_is_left_out_is_counted(tmp_path):
    write_folder(tmp_path, 100)
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "film.bin").write_bytes(b"\0\1\2")
    (tmp_path / "late.txt").write_bytes(b"x" * 100_000 + b"\xff")
    (tmp_path / "zz_copy.txt").write_text("document 3\n" * 20)
    (tmp_path / "blank.txt").write_text(" \n\n")
    (tmp_path / ".hidden").write_text("no")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.txt").write_text("no")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "é.md").write_text("ünïcode", encoding="utf-8")
    corpus = load_corpus(tmp_path)
    assert corpus.counts == {
        "found": 106,
        "kept": 101,
        "not_utf8": 3,
        "unreadable": 0,
        "duplicate": 1,
        "empty": 1,
        "over_max_bytes": 0,
    }
    paths = split_of_each_path(corpus)
    assert "deeper/é.md" in paths and "003.txt" in paths and "zz_copy.txt" not in paths


def test_suffixes_choose_the_files(tmp_path):
    write_folder(tmp_path, 100)
    (tmp_path / "notes.md").write_text("not asked for")
    assert load_corpus(tmp_path, suffixes=[".txt"]).counts["found"] == 100


@pytest.mark.parametrize("max_bytes", [200_000, 1_000_000])
def test_max_bytes_holds_in_every_split(max_bytes):
    whole, part = load_corpus(), load_corpus(max_bytes=max_bytes)
    assert sum(part.num_bytes.values()) <= max_bytes
    assert part.num_bytes["train"] == pytest.approx(0.9 * max_bytes, abs=4)
    assert part.num_bytes["validation"] <= 0.05 * max_bytes
    assert split_of_each_path(part).items() <= split_of_each_path(whole).items()
    assert part.counts["kept"] + part.counts["over_max_bytes"] == whole.counts["kept"]
    assert load_corpus(max_bytes=max_bytes).fingerprint == part.fingerprint != whole.fingerprint


def test_a_corpus_that_cannot_be_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match=r"root='.*nowhere' is not a folder"):
        load_corpus(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="empty corpus: no file to read"):
        load_corpus(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match="is not a folder"):
        load_corpus(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="none of its 1 files is UTF-8"):
        load_corpus(tmp_path)
    (tmp_path / "b.txt").write_text("\n")
    with pytest.raises(ValueError, match="its 2 files hold no text"):
        load_corpus(tmp_path)
    (tmp_path / "c.txt").write_text("one document")
    with pytest.raises(ValueError, match=r"split '\w+' of root=.* is empty: 3 files .* add files"):
        load_corpus(tmp_path)


def test_a_standard_library_without_source_is_refused(tmp_path, monkeypatch):
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "installed.py").write_text("x = 1")
    monkeypatch.setattr(text, "_standard_library", lambda: tmp_path)
    with pytest.raises(ValueError, match="name a folder of text files as root"):
        load_corpus()


def test_arguments_out_of_range_are_named():
    with pytest.raises(ValueError, match="max_bytes=0"):
        load_corpus(max_bytes=0)
    with pytest.raises(ValueError, match="max_bytes=10 leaves no room"):
        load_corpus(max_bytes=10)
    with pytest.raises(ValueError, match="validation_fraction=0 is outside"):
        load_corpus(validation_fraction=0)
    with pytest.raises(ValueError, match=r"validation_fraction=0.5 and test_fraction=0.5 leave"):
        load_corpus(validation_fraction=0.5, test_fraction=0.5)


def test_more_text_than_memory_is_for_a_stream(tmp_path, monkeypatch):
    write_folder(tmp_path, 100)
    monkeypatch.setattr(text, "MOST_BYTES", 10_000)
    with pytest.raises(ValueError, match=r"root=.* holds 0.0 GiB .*; give max_bytes, or make a"):
        load_corpus(tmp_path)
    assert sum(load_corpus(tmp_path, max_bytes=9_000).num_bytes.values()) <= 9_000


def test_a_file_is_read_no_further_than_its_share(tmp_path, monkeypatch):
    write_folder(tmp_path, 60)
    (tmp_path / "large.txt").write_text("word " * 500_000)
    asked = []

    def counted(path, **options):
        for piece in pieces(path, block_bytes=1000):
            asked.append(len(piece))
            yield piece

    monkeypatch.setattr(text, "pieces", counted)  # of the second reading, the one that keeps text
    load_corpus(tmp_path, max_bytes=20_000)
    assert sum(asked) < 60_000


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_what_may_not_be_read_is_counted(tmp_path):
    write_folder(tmp_path, 100)
    (tmp_path / "closed.txt").write_text("closed")
    (tmp_path / "closed.txt").chmod(0)
    assert load_corpus(tmp_path).counts["unreadable"] == 1


def test_half_a_character_in_a_text_is_named():
    with pytest.raises(ValueError, match=r"splits\['train'\]='a.ud800' holds '.ud800' at place 1"):
        corpus_from_texts({"train": ["a\ud800"]})


def test_a_corpus_of_texts_in_memory():
    corpus = corpus_from_texts({"train": ["ab", "ü"], "validation": ["d"]}, source="mine")
    assert corpus.texts("train") == ["ab", "ü"]
    assert corpus.num_bytes == {"train": 4, "validation": 1}
    assert corpus.source == "mine" and corpus.counts["kept"] == 3
    assert "ü" not in repr(corpus)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"validation": ["a"]}, "has no 'train'"),
        ({"train": ["a"], "test": []}, r"splits\['test'\] holds no text"),
        ({"train": [""]}, r"splits\['train'\] holds no text"),
        ({"train": ["a"], "test": ["b", "a"]}, "lies in 'train' and in 'test'"),
    ],
)
def test_texts_that_leak_or_lack_are_refused(splits, message):
    with pytest.raises(ValueError, match=message):
        corpus_from_texts(splits)
