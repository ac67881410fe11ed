"""Folders that are no good corpus: each is read for what is text in it, or refused in words.

What is left out must be counted, and what is good beside it must be kept to the letter. Nothing
may hang, whatever lies in the folder.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from faults.hostile_files import KINDS, VANISHING, remove
from faults.outcome import Outcome
from faults.time_limit import time_limit

from sbldlib.data import load_corpus, reading, stream_tokens, text, train_tokenizer

LEFT_OUT = ("not_utf8", "unreadable", "duplicate", "empty")
STREAMED = ("not_utf8", "unreadable", "empty")  # copies are not looked for
IN_WORDS = ("name a", "add ", "convert", "look at", "hold no text", "cut ", "raise ", "no file")
SECONDS = 30


def run(num: int, *, seed: int, folder: Path) -> Outcome:
    """`num` folders, each of a few hostile kinds, with good files beside them or none."""
    began, failures, met = time.perf_counter(), {}, Counter()
    worked = 0
    for number in range(num):
        drawn = random.Random(f"{seed} {number}")
        # Each kind once by itself and among good files, then any of them together.
        names = [name for name in KINDS for _ in range(2)]
        few = [names[number]] if number < len(names) else drawn.sample(list(KINDS), 3)
        num_good = (0, 60)[number % 2] if number < len(names) else drawn.choice((0, 60))
        root = folder / f"{number}"
        root.mkdir(parents=True)
        try:
            failure, has_worked = try_folder(root, few, num_good, drawn)
        finally:
            remove(root)
        met.update(few)
        worked += has_worked
        if failure is not None:
            failures[number] = f"{few} with {num_good} good files: {failure}"
    return Outcome.of(
        "a folder of files that are no text, no files, or not there any more",
        "what is text is kept, what is not is counted, or the folder is refused in words",
        failures,
        num,
        seconds=time.perf_counter() - began,
        figures={"worked": worked, "kinds": dict(met), "as root": os.geteuid() == 0},
    )


def try_folder(
    root: Path, names: list[str], num_good: int, drawn: random.Random
) -> tuple[str | None, bool]:
    """Why a folder of these kinds is not as promised, or None; and whether it gave a corpus."""
    good = {f"good {place}.txt": f"{place} plus {place}\n" * 20 for place in range(num_good)}
    for name, content in good.items():
        (root / name).write_text(content)
    expected = Counter({"found": num_good, "kept": num_good})
    for place, name in enumerate(names):
        expected.update(KINDS[name](root, f"{place} {name}", drawn))
    try:
        with time_limit(SECONDS), vanishing():
            corpus = load_corpus(root, validation_fraction=0.2, test_fraction=0.2)
    except ValueError as error:
        return refusal(str(error), root, expected["kept"]), False
    except BaseException as error:
        return f"{type(error).__name__}: {error}", False
    found = {name: corpus.counts[name] for name in ("found", "kept", *LEFT_OUT)}
    if found != {name: expected[name] for name in found}:
        return f"counted {found}, not {dict(expected)}", True
    kept = {document.path: document.text for split in corpus.splits.values() for document in split}
    if not good.items() <= kept.items():
        return "a good file was not kept as it is", True
    return streamed(root, expected), True


def refusal(message: str, root: Path, num_kept: int) -> str | None:
    """Why a refusal is not as promised, or None."""
    if "root=" not in message or root.name not in message:
        return f"refused without naming the root: {message}"
    if not any(words in message for words in IN_WORDS):
        return f"refused without saying what to do: {message}"
    return f"refused, though it holds text: {message}" if num_kept >= 60 else None


def streamed(root: Path, expected: Counter) -> str | None:
    """Why the folder as a stream is not as promised, or None."""
    counts, path = Counter(), root.parent / "streamed.tokens"
    # What vanished while it was looked at is not found any more.
    gone = sum(1 for path in VANISHING if not os.path.lexists(path))
    try:
        with time_limit(SECONDS):
            stream_tokens(root, train_tokenizer([], 256), path, counts=counts)
    except BaseException as error:
        return f"as a stream, {type(error).__name__}: {error}"
    asked = {name: expected[name] for name in STREAMED}
    asked["unreadable"] -= gone
    found = {name: counts[name] for name in STREAMED}
    return None if found == asked else f"the stream counted {found}, not {asked}"


@contextmanager
def vanishing() -> Iterator[None]:
    """Files named "vanish" go as they are listed, "leave" as they have been looked at."""

    def listed(*args, **options):
        found = reading.find_files(*args, **options)
        take_away("vanish")
        return found

    def looked(path):
        found = reading.look_at(path)
        take_away("leave", path)
        return found

    VANISHING[:] = [path for path in VANISHING if path.exists()]
    with mock.patch.object(text, "find_files", listed), mock.patch.object(text, "look_at", looked):
        yield


def take_away(word: str, only: Path | None = None) -> None:
    """Remove the files that are to go now."""
    for path in VANISHING:
        if word in path.name and only in (None, path):
            path.unlink(missing_ok=True)
