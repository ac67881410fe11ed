"""Text to train on without a network: Python's own source, or any folder of text files."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import check_kind, check_positive_int, items, printable, shown
from .reading import (
    SPLITS,
    Look,
    NotTextError,
    check_root,
    check_shares,
    check_suffixes,
    check_text,
    find_files,
    hash_number,
    look_at,
    pieces,
    split_of,
)

COUNTS = ("found", "not_utf8", "unreadable", "duplicate", "empty", "over_max_bytes")
MOST_BYTES = 2**32  # that are kept in memory; more text is for `stream_tokens`


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text with the path that names it, relative to its corpus, with forward slashes."""

    path: str
    text: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents in splits that share none.

    Attributes:
        splits: "train", "validation" and "test" -> documents in order of path.
        fingerprint: SHA-256 of every document's split, path and content.
        source: where the text came from, for people.
        counts: files "found", "kept", and left out as "not_utf8", "unreadable", "duplicate",
            "empty" or "over_max_bytes".
        num_bytes: split -> bytes of UTF-8.
        python_version: of the interpreter that read it; the default corpus depends on it.
    """

    splits: Mapping[str, tuple[Document, ...]] = field(repr=False)
    fingerprint: str
    source: str
    counts: Mapping[str, int]
    num_bytes: Mapping[str, int]
    python_version: str

    def texts(self, split: str) -> list[str]:
        """The documents of one split as plain text."""
        return [document.text for document in self.splits[split]]


def load_corpus(
    root: str | Path | None = None,
    *,
    max_bytes: int | None = None,
    suffixes: Sequence[str] | None = None,
    validation_fraction: float = 0.05,
    test_fraction: float = 0.05,
) -> Corpus:
    """Read a folder of text, split by file so that no document lies in two splits.

    A file's split is a hash of its path relative to the root, so it is the same on every machine
    and stays when other files come or go. Files that are not UTF-8, that cannot be read, and copies
    of another file's content are left out and counted; line ends become "\\n". What is kept is held
    in memory: text of more than 4 GiB is for `stream_tokens`.

    Args:
        root: a folder, searched through; None for this Python's standard library.
        max_bytes: the most text to keep, shared by the splits in proportion (the last document of
            each is cut to fit); None for all.
        suffixes: file name ends to read, such as [".txt"]; by default ".py" of the standard
            library and everything but hidden files of a folder.
        validation_fraction, test_fraction: expected share of the files, in (0, 1), together < 1.

    Raises:
        ValueError: no such folder, no file of text in it, a split that comes out empty, or more
            text than is kept in memory.
    """
    shares = check_shares(validation_fraction, test_fraction)
    if max_bytes is not None:
        max_bytes = check_positive_int("max_bytes", max_bytes)
    ends = check_suffixes(suffixes)
    folder = _standard_library() if root is None else check_root(root)

    counts = Counter(dict.fromkeys(COUNTS, 0))
    paths = find_files(folder, ends, counts, standard_library=root is None)
    sizes = _sizes_of_texts(folder, paths, counts)
    _check_not_empty(folder, sizes, counts)
    chosen: dict[str, list[tuple[str, int]]] = {split: [] for split in SPLITS}
    for path, num_bytes in sizes.items():
        chosen[split_of(path, shares)].append((path, num_bytes))
    if max_bytes is not None:
        for split, share in shares.items():
            chosen[split] = _within(chosen[split], int(max_bytes * share), counts)
    _check_fits_memory(folder, sum(num for few in chosen.values() for _, num in few))
    splits = {split: _read_all(folder, few, counts) for split, few in chosen.items()}
    for split in SPLITS:
        if not splits[split]:
            raise ValueError(_empty_split(folder, split, counts, max_bytes))
    of_python = f"the standard library of Python {platform.python_version()}"
    return _corpus(splits, of_python if root is None else printable(str(folder)), counts)


def corpus_from_texts(splits: Mapping[str, Sequence[str]], *, source: str = "texts") -> Corpus:
    """A corpus of texts that are already split and in memory.

    Args:
        splits: split -> texts; "train" must be there and no split may be empty.

    Raises:
        ValueError: no "train", a split without text, or a text that lies in two splits.
    """
    given = check_kind("splits", splits, Mapping, "a dict of texts, {'train': [...], ...}")
    check_kind("source", source, str, "text")
    if "train" not in given:
        raise ValueError(f"splits={shown(list(given))} has no 'train'")
    splits = {}
    for split, texts in given.items():
        check_kind("splits", split, str, "named by text, such as 'train'")
        name = f"splits[{split!r}]"
        splits[split] = tuple(check_text(name, text) for text in items(name, texts))
    homes: dict[str, str] = {}
    for split, texts in splits.items():
        if not any(texts):
            raise ValueError(f"splits[{split!r}] holds no text")
        for text in texts:
            if homes.setdefault(text, split) != split:
                raise ValueError(f"a text lies in {homes[text]!r} and in {split!r}: {text[:40]!r}")
    documents = {
        split: [Document(path=f"{split}/{i:06}", text=text) for i, text in enumerate(texts)]
        for split, texts in splits.items()
    }
    num = sum(len(texts) for texts in splits.values())
    return _corpus(documents, source, Counter(found=num))


def _standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _sizes_of_texts(folder: Path, paths: Sequence[str], counts: Counter) -> dict[str, int]:
    """Path -> bytes of text, for every file of text that is no copy of an earlier one."""
    seen: set[bytes] = set()
    sizes: dict[str, int] = {}
    for path in paths:
        counts["found"] += 1
        look = _look(folder / path, counts)
        if look is None:
            continue
        if look.num_bytes == 0:
            counts["empty"] += 1
        elif look.sha256 in seen:
            counts["duplicate"] += 1
        else:
            seen.add(look.sha256)
            sizes[path] = look.num_bytes
    return sizes


def _look(path: Path, counts: Counter) -> Look | None:
    """What a file holds, or None, counted, where that is no text."""
    try:
        return look_at(path)
    except NotTextError:
        counts["not_utf8"] += 1
    except (OSError, ValueError):  # such as a name that no file can have
        counts["unreadable"] += 1
    return None


def _read_all(folder: Path, chosen: Sequence[tuple[str, int]], counts: Counter) -> list[Document]:
    """The files' texts, each cut after its number of bytes, in order of path."""
    documents = []
    for path, num_bytes in sorted(chosen):
        try:
            content = _first_bytes(folder / path, num_bytes)
        except (OSError, NotTextError):  # gone, or changed, since it was looked at
            counts["unreadable"] += 1
            continue
        text = content.decode("utf-8", "ignore")
        if text:
            documents.append(Document(path=path, text=text))
        else:  # no room for its first letter
            counts["over_max_bytes"] += 1
    return documents


def _first_bytes(path: Path, num_bytes: int) -> bytes:
    """The first bytes of a file's text."""
    content = bytearray()
    for piece in pieces(path):
        content += piece.encode()
        if len(content) >= num_bytes:
            break
    return bytes(content[:num_bytes])


def _within(
    sizes: Sequence[tuple[str, int]], max_bytes: int, counts: Counter
) -> list[tuple[str, int]]:
    """Files in hash order for as long as their text fits, with the bytes to keep of each."""
    kept, room = [], max_bytes
    for path, num_bytes in sorted(sizes, key=lambda one: hash_number(one[0], part=1)):
        if room == 0:
            break
        kept.append((path, min(num_bytes, room)))
        room -= min(num_bytes, room)
    counts["over_max_bytes"] += len(sizes) - len(kept)
    return kept


def _check_fits_memory(folder: Path, num_bytes: int) -> None:
    if num_bytes > MOST_BYTES:
        raise ValueError(
            f"root={shown(str(folder))} holds {num_bytes / 2**30:.1f} GiB of text, and at most "
            f"{MOST_BYTES / 2**30:g} are kept in memory; give max_bytes, or make a token file of "
            "it with stream_tokens"
        )


def _check_not_empty(folder: Path, found: Mapping[str, int], counts: Counter) -> None:
    if found:
        return
    if counts["found"] == 0:
        reason = "no file to read; name a folder of text files as root"
    elif counts["not_utf8"] == counts["found"]:
        reason = f"none of its {counts['found']} files is UTF-8 text; convert them first"
    else:
        reason = f"its {counts['found']} files hold no text"
    if counts["unreadable"]:
        reason += f"; {counts['unreadable']} could not be read: look at their permissions"
    raise ValueError(f"root={shown(str(folder))} gives an empty corpus: {reason}")


def _empty_split(folder: Path, split: str, counts: Counter, max_bytes: int | None) -> str:
    message = f"split {split!r} of root={shown(str(folder))} is empty: "
    if counts["over_max_bytes"]:
        return message + f"max_bytes={max_bytes} leaves no room for it; raise it"
    return message + (
        f"{counts['found']} files were shared out by a hash of their paths; add files, cut large "
        "ones into several, or raise validation_fraction and test_fraction"
    )


def _corpus(splits: Mapping[str, list[Document]], source: str, counts: Counter) -> Corpus:
    digest = hashlib.sha256()
    num_bytes = dict.fromkeys(splits, 0)
    for split in sorted(splits):
        for document in splits[split]:
            content = document.text.encode()
            num_bytes[split] += len(content)
            line = f"{split}\0{document.path}\0{hashlib.sha256(content).hexdigest()}\n"
            digest.update(line.encode("utf-8", "backslashreplace"))
    counts["kept"] = sum(len(documents) for documents in splits.values())
    return Corpus(
        splits={split: tuple(documents) for split, documents in splits.items()},
        fingerprint=digest.hexdigest(),
        source=source,
        counts=dict(counts),
        num_bytes=num_bytes,
        python_version=platform.python_version(),
    )
