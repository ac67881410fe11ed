"""Every kind of hostile corpus once, alone and among good files."""

from __future__ import annotations

import os

import pytest
from faults import corpora
from faults.hostile_files import KINDS, remove

from sbldlib.data import prepare_lesson_data


def test_each_hostile_kind_alone_and_among_good_files(tmp_path):
    found = corpora.run(2 * len(KINDS) + 10, seed=0, folder=tmp_path)
    assert found.failures == ()
    assert found.kept == found.tried == 2 * len(KINDS) + 10
    assert set(found.figures["kinds"]) == set(KINDS)
    assert 0 < found.figures["worked"] < found.tried


@pytest.mark.parametrize(
    ("message", "num_kept", "words"),
    [
        ("root='/x/texts' is not a folder; name a folder", 0, None),
        ("cannot read it", 0, "without naming the root"),
        ("root='/x/texts' is bad", 0, "without saying what to do"),
        ("root='/x/texts' is not a folder; name a folder", 60, "though it holds text"),
    ],
)
def test_a_refusal_that_says_too_little_is_seen(tmp_path, message, num_kept, words):
    failure = corpora.refusal(message, tmp_path / "texts", num_kept)
    assert failure is None if words is None else words in str(failure)


def test_lessons_are_made_of_what_is_good_in_a_hostile_folder(tmp_path):
    import random

    root = tmp_path / "texts"
    root.mkdir()
    for place in range(200):
        (root / f"good {place}.txt").write_text(f"{place} and some words of text\n" * 30)
    drawn = random.Random(0)
    few = ("utf-16", "noise", "a pipe", "a name that is not utf-8", "content 1")
    for place, name in enumerate(few):
        KINDS[name](root, f"{place}", drawn)
    data = prepare_lesson_data(
        root=root, folder=tmp_path / "cache", vocabulary_size=256, context_length=16, batch_size=2,
        arithmetic_rows=0,
    )  # fmt: skip
    inputs_BT, _ = data.train.batch(0)
    assert inputs_BT.shape == (2, 16)
    data.description.encode()


def test_even_a_deep_folder_is_removed(tmp_path):
    import random

    root = tmp_path / "deep"
    root.mkdir()
    KINDS["folders beyond any path"](root, "x", random.Random(0))
    remove(root)
    assert not os.path.lexists(root)
