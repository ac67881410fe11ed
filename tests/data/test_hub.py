"""Rows of a dataset become token files: the same whatever stops them, and every fault is told."""

from __future__ import annotations

import errno
import gzip
import json
import os
import resource
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbldlib.data import TokenFile, train_tokenizer
from sbldlib.data.hub import HubError, HubTokens, prepare_hub_tokens, shards
from sbldlib.data.hub.dataset import DATASETS, MATHS_COLLEGE, OPEN_WEB_MATH, HubDataset
from sbldlib.data.hub.faults import in_words
from sbldlib.data.hub.tokens import DataCard
from sbldlib.data.reading import SPLITS, split_of
from sbldlib.storage.lock import FolderLock, RunBusyError

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
import huggingface_hub  # noqa: E402 - datasets brings them
import pyarrow.parquet as pq  # noqa: E402

SHARES = {"test": 0.2, "validation": 0.2, "train": 0.6}
MOST = 10**9
PROSE = """the derivative of a sum equals that of its terms and every polynomial vanishes where some
factor does so we may choose an integer which divides both numbers or show by induction on degree
how any matrix with real entries has roots if no line meets this plane twice then let us suppose
point circle angle cosine prime"""


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No network, nothing written elsewhere, small shards."""
    cache = tmp_path / "hf"
    for name in ("HF_CACHE_HOME", "HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH",
                 "EXTRACTED_DATASETS_PATH", "HF_MODULES_CACHE"):  # fmt: skip
        monkeypatch.setattr(datasets.config, name, cache)
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setattr(huggingface_hub.constants, name, str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(shards, "SHARD_BYTES", 2_000)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power fails here


def texts(num: int = 60) -> list[str]:
    words = PROSE.split()
    return [f"{i}: " + " ".join(words[(i * k + k * k) % 53] for k in range(20)) for i in range(num)]


def rows_of(some) -> list[dict]:
    return [{"url": f"u{place}", "text": text} for place, text in enumerate(some)]


def parquet(path: Path, rows, row_group_size: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=row_group_size)
    return path


def jsonl(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def of_files(*files: Path, columns=("text",), **more) -> HubDataset:
    return HubDataset(files=files, columns=columns, **more)


def prepare(dataset, folder: Path, **options) -> HubTokens:
    options = {"vocabulary_size": 256, "max_bytes": MOST, **options}
    return prepare_hub_tokens(
        dataset, folder=folder, validation_fraction=0.2, test_fraction=0.2, **options
    )


def documents(tokens: TokenFile, tokenizer) -> list[str]:
    """The texts of a token file."""
    found = tokens.tokens.tolist()
    ends = [place for place, token in enumerate(found) if token == tokenizer.end_of_text]
    starts = [0, *(end + 1 for end in ends)]
    return [tokenizer.decode(found[start:end]) for start, end in zip(starts, ends, strict=False)]


def contents(prepared: HubTokens) -> dict[str, bytes]:
    """Every byte that decides what is trained on."""
    names = [f"{split}{end}" for split in SPLITS for end in (".tokens", ".json")]
    return {name: (prepared.folder / name).read_bytes() for name in (*names, "tokenizer.json")}


# ---- the same tokens


def write_gzip(path: Path, rows) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


@pytest.mark.parametrize("kind", ["rows.parquet", "rows.jsonl", "rows.json", "rows.jsonl.gz"])
@pytest.mark.parametrize("size", [256, 300])
def test_tokens_are_those_of_the_texts(tmp_path, kind, size):
    rows = rows_of(texts())
    write = {"rows.parquet": parquet, "rows.jsonl": jsonl, "rows.jsonl.gz": write_gzip}
    path = tmp_path / kind
    if kind == "rows.json":
        path.write_text(json.dumps(rows))
    else:
        write[kind](path, rows)
    prepared = prepare(of_files(path), tmp_path, vocabulary_size=size)
    tokenizer = prepared.tokenizer
    assert tokenizer.vocabulary_size == size
    for split in SPLITS:
        of_split = [text for text in texts() if split_of(text, SHARES) == split]
        expected = tokenizer.encode_documents(of_split)
        assert np.array_equal(prepared.files[split].tokens, expected)
        assert prepared.files[split] == TokenFile.open(prepared.folder / f"{split}.tokens")
    assert prepared.card.rows["read"] == prepared.card.rows["kept"] == 60
    assert prepared.card.ended_by == "the end"


def test_a_tokenizer_is_learnt_from_the_train_split_of_the_first_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 3_000)
    some, first, size = texts(), [], 0
    while size < 3_000:
        first.append(some[len(first)])
        size += len(first[-1].encode())
    expected = train_tokenizer([t for t in first if split_of(t, SHARES) == "train"], 290)
    prepared = prepare(
        of_files(parquet(tmp_path / "a.parquet", rows_of(some))), tmp_path, vocabulary_size=290
    )
    assert prepared.tokenizer.encode(some[-1]) == expected.encode(some[-1])


def test_a_tokenizer_that_is_given_is_used(tmp_path):
    given_one = train_tokenizer(texts(), 310)
    dataset = of_files(jsonl(tmp_path / "a.jsonl", rows_of(texts())))
    first, again = (
        prepare(dataset, tmp_path, tokenizer=given_one, vocabulary_size=None) for _ in range(2)
    )
    assert first == again and first.card.tokenizer["vocabulary_size"] == 310
    assert documents(first.files["test"], given_one) == [
        text for text in texts() if split_of(text, SHARES) == "test"
    ]


@pytest.mark.parametrize(
    ("template", "expected"),
    [(None, "2+2?\n\nIt is 4."), ("Q: {a}\nA: {b} {{{a}}}", "Q: 2+2?\nA: It is 4. {2+2?}")],
)
def test_a_template_makes_a_row_a_document(template, expected):
    dataset = HubDataset(path="a/b", columns=["a", "b"], template=template)
    assert dataset.text_of({"a": "2+2?", "b": "It is 4.", "c": "no"}) == expected


@given(st.text(), st.text())
def test_what_a_column_holds_is_no_template(first, second):
    dataset = HubDataset(path="a/b", columns=["a", "b c"], template="<{a}>{b c}{{")
    assert dataset.text_of({"a": first, "b c": second}) == f"<{first}>{second}{{"


def test_what_is_no_document_is_left_out_and_counted(tmp_path):
    odd = [None, "", " \n\t", 7, ["a"], True]
    rows = [{"a": text, "b": "end"} for text in (*texts(), *odd)]
    rows += [{"a": "first"}, {"a": "first", "b": None}]
    prepared = prepare(of_files(jsonl(tmp_path / "a.jsonl", rows), columns=["a", "b"]), tmp_path)
    assert prepared.card.rows == {
        "read": 68, "kept": 60, "empty": 5, "not_text": 3, "cut_anywhere": 0
    }  # fmt: skip
    found = [d for split in SPLITS for d in documents(prepared.files[split], prepared.tokenizer)]
    assert sorted(found) == sorted(f"{text}\n\nend" for text in texts())


@pytest.mark.parametrize(
    "names",
    [
        ("a[1].jsonl", "a1.jsonl"), ("a*.jsonl", "ab.jsonl"), (".hidden/b.jsonl", "__c/a.jsonl"),
        ("a b?.jsonl", "é{}%20.jsonl"), ("z.jsonl", "a.jsonl", "m.jsonl"), ("~/~.jsonl",),
        tuple(f"{i:02}.jsonl" for i in range(25)),
    ],
    ids=lambda names: names[0],
)  # fmt: skip
def test_files_are_read_whatever_their_names_and_in_their_order(tmp_path, names, monkeypatch):
    monkeypatch.chdir(tmp_path)
    some, files = texts(90), []
    for place, name in enumerate(names):
        Path(name).parent.mkdir(exist_ok=True)
        files.append(jsonl(Path(name), rows_of(some[place :: len(names)])))
    prepared = prepare(of_files(*files), tmp_path)
    expected = [text for place in range(len(names)) for text in some[place :: len(names)]]
    for split in SPLITS:
        of_split = [text for text in expected if split_of(text, SHARES) == split]
        assert documents(prepared.files[split], prepared.tokenizer) == of_split


# ---- splits and size


def test_splits_share_no_text_and_are_the_same_whatever_the_size(tmp_path):
    path = parquet(tmp_path / "a.parquet", rows_of([*texts(), *texts(10)]))
    found = {}
    for max_bytes in (4_000, 7_000, MOST):
        prepared = prepare(of_files(path), tmp_path, max_bytes=max_bytes)
        found[max_bytes] = {s: documents(prepared.files[s], prepared.tokenizer) for s in SPLITS}
        homes = [set(found[max_bytes][split]) for split in SPLITS]
        assert sum(map(len, homes)) == len(set.union(*homes))
    for split in SPLITS:
        assert found[4_000][split] == found[MOST][split][: len(found[4_000][split])]
        assert found[7_000][split] == found[MOST][split][: len(found[7_000][split])]
    assert sum(map(len, found[MOST].values())) == 70


@settings(max_examples=6)
@given(max_bytes=st.integers(3_000, 9_000))
def test_no_more_text_is_taken_than_is_asked(tmp_path_factory, max_bytes):
    folder = tmp_path_factory.mktemp("size")
    dataset = of_files(parquet(folder / "a.parquet", rows_of(texts(200))))
    prepared = prepare(dataset, folder, max_bytes=max_bytes)
    sizes = [len(text.encode()) for text in texts(200)]
    kept = prepared.card.rows["kept"]
    assert prepared.card.num_bytes == sum(sizes[:kept]) <= max_bytes < sum(sizes[: kept + 1])
    assert prepared.card.ended_by == "max_bytes"


def test_no_more_text_is_held_than_a_shard_and_a_row(tmp_path, monkeypatch):
    sizes, write = [], shards.ShardFolder.write

    def watched(self, pile, *more):
        sizes.append(sum(len(t.encode()) for some in pile.documents.values() for t in some))
        return write(self, pile, *more)

    monkeypatch.setattr(shards.ShardFolder, "write", watched)
    prepare(of_files(parquet(tmp_path / "a.parquet", rows_of(texts(200)))), tmp_path)
    longest = max(len(text.encode()) for text in texts(200))
    assert len(sizes) > 5 and max(sizes) < 2_000 + longest


# ---- stopped, and called again


class StopError(Exception):
    """What stops a preparation."""


class Told(list):
    """What `on_progress` is told."""

    def __call__(self, rows: int, num_bytes: int) -> None:
        self.append((rows, num_bytes))


def stopped_after(num_rows: int):
    def on_progress(rows, num_bytes):
        if rows > num_rows:
            raise StopError

    return on_progress


@pytest.fixture
def three_files(tmp_path):
    some = texts(90)
    cuts = (0, 13, 50, 90)
    return of_files(
        *(
            parquet(tmp_path / f"{place}.parquet", rows_of(some[cuts[place] : cuts[place + 1]]))
            for place in range(3)
        )
    )


@pytest.mark.parametrize("size", [256, 280])
def test_stopped_anywhere_it_comes_to_the_same_files(tmp_path, three_files, size):
    whole = contents(prepare(three_files, tmp_path / "whole", vocabulary_size=size))
    for num_rows in (0, 12, 13, 14, 40, 50, 89):
        folder = tmp_path / f"{num_rows}"
        with pytest.raises(StopError):
            prepare(three_files, folder, vocabulary_size=size, on_progress=stopped_after(num_rows))
        told = Told()
        again = prepare(three_files, folder, vocabulary_size=size, on_progress=told)
        assert contents(again) == whole
        assert told[-1] == (90, again.card.num_bytes) and told == sorted(told)
        assert num_rows - 17 < told[0][0] <= num_rows + 1  # a shard holds 17 rows at the most
        assert not (again.folder / "shards").exists()


def test_stopped_again_and_again_it_comes_to_the_same_files(tmp_path, three_files):
    whole = contents(prepare(three_files, tmp_path / "whole"))
    for num_rows in range(20, 90, 9):
        with pytest.raises(StopError):
            prepare(three_files, tmp_path, on_progress=stopped_after(num_rows))
    assert contents(prepare(three_files, tmp_path)) == whole


def test_a_shard_counts_from_its_facts_on(tmp_path, three_files, monkeypatch):
    whole = contents(prepare(three_files, tmp_path / "whole"))
    write = shards.write_signed

    def stop(path, body):
        if path.name == "000002.json":
            raise StopError
        return write(path, body)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_signed", stop)
        with pytest.raises(StopError):
            prepare(three_files, tmp_path)
    assert list(tmp_path.glob("hub-*/shards/000002-train.tokens"))
    told = Told()
    again = prepare(three_files, tmp_path, on_progress=told)
    assert contents(again) == whole and 20 < told[0][0] < 50


def test_stopped_while_the_shards_are_joined_it_goes_on(tmp_path, three_files, monkeypatch):
    whole = contents(prepare(three_files, tmp_path / "whole"))

    def stop(self):
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(HubTokens, "save", stop)
        with pytest.raises(StopError):
            prepare(three_files, tmp_path)
    told = Told()
    assert contents(prepare(three_files, tmp_path, on_progress=told)) == whole
    assert told == []


def test_what_is_prepared_is_read_and_not_made_again(tmp_path, three_files, monkeypatch):
    first = prepare(three_files, tmp_path)
    monkeypatch.setattr(datasets, "load_dataset_builder", None)
    assert prepare(three_files, tmp_path) == first == HubTokens.load(first.folder)


@pytest.mark.parametrize("name", ["train.tokens", "train.json", "card.json", "tokenizer.json"])
def test_what_is_damaged_is_made_again(tmp_path, three_files, name):
    first = prepare(three_files, tmp_path, vocabulary_size=280)
    before = contents(first)
    path = first.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert contents(prepare(three_files, tmp_path, vocabulary_size=280)) == before


@pytest.mark.parametrize("end", [".json", "-train.tokens"])
def test_a_damaged_shard_and_those_behind_it_are_made_again(tmp_path, three_files, end):
    whole = contents(prepare(three_files, tmp_path / "whole"))
    with pytest.raises(StopError):
        prepare(three_files, tmp_path, on_progress=stopped_after(80))
    (path,) = tmp_path.glob(f"hub-*/shards/000002{end}")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    told = Told()
    again = prepare(three_files, tmp_path, on_progress=told)
    assert contents(again) == whole and 20 < told[0][0] < 50


def test_a_file_that_changed_is_read_again_from_there(tmp_path, three_files):
    with pytest.raises(StopError):
        prepare(three_files, tmp_path, on_progress=stopped_after(70))
    parquet(three_files.files[1], rows_of(texts(120)[90:]))
    told = Told()
    again = prepare(three_files, tmp_path, on_progress=told)
    assert told[0][0] <= 14
    found = [d for split in SPLITS for d in documents(again.files[split], again.tokenizer)]
    assert sorted(found) == sorted([*texts()[:13], *texts(120)[90:], *texts(90)[50:]])
    parquet(three_files.files[2], rows_of(texts(35)))
    assert prepare(three_files, tmp_path).card.rows["read"] == 13 + 30 + 35


@pytest.mark.parametrize("num_rows", [50, 90])
def test_nothing_is_left_of_a_first_file_that_changed(tmp_path, three_files, num_rows):
    on_progress = stopped_after(num_rows)
    with pytest.raises(StopError) if num_rows < 90 else nullcontext():
        prepare(three_files, tmp_path, vocabulary_size=280, on_progress=on_progress)
    parquet(three_files.files[0], rows_of(text[::-1] for text in texts()))
    again = prepare(three_files, tmp_path, vocabulary_size=280)
    fresh = prepare(three_files, tmp_path / "fresh", vocabulary_size=280)
    assert contents(again) == contents(fresh) and again.card == fresh.card


def test_one_prepares_at_a_time_and_any_number_read(tmp_path, three_files):
    with pytest.raises(StopError):
        prepare(three_files, tmp_path, on_progress=stopped_after(40))
    (home,) = tmp_path.glob("hub-*")
    with FolderLock(home), pytest.raises(RunBusyError, match="is being written by"):
        prepare(three_files, tmp_path)
    prepared = prepare(three_files, tmp_path)
    with FolderLock(home):
        assert prepare(three_files, tmp_path) == prepared


def test_what_another_one_has_just_finished_is_not_made_again(tmp_path, three_files, monkeypatch):
    finished, acquire = [], FolderLock.acquire

    def after_the_other(self):
        monkeypatch.setattr(FolderLock, "acquire", acquire)
        finished.append(prepare(three_files, tmp_path))
        return acquire(self)

    monkeypatch.setattr(FolderLock, "acquire", after_the_other)
    told = Told()
    assert prepare(three_files, tmp_path, on_progress=told) == finished[0] and told == []


# ---- the card and the batches


def test_the_card_says_what_is_in_the_files(tmp_path):
    rows = [*rows_of(texts()), {"url": "", "text": None}]
    dataset = of_files(jsonl(tmp_path / "mine.jsonl", rows))
    prepared = prepare(dataset, tmp_path, vocabulary_size=270)
    card = DataCard.load(prepared.folder / "card.json")
    assert card == prepared.card
    for split, file in prepared.files.items():
        found = documents(file, prepared.tokenizer)
        assert card.splits[split] == {
            "documents": len(found),
            "num_bytes": sum(len(text.encode()) for text in found),
            "num_tokens": len(file.tokens),
            "fingerprint": file.fingerprint,
            "sha256": file.sha256,
        }
        assert card.splits[split]["num_bytes"] == file.num_bytes
    assert sum(facts["documents"] for facts in card.splits.values()) == card.rows["kept"] == 60
    assert (card.dataset, card.licence, card.columns) == ("mine.jsonl", None, ("text",))
    assert card.shares == {"train": pytest.approx(0.6), "validation": 0.2, "test": 0.2}
    text = (prepared.folder / "card.md").read_text()
    for said in ("# mine.jsonl", "61 read, 60 kept", "1 without text", "none given",
                 "the end of the dataset", "270 tokens", card.date, card.fingerprint,
                 f"{card.num_tokens:,} tokens"):  # fmt: skip
        assert said in text


def test_batches_and_a_lesson_of_it(tmp_path, three_files):
    prepared = prepare(three_files, tmp_path, vocabulary_size=280)
    inputs_BT, targets_BT = prepared.batches(context_length=16, batch_size=3, offset=4).batch(0)
    assert inputs_BT.shape == (3, 16) and inputs_BT[:, 4:].equal(targets_BT[:, :-4])
    assert prepared.batches("test", context_length=8, batch_size=2).batch(5)[0].max() < 280
    lesson = prepared.lesson(context_length=16, batch_size=3)
    assert lesson.vocabulary_size == 280 and lesson.problems == ()
    expected = prepared.batches(context_length=16, batch_size=3).batch(7)
    assert all(map(lambda a, b: a.equal(b), lesson.train.batch(7), expected))
    assert len(lesson.validation) == (prepared.files["validation"].num_tokens - 1) // 48
    assert lesson.bytes_per_token == prepared.files["validation"].bytes_per_token
    assert "90 rows" in lesson.description and "0.parquet and 2 more" in lesson.description
    ahead = prepared.lesson(context_length=16, batch_size=3, offset=4)
    for inputs_BT, targets_BT in (ahead.train.batch(7), *ahead.validation):
        assert inputs_BT[:, 4:].equal(targets_BT[:, :-4])
    assert ahead.fingerprint != lesson.fingerprint
    other = prepared.lesson(context_length=16, batch_size=3, seed=1)
    assert other.fingerprint != lesson.fingerprint
    with pytest.raises(ValueError, match="split='all' is not known"):
        prepared.batches("all", context_length=8, batch_size=2)


# ---- the Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub of one dataset in three files; `asked` is what was asked of it."""
    some, asked = texts(90), []
    files = [
        str(parquet(tmp_path / f"hub/{place}.parquet", rows_of(some[place * 30 : place * 30 + 30])))
        for place in range(3)
    ]
    build = datasets.load_dataset_builder

    def builder(path, name=None, revision=None):
        asked.append((path, name, revision))
        return build("parquet", data_files={"train": files})

    def info(self, repo_id, revision=None, timeout=None):
        asked.append((repo_id, revision))
        return SimpleNamespace(sha="c0ffee", card_data=SimpleNamespace(license="odc-by"))

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    return SimpleNamespace(asked=asked, files=files)


def test_a_dataset_of_the_hub_is_read_at_one_commit(tmp_path, hub):
    with pytest.raises(StopError):
        prepare("open-web-math", tmp_path, on_progress=stopped_after(70))
    prepared = prepare("open-web-math", tmp_path)
    path = "open-web-math/open-web-math"
    assert hub.asked == [(path, None), (path, None, "c0ffee"), (path, None, "c0ffee")]
    assert (prepared.card.revision, prepared.card.licence) == ("c0ffee", "odc-by")
    assert prepared.card.dataset == path and "odc-by" in prepared.card.text()
    assert prepared.card.rows["kept"] == 90
    assert prepare("open-web-math", tmp_path) == prepared and len(hub.asked) == 3
    assert prepare(OPEN_WEB_MATH, tmp_path) == prepared


def test_without_a_network_what_was_prepared_is_kept(tmp_path, hub, monkeypatch):
    whole = contents(prepare("open-web-math", tmp_path / "whole"))
    shard = datasets.IterableDataset.shard

    def failing(self, num_shards, index):
        if index == 2:
            raise ConnectionError("Server Disconnected")
        return shard(self, num_shards, index)

    with monkeypatch.context() as patch:
        patch.setattr(datasets.IterableDataset, "shard", failing)
        said = (
            "open-web-math/open-web-math cannot be reached: no network, or .*Server Disc.*; 60 rows"
        )
        with pytest.raises(HubError, match=said):
            prepare("open-web-math", tmp_path)
    told = Told()
    again = prepare("open-web-math", tmp_path, on_progress=told)
    assert told[0][0] == 61 and contents(again) == whole


def test_the_first_call_without_a_network_says_so(tmp_path, monkeypatch):
    said = "Maths-College cannot be reached: no network, or the Hub does not answer .*nothing was"
    with pytest.raises(HubError, match=said):
        prepare("maths-college", tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=said):
        prepare("maths-college", tmp_path)


def raised(name: str, kind: type = Exception, words: str = "words") -> Exception:
    return type(name, (kind,), {})(words)


def of_the_network(library: str) -> Exception:
    return type("ConnectError", (Exception,), {"__module__": f"{library}._exceptions"})("no name")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (raised("RevisionNotFoundError"), ValueError, "revision='old' is none of a/b"),
        (
            raised("GatedRepoError"),
            HubError,
            "a/b asks who reads it: .*co/datasets/a/b",
        ),
        (raised("RepositoryNotFoundError"), ValueError, "path='a/b' is no dataset of the Hub"),
        (raised("DatasetNotFoundError", FileNotFoundError), ValueError, "is no dataset of the Hub"),
        (of_the_network("httpx2"), HubError, r"a/b cannot be reached: .*\(ConnectError: no name"),
        (TimeoutError("slow"), HubError, r"a/b cannot be reached: .*\(TimeoutError: slow\)"),
        (ValueError("Bad split: x. Available splits: ['train']"), ValueError, "a/b: Bad split: x"),
        (ValueError("no such bytes\x1b[2J"), HubError, r"x.parquet is broken.*bytes\\x1b\[2J\)"),
    ],
)
def test_every_fault_of_the_hub_has_its_words(error, kind, message):
    dataset = HubDataset(path="a/b", columns=["text"], revision="old")
    with pytest.raises(kind, match=message):
        raise in_words(error, dataset, "hf://x.parquet")


def test_a_fault_below_another_is_found():
    try:
        try:
            raise ConnectionError("no route")
        except ConnectionError as below:
            raise RuntimeError("could not read") from below
    except RuntimeError as error:
        told = in_words(error, OPEN_WEB_MATH, None)
    assert isinstance(told, HubError) and "cannot be reached" in str(told)


def test_without_the_library_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    dataset = of_files(jsonl(tmp_path / "a.jsonl", rows_of(texts())))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install datasets"):
        prepare(dataset, tmp_path)
    with pytest.raises(ModuleNotFoundError, match="pip install datasets"):
        prepare("open-web-math", tmp_path)


def test_the_known_datasets_are_those_of_the_hub():
    assert list(DATASETS) == ["open-web-math", "maths-college"]
    assert MATHS_COLLEGE.path == "ajibawa-2023/Maths-College"
    assert MATHS_COLLEGE.columns == ("instruction", "output")


# ---- broken files, a full disk


def test_a_truncated_parquet_file_is_named_and_the_rows_before_it_kept(tmp_path, three_files):
    whole = contents(prepare(three_files, tmp_path / "whole"))
    path = three_files.files[2]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    said = r"2\.parquet is broken, or was cut off.*; 50 rows .* are kept"
    for _ in range(2):
        with pytest.raises(HubError, match=said):
            prepare(three_files, tmp_path)
    path.write_bytes(content)
    told = Told()
    again = prepare(three_files, tmp_path, on_progress=told)
    assert told[0][0] == 51 and contents(again) == whole


def test_the_first_file_broken_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(HubError, match=r"a\.parquet is broken.*nothing was prepared yet"):
        prepare(of_files(path), tmp_path)


def test_a_json_line_that_was_cut_is_named_and_the_rows_before_it_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("sbldlib.data.hub.prepare.JSON_CHUNK_BYTES", 1_000)
    path = jsonl(tmp_path / "a.jsonl", rows_of(texts()))
    dataset = of_files(path)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:40]) + lines[40][:30])
    with pytest.raises(
        HubError, match=r"a\.jsonl is broken, or was cut off.*; (3\d|40) rows .* kept"
    ):
        prepare(dataset, tmp_path)
    path.write_bytes(whole)
    assert prepare(dataset, tmp_path).card.rows["kept"] == 60


def test_a_full_disk_is_said_and_what_was_prepared_kept(tmp_path, three_files, monkeypatch):
    whole = contents(prepare(three_files, tmp_path / "whole"))
    write = shards.stream_tokens
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_a_disk_that_fills(source, tokenizer, path, **options):
        room = 100 if path.name.startswith("000003") else before[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            return write(source, tokenizer, path, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "stream_tokens", on_a_disk_that_fills)
        said = r"could not be written: the disk is full; make room \(.*; \d+ rows .* are kept"
        with pytest.raises(HubError, match=said):
            prepare(three_files, tmp_path)
    (folder,) = tmp_path.glob("hub-*/shards")
    assert len(list(folder.glob("??????.json"))) == 3
    again = prepare(three_files, tmp_path)
    assert contents(again) == whole
    assert {p.name for p in again.folder.iterdir()} == {
        ".lock", "card.json", "card.md", "tokenizer.json",
        *(f"{split}{end}" for split in SPLITS for end in (".tokens", ".json")),
    }  # fmt: skip


def test_a_disk_that_is_full_at_the_join_is_said(tmp_path, three_files, monkeypatch):
    whole = contents(prepare(three_files, tmp_path / "whole"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards.ShardFolder, "join", full)
        with pytest.raises(HubError, match=r"the disk is full; make room .*; 90 rows"):
            prepare(three_files, tmp_path)
    assert contents(prepare(three_files, tmp_path)) == whole


# ---- refused


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["text", "body"], "columns: 'body' is no column of a.{8}; its columns are 'url', 'text'"),
        (["size"], "columns: 'size' of a.{8} holds int64, not text; its columns are 'url'"),
    ],
)
@pytest.mark.parametrize("name", ["a.parquet", "a.ndjson"])
def test_a_column_that_cannot_be_used_is_named(tmp_path, columns, message, name):
    rows = [{**row, "size": 3} for row in rows_of(texts())]
    path = (parquet if name == "a.parquet" else jsonl)(tmp_path / name, rows)
    with pytest.raises(ValueError, match=message.replace(".{8}", r"\.\w+")):
        prepare(of_files(path, columns=columns), tmp_path)


def test_a_missing_column_of_a_json_list_is_named(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(rows_of(texts())))
    with pytest.raises(ValueError, match=r"'body' is no column of a.json; its columns are 'url'"):
        prepare(of_files(tmp_path / "a.json", columns=["body"]), tmp_path)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([""] * 9, {}, "a.jsonl gives no text to .*: 9 rows read, 9 of them empty and 0 no"),
        (["long"], {"max_bytes": 3}, "gives no text to .*: 0 rows read.* within max_bytes=3"),
        (["one"], {}, "split 'validation' of a.jsonl is empty: 1 rows read, 0 of them empty"),
        (["ab"] * 9, {"vocabulary_size": 999}, "vocabulary_size=999 is more than the texts give"),
    ],
)
def test_too_little_text_is_said(tmp_path, texts, options, message):
    path = jsonl(tmp_path / "a.jsonl", rows_of(texts))
    with pytest.raises(ValueError, match=message):
        prepare(of_files(path), tmp_path, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": "text"}, "columns='text' must be a list"),
        ({"columns": []}, "columns=.* must name one or more different columns"),
        ({"columns": ["a", "a"]}, "must name one or more different columns"),
        ({"path": None}, "path=None and files=.*: give one of them"),
        ({"files": ["a.parquet"]}, "path='a/b' and files=.*: give one of them"),
        ({"path": "parquet"}, "path='parquet' must be 'owner/name'"),
        ({"path": "../x"}, "must be 'owner/name'"),
        ({"path": None, "files": ["a.csv"]}, "files: 'a.csv' ends with none of .parquet"),
        ({"path": None, "files": ["a.json.gz", "b.parquet"]}, "several kinds, json and parquet"),
        ({"template": "{text} {other}"}, r"template='.*' uses the columns \['other', 'text'\]"),
        ({"template": "{text.__class__}"}, r"uses the columns \['text.__class__'\]"),
        ({"template": "{text!r}"}, r"uses the columns \['text!r'\]"),
        ({"template": "{text"}, "template='{text': .*; write a brace as two"),
        ({"template": "no column"}, r"uses the columns \[\], and columns names \['text'\]"),
        ({"split": 3}, "split=3 must be the name of a split"),
        ({"revision": 3}, "revision=3 must be text, or None"),
    ],
)
def test_a_dataset_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HubDataset(**{"path": "a/b", "columns": ["text"], **arguments})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "open-web-maths"}, r"did you mean 'open-web-math'\?.*any other: HubDataset"),
        ({"dataset": 3}, "dataset=3 is not known"),
        (
            {"dataset": HubDataset(files=["gone.json"], columns=["a"])},
            "files: 'gone.json' is no file",
        ),
        ({"max_bytes": 0}, "max_bytes=0 must be at least 1"),
        ({"vocabulary_size": 3}, "vocabulary_size=3 must be at least 256"),
        ({"tokenizer": "bpe"}, "tokenizer='bpe' must be a Tokenizer"),
        ({"tokenizer": train_tokenizer([], 256), "vocabulary_size": 256}, "leave one of them out"),
        ({"test_fraction": 1}, "test_fraction=1 is outside"),
        ({"on_progress": 3}, "on_progress=3 must be a function of the rows and bytes"),
        ({"folder": 3}, "folder=3 must be a path"),
    ],
)
def test_an_argument_that_is_none_is_refused(tmp_path, options, message):
    asked = {"dataset": "open-web-math", "folder": tmp_path, **options}
    with pytest.raises(ValueError, match=message):
        prepare_hub_tokens(asked.pop("dataset"), **asked)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_named_twice_is_refused(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", rows_of(texts()))
    with pytest.raises(ValueError, match="names one twice"):
        prepare(of_files(path, path), tmp_path)


def test_a_folder_that_is_named_like_a_dataset_is_not_read(tmp_path, hub, monkeypatch):
    (tmp_path / "open-web-math" / "open-web-math").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is here on the disk: name its files as files="):
        prepare("open-web-math", tmp_path / "cache")
