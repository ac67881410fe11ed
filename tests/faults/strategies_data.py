"""The data room for the fuzzer: what reads text and makes batches of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from faults.strategies import (
    NOT_LISTS,
    Field,
    Made,
    Target,
    choice,
    needed,
    number,
    one_of,
    path,
    record,
    seed,
    whole,
)

from sbldlib import data
from sbldlib.data.arithmetic import KINDS
from sbldlib.data.batches import LOSSES
from sbldlib.data.reading import SPLITS

TEXT = {"right": one_of("12+7=19\n", "", "ünï ¢ode"), "wrong": one_of(None, 3, [], b"x", object())}
KINDS_ASKED = {
    "right": one_of("add", ("copy", "max"), list(KINDS)),
    "wrong": one_of((), "nope", ["add", 3], [None], [["add"]], None, 3, object(), "add,copy"),
}
DEPTH = whole(1, (1, 2, 8), too_large=(9, 10**30))
SIZES = {
    "context_length": needed(whole(1, (1, 4, 8), too_large=(10**30,))),
    "batch_size": needed(whole(1, (1, 2), too_large=(10**30,))),
}
RANK = whole(0, (0, 3), too_large=(2**64,))
TOKENS = {
    "right": one_of(
        Made("an array", lambda world: np.arange(64) % 16),
        Made("a tensor", lambda world: torch.arange(64) % 16),
        Made("a token file", lambda world: world.token_file),
    ),
    "wrong": one_of(
        *NOT_LISTS, None, [], {}, "tokens",
        Made("fractions", lambda world: np.arange(64) / 2),
        Made("a matrix of tokens", lambda world: np.ones((8, 8), dtype=int)),
        Made("no token", lambda world: np.arange(0)),
        Made("negative tokens", lambda world: np.arange(64) - 32),
        Made("words", lambda world: np.array(["a"] * 64)),
    ),
}  # fmt: skip
TEXTS_BY_SPLIT = {
    "right": one_of({"train": ["a b", "c"]}, {"train": ["x"], "test": ("y", "z")}),
    "wrong": one_of(
        {}, {"test": ["a"]}, {"train": []}, {"train": [""]}, {"train": "text"}, {"train": [3]},
        {"train": [None]}, {"train": None}, {"train": ["a"], "test": ["a"]}, {"train": [b"a"]},
        {3: ["a"], "train": ["b"]}, *NOT_LISTS,
    ),
}  # fmt: skip
TOKENIZER = record(Made("a tokenizer", lambda world: world.tokenizer))
VOCABULARY = whole(256, (256, 260), too_large=(10**30,))
ROOTS = {
    "right": one_of(Made("texts", lambda world: world.texts)),
    "wrong": one_of(
        3, 0.5, b"x", [], object(), "", "a\0b", "no such folder", "x" * 3000,
        Made("an empty folder", lambda world: world.empty),
        Made("a file", lambda world: world.file),
    ),
}  # fmt: skip
BYTES = whole(1, (10**4, 10**6), or_none=True)
BATCH: dict[str, Field] = {"seed": Field(**seed()), "rank": Field(**RANK)}


def _batch(kind: Any) -> Any:
    """The source's first batch: what is wrong may show itself there."""
    return lambda **given: kind(**given).batch(0)


SUFFIXES = {
    "right": one_of(None, [".txt"], (".txt", ".md"), ""),
    "wrong": one_of(3, ".txt", [3], [None], [b".txt"], object(), True),
}
SOURCES = {
    "right": one_of(
        ["a text", "another"], (["in", " pieces"],),
        Made("documents", lambda world: iter(["a text"])),
        Made("texts", lambda world: world.texts),
        Made("a file", lambda world: str(world.file)),
    ),
    "wrong": one_of(
        None, 3, "", "no such place", "a\0b", "x" * 3000, [], [""], [3], [None],
        [b"x"], ["a\ud800"], object(),
        Made("an empty folder", lambda world: world.empty),
    ),
}  # fmt: skip
DATA: dict[str, Target] = {
    "load_corpus": Target(
        call=data.load_corpus,
        fields={
            "root": needed(ROOTS),
            "max_bytes": Field(**BYTES),
            "suffixes": Field(**SUFFIXES),
            "validation_fraction": Field(
                **number(0, 1, low_open=True, high_open=True, often=(0.3,)), says=("validation",)
            ),
            "test_fraction": Field(
                **number(0, 1, low_open=True, high_open=True, often=(0.3,)), says=("test",)
            ),
        },
    ),
    "corpus_from_texts": Target(
        call=data.corpus_from_texts,
        fields={
            "splits": needed(TEXTS_BY_SPLIT, says=("text",)),
            "source": Field(**TEXT),
        },
    ),
    "train_tokenizer": Target(
        call=data.train_tokenizer,
        fields={
            "texts": needed(
                {
                    "right": one_of(["a b ab abc"] * 3, ("x",)),
                    "wrong": one_of(None, 3, "one text", [3], [None], [b"x"], object()),
                },
                unread=True,  # for plain bytes
            ),
            "vocabulary_size": needed(VOCABULARY),
        },
    ),
    "check_vocabulary": Target(
        call=data.check_vocabulary,
        fields={
            "source": needed(
                {
                    "right": one_of(16, 256, Made("a tokenizer", lambda world: world.tokenizer)),
                    "wrong": one_of(None, "16", 0.5, [], True, -1, object()),
                }
            ),
            "vocabulary_size": needed(whole(1, (16, 256, 512))),
        },
    ),
    "TokenBatches": Target(
        call=_batch(data.TokenBatches),
        more=("tokens", *SIZES, *BATCH, "vocabulary_size", "offset"),
        fields={
            "tokens": needed(TOKENS),
            **SIZES,
            **BATCH,
            "vocabulary_size": Field(**whole(1, (16, 256), or_none=True)),
            "offset": Field(**whole(1, (1, 2), too_large=(10**30,))),
        },
    ),
    "ProblemBatches": Target(
        call=_batch(data.ProblemBatches),
        more=("tokenizer", "kinds", "depth", *SIZES, *BATCH, "loss_on"),
        fields={
            "tokenizer": needed(TOKENIZER),
            "kinds": needed(KINDS_ASKED),
            "depth": Field(**DEPTH),
            "context_length": needed(whole(1, (32, 64), too_large=(10**30,))),
            "batch_size": needed(whole(1, (1, 2), too_large=(10**30,))),
            **BATCH,
            "loss_on": Field(**choice(LOSSES)),
        },
    ),
    "MixedBatches": Target(
        call=_batch(data.MixedBatches),
        more=("sources", "num_rows"),
        fields={
            "sources": needed(
                {
                    "right": one_of(
                        Made("two sources", lambda world: [world.source, world.source])
                    ),
                    "wrong": one_of([], [None, None], [3, 3], ["a", "b"], *NOT_LISTS),
                }
            ),
            "num_rows": needed(
                {
                    "right": one_of((1, 1), [2, 1]),
                    "wrong": one_of((), (1,), (0, 1), (1, 1, 1), (0.5, 1), (None, 1), *NOT_LISTS),
                }
            ),
        },
    ),
    "sequential_batches": Target(
        call=data.sequential_batches,
        fields={
            "tokens": needed(TOKENS),
            **SIZES,
            "num_batches": Field(**whole(1, (1, 2), too_large=(10**30,), or_none=True)),
            "offset": Field(**whole(1, (1, 2), too_large=(10**30,))),
        },
    ),
    "generate_problems": Target(
        call=data.generate_problems,
        fields={
            "kinds": needed(KINDS_ASKED),
            "depth": needed(DEPTH),
            "num": needed(whole(1, (1, 9), too_large=(10**30,))),
            "split": Field(**choice(SPLITS)),
            "seed": Field(**seed()),
        },
    ),
    "stream_tokens": Target(
        call=data.stream_tokens,
        fields={
            "source": needed(SOURCES),
            "tokenizer": needed(TOKENIZER),
            "path": needed(
                {
                    "right": one_of(
                        Made("a file", lambda world: world.folder / "new" / "t.tokens")
                    ),
                    "wrong": one_of(3, None, "", "a\0b", b"x", [], object()),
                }
            ),
            "suffixes": Field(**SUFFIXES, unread=True),
            "split": Field(**choice(SPLITS, or_none=True), unread=True),
            "counts": Field(
                right=one_of(None, Made("counts", lambda world: Counter())),
                wrong=one_of(3, "x", {}, [], object()),
            ),
            "on_bytes": Field(
                right=one_of(None, Made("a function", lambda world: lambda num: None)),
                wrong=one_of(3, "x", {}, [], object()),
            ),
        },
    ),
    "sample_texts": Target(
        call=data.sample_texts,
        fields={
            "source": needed(SOURCES),
            "max_bytes": Field(**whole(1, (1, 1000), too_large=())),
            "suffixes": Field(**SUFFIXES, unread=True),
            "split": Field(**choice(SPLITS, or_none=True), unread=True),
        },
    ),
    "prepare_lesson_data": Target(
        call=data.prepare_lesson_data,
        fields={
            "vocabulary_size": needed(VOCABULARY),
            **SIZES,
            "seed": Field(**seed()),
            "max_bytes": Field(**BYTES),
            "arithmetic_rows": needed(whole(0, (0, 1), too_large=(10**30,))),
            "offset": Field(**whole(1, (1,), too_large=(10**30,))),  # above 1, text alone
            "folder": needed(path()),
            "root": needed(ROOTS),
        },
    ),
}
