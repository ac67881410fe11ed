"""Text of any size to a token file, a piece at a time: memory stays flat, whatever the size.

The text is cut where no token reaches across, so that the tokens are those of the whole text:
before white space, between digits, or between a letter and a mark. A run of a mebibyte without
any such place is cut where it is, and counted; tokens may differ there, and nowhere else.
"""

from __future__ import annotations

import heapq
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import check_callable, check_choice, check_kind, check_positive_int, items, shown
from .reading import (
    SPLITS,
    NotTextError,
    check_path,
    check_shares,
    check_suffixes,
    check_text,
    find_files,
    hash_number,
    pieces,
    split_of,
)
from .tokenizer import Tokenizer
from .tokens import TokenFile
from .writing import TokenWriter

PART_CHARACTERS = 65_536  # encoded as one
BATCH_PARTS = 16  # parts that the threads share out
MOST_FILES = 1024  # that a sample is taken of
LARGEST_CHARACTER = 4  # bytes of UTF-8
SAMPLE_BYTES = 16 * 2**20
COUNTS = ("found", "not_utf8", "unreadable", "empty", "cut_anywhere")

logger = logging.getLogger(__name__)
_BLANKS = " \n\t"
_RUN_END = re.compile(r"\S(?=[ \n\t])")
# Between digits, each of which is a token; and after a letter, before a mark that joins none.
_OTHER_BORDER = re.compile(r"(?<=[0-9])(?=[0-9])|(?<=[A-Za-z])(?=[!-&(-/:-@\[-`{-~])")


def stream_tokens(
    source: Iterable[str | Iterable[str]] | str | Path,
    tokenizer: Tokenizer,
    path: str | Path,
    *,
    suffixes: Iterable[str] | None = None,
    split: str | None = None,
    counts: Counter | None = None,
    on_bytes: Callable[[int], object] | None = None,
) -> TokenFile:
    """Tokenize text of any size into a file, `end_of_text` after each document.

    The file appears whole, with its side file, or not at all; what was there under its name before
    is replaced at the end.

    Args:
        source: documents, gone through once, each a text or an iterable of its pieces; or a text
            file, or a folder of them, each file a document. Copies are not looked for.
        tokenizer: of `train_tokenizer`, such as of `sample_texts`; another library's must not let
            tokens reach over white space.
        path: of the token file.
        suffixes: of a folder's files, as in `load_corpus`.
        split: of a folder's files, those that `load_corpus` would put in this split; None is all.
        counts: told how many files were "found" and what was left out, see `COUNTS`; and how often
            a run without a border was "cut_anywhere".
        on_bytes: told the bytes of text so far, after each piece.

    Raises:
        ValueError: an argument that is none, or a source without text.
    """
    check_kind("tokenizer", tokenizer, Tokenizer, "a Tokenizer, as train_tokenizer returns it")
    target = check_path("path", path)
    counted = check_kind("counts", Counter() if counts is None else counts, Counter, "a Counter")
    if on_bytes is not None:
        check_callable("on_bytes", on_bytes, "a function of the bytes so far")
    documents = _documents(source, suffixes, split, counted)
    counted.update(dict.fromkeys(COUNTS, 0))
    with TokenWriter(target, tokenizer) as writer:
        for document in documents:
            start, is_blank = writer.mark(), True
            try:
                for texts in _batches(_parts(document, counted)):
                    is_blank = is_blank and not any(text.strip() for text in texts)
                    writer.add(texts)
                    if on_bytes is not None:
                        on_bytes(writer.num_bytes)
            except (NotTextError, UnreadableError) as error:
                counted["not_utf8" if isinstance(error, NotTextError) else "unreadable"] += 1
                writer.back_to(start)
                continue
            if is_blank:
                counted["empty"] += 1
                writer.back_to(start)
                continue
            writer.end_document()
        if writer.num_tokens == 0:
            raise ValueError(f"source={shown(source)} holds no text: {_said(counted)}")
        facts = writer.finish()
    logger.info("%d tokens in %s: %s", facts["num_tokens"], target.name, _said(counted))
    return TokenFile(path=target, **facts)


def sample_texts(
    source: Iterable[str | Iterable[str]] | str | Path,
    *,
    max_bytes: int = SAMPLE_BYTES,
    suffixes: Iterable[str] | None = None,
    split: str | None = None,
) -> list[str]:
    """A sample of text that fits memory, to train a tokenizer on.

    Of a folder, equal parts of up to 1024 files that a hash of their paths chooses; of documents,
    the first ones.

    Args:
        source, suffixes, split: as in `stream_tokens`.
        max_bytes: the most text to return.

    Raises:
        ValueError: an argument that is none, or a source without text.
    """
    max_bytes = check_positive_int("max_bytes", max_bytes)
    counts, sample, room = Counter(), [], max_bytes
    documents: Iterable[Any] = _documents(source, suffixes, split, counts)
    share = max_bytes
    if isinstance(documents, _Files):
        documents = documents.chosen(MOST_FILES)
        share = max(1, max_bytes // max(1, len(documents)))
    for document in documents:
        text = _beginning(document, min(share, room))
        if text:
            sample.append(text)
            room -= len(text.encode())
        if room < LARGEST_CHARACTER:
            break
    if not sample:
        raise ValueError(f"source={shown(source)} holds no text to take a sample of")
    return sample


class UnreadableError(Exception):
    """A file of a folder that cannot be read, or no longer."""


class _File:
    """A document that is a file."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name

    def __iter__(self) -> Iterator[str]:
        try:
            yield from pieces(self.path)
        except OSError as error:
            raise UnreadableError(str(error)) from error


class _Files:
    """The documents of a folder, or one file."""

    def __init__(self, root: Path, names: list[str]):
        self._root, self._names = root, names

    def __iter__(self) -> Iterator[_File]:
        return (_File(self._root / name, name) for name in self._names)

    def chosen(self, most: int) -> list[_File]:
        """A few of them, by a hash of their names."""
        return heapq.nsmallest(most, self, key=lambda file: hash_number(file.name, part=2))


def _documents(
    source: Any, suffixes: Iterable[str] | None, split: str | None, counts: Counter
) -> Iterable[Any]:
    """Documents, each in pieces."""
    ends = check_suffixes(suffixes)
    if split is not None:
        check_choice("split", split, SPLITS)
    if not isinstance(source, (str, Path)):
        return (_pieces_of(document) for document in items("source", source))
    root = check_path("source", source)
    try:
        is_file, is_folder = root.is_file(), root.is_dir()
    except OSError:
        is_file = is_folder = False
    if not (is_file or is_folder):
        raise ValueError(f"source={shown(str(root))} is neither a file nor a folder of text")
    if is_file:
        counts["found"] += 1
        return _Files(root.parent, [root.name])
    names = find_files(root, ends, counts)
    if split is not None:
        shares = check_shares(0.05, 0.05)
        names = [name for name in names if split_of(name, shares) == split]
    counts["found"] += len(names)
    return _Files(root, names)


def _pieces_of(document: Any) -> Iterable[str]:
    """A document that came as one text, or in pieces."""
    if isinstance(document, str):
        return (check_text("source", document),)
    return (check_text("source", piece) for piece in items("source", document))


def _parts(document: Iterable[str], counts: Counter) -> Iterator[str]:
    """The document cut anew, into parts that no token reaches across."""
    rest = ""
    for piece in document:
        rest, start = rest + piece, 0
        while len(rest) - start > PART_CHARACTERS:
            cut = _border(rest, start)
            if cut is None:
                if len(rest) - start < BATCH_PARTS * PART_CHARACTERS:
                    break  # more text may bring a border
                cut = start + BATCH_PARTS * PART_CHARACTERS - 1
                counts["cut_anywhere"] += 1
            yield rest[start:cut]
            start = cut
        rest = rest[start:]
    if rest:
        yield rest


def _border(text: str, start: int) -> int | None:
    """The last place that no token reaches across, at most a part from the start; None without."""
    low, high = start + 1, min(len(text), start + PART_CHARACTERS)
    for blank in _BLANKS:
        place = text.rfind(blank, low, high)
        while place >= low:
            if not text[place - 1].isspace():
                return place
            place = text.rfind(blank, low, place)
    others = [match.start() for match in _OTHER_BORDER.finditer(text, low, high)]
    if others:
        return others[-1]
    # A run longer than a part: to its end, where that is near.
    end = _RUN_END.search(text, high - 1, min(len(text), start + BATCH_PARTS * PART_CHARACTERS))
    return None if end is None else end.end()


def _batches(parts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for part in parts:
        batch.append(part)
        if len(batch) == BATCH_PARTS:
            yield batch
            batch = []
    if batch:
        yield batch


def _beginning(document: Iterable[str], max_bytes: int) -> str:
    """The first bytes of a document's text, or nothing where it is no text."""
    text, room = "", max_bytes
    try:
        for piece in document:
            content = piece.encode()[:room]
            text += content.decode("utf-8", "ignore")
            room -= len(content)
            if room <= 0:
                break
    except (NotTextError, UnreadableError):
        return ""
    return text


def _said(counts: Counter) -> str:
    return ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in COUNTS)
