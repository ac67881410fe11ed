"""Text to train on without a network: Python's own source, or any folder of text files."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import platform
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import check_kind, check_path, check_positive_int, check_range, items, shown

SPLITS = ("train", "validation", "test")

# Left out of the standard library, as measured on 3.11: tests (17 MB) and installed packages are
# not its source; 72 of the 122 files in encodings (1.4 of 10.2 MB) are more than 5 % digits and
# backslashes and the others are stubs that differ by a name; pydoc_data is one file of 0.8 MB.
EXCLUDED_FOLDERS = (
    "test", "tests", "idle_test", "idlelib", "lib2to3", "encodings", "pydoc_data", "turtledemo",
    "site-packages", "dist-packages", "lib-dynload", "config-*",
)  # fmt: skip
# Tables, and files that the installation writes.
EXCLUDED_FILES = (
    "stringprep.py", "entities.py", "_sysconfigdata*.py", "_sysconfig_vars*", "sitecustomize.py",
    "usercustomize.py",
)  # fmt: skip
SNIFFED_BYTES = 65_536
COUNTS = ("found", "not_utf8", "duplicate", "empty", "over_max_bytes")


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
        counts: files "found", "kept", and left out as "not_utf8", "duplicate", "empty" or
            "over_max_bytes".
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
    and stays when other files come or go. Files that are not UTF-8 and copies of another file's
    content are left out and counted; line ends become "\\n".

    Args:
        root: a folder, searched through; None for this Python's standard library.
        max_bytes: the most text to keep, shared by the splits in proportion (the last document of
            each is cut to fit); None for all.
        suffixes: file name ends to read, such as [".txt"]; by default ".py" of the standard
            library and everything but hidden files of a folder.
        validation_fraction, test_fraction: expected share of the files, in (0, 1), together < 1.

    Raises:
        ValueError: no such folder, no file of text in it, or a split that comes out empty.
    """
    shares = _shares(validation_fraction, test_fraction)
    if max_bytes is not None:
        max_bytes = check_positive_int("max_bytes", max_bytes)
    ends = _check_suffixes(suffixes)
    folder = _standard_library() if root is None else check_path("root", root)
    if not _is_folder(folder):
        raise ValueError(f"root={shown(str(folder))} is not a folder; name one that holds texts")

    counts = Counter(dict.fromkeys(COUNTS, 0))
    splits: dict[str, list[Document]] = {split: [] for split in SPLITS}
    for document in _read_documents(folder, ends, counts, standard_library=root is None):
        splits[_split_of(document.path, shares)].append(document)
    _check_not_empty(folder, splits, counts)
    if max_bytes is not None:
        for split, share in shares.items():
            splits[split] = _within(splits[split], int(max_bytes * share), counts)
    for split in SPLITS:
        if not splits[split]:
            raise ValueError(_empty_split(folder, split, counts, max_bytes))
    of_python = f"the standard library of Python {platform.python_version()}"
    return _corpus(splits, of_python if root is None else str(folder), counts)


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
        splits[split] = tuple(check_kind(name, text, str, "texts") for text in items(name, texts))
    homes: dict[str, str] = {}
    for split, texts in splits.items():
        if not any(texts):
            raise ValueError(f"splits[{split!r}]={shown(texts)} holds no text")
        for text in texts:
            if homes.setdefault(text, split) != split:
                raise ValueError(f"a text lies in {homes[text]!r} and in {split!r}: {text[:40]!r}")
    documents = {
        split: [Document(path=f"{split}/{i:06}", text=text) for i, text in enumerate(texts)]
        for split, texts in splits.items()
    }
    num = sum(len(texts) for texts in splits.values())
    return _corpus(documents, source, Counter(found=num))


def _shares(validation_fraction: float, test_fraction: float) -> dict[str, float]:
    """Each split's expected share of the files."""
    validation = check_range(
        "validation_fraction", validation_fraction, 0, 1, low_open=True, high_open=True
    )
    test = check_range("test_fraction", test_fraction, 0, 1, low_open=True, high_open=True)
    if validation + test >= 1:
        raise ValueError(
            f"validation_fraction={validation_fraction} and test_fraction={test_fraction} "
            "leave nothing to train on; their sum must be below 1"
        )
    return {"test": test, "validation": validation, "train": 1 - test - validation}


def _check_suffixes(suffixes: Sequence[str] | None) -> tuple[str, ...]:
    """The ends of file names, or ValueError where they are no texts; () where none are asked."""
    ends = () if suffixes is None else tuple(items("suffixes", suffixes))
    return tuple(check_kind("suffixes", end, str, "the end of a file's name") for end in ends)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long
        return False


def _standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _read_documents(
    folder: Path, suffixes: tuple[str, ...], counts: Counter, *, standard_library: bool
) -> Iterator[Document]:
    """Every file of text that is no copy of an earlier one, in order of path."""
    ends = suffixes or ((".py",) if standard_library else ("",))
    seen: set[str] = set()
    for path in sorted(_walk(folder, ends, standard_library=standard_library)):
        counts["found"] += 1
        text = _read_text(folder / path)
        if text is None:
            counts["not_utf8"] += 1
        elif not text.strip():
            counts["empty"] += 1
        elif text in seen:
            counts["duplicate"] += 1
        else:
            seen.add(text)
            yield Document(path=path, text=text)


def _walk(folder: Path, ends: tuple[str, ...], *, standard_library: bool) -> Iterator[str]:
    unwanted_folders = EXCLUDED_FOLDERS if standard_library else ()
    unwanted_files = EXCLUDED_FILES if standard_library else ()
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _unwanted(name, unwanted_folders)]
        for name in files:
            if name.endswith(ends) and not _unwanted(name, unwanted_files):
                path = Path(parent, name)
                if path.is_file():
                    yield path.relative_to(folder).as_posix()


def _unwanted(name: str, patterns: tuple[str, ...]) -> bool:
    if name.startswith(".") or name == "__pycache__":
        return True
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _read_text(path: Path) -> str | None:
    """The file as text with "\\n" line ends, or None where it is not UTF-8."""
    with open(path, "rb") as file:
        head = file.read(SNIFFED_BYTES)
        if b"\0" in head:  # a film need not be read to its end to know that it is not text
            return None
        content = head + file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _split_of(path: str, shares: Mapping[str, float]) -> str:
    place = _hash_number(path)
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return "train"


def _hash_number(path: str, *, part: int = 0) -> float:
    """A number in [0, 1) that is a function of the path alone; each part is another one."""
    digest = hashlib.sha256(path.encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[8 * part : 8 * part + 6], "big") / 2**48


def _within(documents: list[Document], max_bytes: int, counts: Counter) -> list[Document]:
    """Documents in hash order for as long as they fit, the last one cut, in order of path."""
    kept, room = [], max_bytes
    for document in sorted(documents, key=lambda document: _hash_number(document.path, part=1)):
        content = document.text.encode()
        text = content[:room].decode("utf-8", "ignore")
        if not text:
            break
        kept.append(Document(path=document.path, text=text))
        room -= len(content[:room])
    counts["over_max_bytes"] += len(documents) - len(kept)
    return sorted(kept, key=lambda document: document.path)


def _check_not_empty(folder: Path, shared: Mapping[str, list], counts: Counter) -> None:
    if any(shared.values()):
        return
    if counts["found"] == 0:
        reason = "no file to read; name a folder of text files as root"
    elif counts["not_utf8"] == counts["found"]:
        reason = f"none of its {counts['found']} files is UTF-8 text; convert them first"
    else:
        reason = f"its {counts['found']} files hold no text"
    raise ValueError(f"root={str(folder)!r} gives an empty corpus: {reason}")


def _empty_split(folder: Path, split: str, counts: Counter, max_bytes: int | None) -> str:
    message = f"split {split!r} of root={str(folder)!r} is empty: "
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
