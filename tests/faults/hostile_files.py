"""Files that a folder of text should not hold, each with what is to be counted of it."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

Counts = Mapping[str, int]
Make = Callable[[Path, str, random.Random], Counts]

KEPT = {"found": 1, "kept": 1}
NOT_TEXT = {"found": 1, "not_utf8": 1}
UNREADABLE = {"found": 1, "unreadable": 1}
EMPTY = {"found": 1, "empty": 1}
VANISHING: list[Path] = []  # files that are to go while they are read
IS_ROOT = os.geteuid() == 0  # to whom no file is closed
JAPANESE = "日本語のテキスト、空白なし。" * 20
CONTENTS = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "\x1b[2J\x1b]0;title\x07",
    "=cmd|' /C calc'!A0,+1+1,-2+3,@SUM(1)",
    "$x_{ \\frac [red]a|b[/red]",
    "../../etc/passwd %s %n ${jndi:ldap://x}",
    "\u202egnp.exe \u200b\ufeff \U0010ffff",
)


def holding(content: bytes | Callable[[str], bytes], counts: Counts) -> Make:
    """A file of this content; a function makes it anew from the file's name, for it to be kept."""

    def make(root: Path, name: str, drawn: random.Random) -> Counts:
        whole = content(name) if callable(content) else content
        (root / f"{name}.txt").write_bytes(whole)
        return counts

    return make


def kept(text: str) -> Make:
    """A file of text, which is no other file's copy."""
    return holding(lambda name: f"{name} {text}".encode(), KEPT)


def encoded(text: str, encoding: str) -> Make:
    """A text in an encoding that is not UTF-8."""
    return holding(text.encode(encoding), NOT_TEXT)


def named(name: str | bytes) -> Make:
    """A good text under a name that is not."""

    def make(root: Path, label: str, drawn: random.Random) -> Counts:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        with open(path, "wb") as file:
            file.write(f"text of {label}".encode())
        return KEPT

    return make


def link(target: str | Path, counts: Counts) -> Make:
    """A link to something else."""

    def make(root: Path, name: str, drawn: random.Random) -> Counts:
        (root / f"{name}.txt").symlink_to(str(target).format(own=f"{name}.txt"))
        return counts

    return make


def link_to_text(root: Path, name: str, drawn: random.Random) -> Counts:
    outside = root.parent / f"{root.name} outside {name}"
    outside.write_text(f"linked text of {name}")
    (root / f"{name}.txt").symlink_to(outside)
    return KEPT


def pipe(root: Path, name: str, drawn: random.Random) -> Counts:
    os.mkfifo(root / f"{name}.txt")
    return UNREADABLE


def a_socket(root: Path, name: str, drawn: random.Random) -> Counts:
    before = os.getcwd()
    os.chdir(root)  # a socket's path may have but a hundred letters
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s.txt")
    finally:
        os.chdir(before)
    return UNREADABLE


def closed_file(root: Path, name: str, drawn: random.Random) -> Counts:
    path = root / f"{name}.txt"
    path.write_text(f"closed text of {name}")
    path.chmod(0)
    return KEPT if IS_ROOT else UNREADABLE


def closed_folder(root: Path, name: str, drawn: random.Random) -> Counts:
    (root / name).mkdir()
    (root / name / "inside.txt").write_text(f"closed text of {name}")
    (root / name).chmod(0)
    return KEPT if IS_ROOT else {"unreadable": 1}


def goes(word: str) -> Make:
    def make(root: Path, name: str, drawn: random.Random) -> Counts:
        path = root / f"{word} {name}.txt"
        path.write_text(f"text of {name}")
        VANISHING.append(path)
        return UNREADABLE

    return make


def sparse(root: Path, name: str, drawn: random.Random) -> Counts:
    with open(root / f"{name}.txt", "wb") as file:
        file.truncate(2**40)  # a hole: no disk is used
    return NOT_TEXT


def blob(root: Path, name: str, drawn: random.Random) -> Counts:
    (root / f"{name}.txt").write_bytes(b"\xff" + drawn.randbytes(100_000))
    return NOT_TEXT


def copies(root: Path, name: str, drawn: random.Random) -> Counts:
    for place in range(3):
        (root / f"{name} {place}.txt").write_text(f"the same in {name}")
    return {"found": 3, "kept": 1, "duplicate": 2}


def hidden(root: Path, name: str, drawn: random.Random) -> Counts:
    (root / "__pycache__").mkdir()
    (root / ".git").mkdir()
    for path in (root / ".hidden", root / "__pycache__" / "x.txt", root / ".git" / "y.txt"):
        path.write_text("not asked for")
    return {}


def folders(depth: int, counts: Counts, label: str = "d") -> Make:
    """One text under so many folders of one name, one within the other."""

    def make(root: Path, name: str, drawn: random.Random) -> Counts:
        here = os.open(root, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir(label, dir_fd=here)
            below = os.open(label, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        file = os.open("deep.txt", os.O_WRONLY | os.O_CREAT, dir_fd=here)
        os.write(file, f"deep text of {name}".encode())
        os.close(file)
        os.close(here)
        return counts

    return make


def many(root: Path, name: str, drawn: random.Random) -> Counts:
    for place in range(300):
        (root / f"{name} {place}").write_text(f"{place} of {name}")
    return {"found": 300, "kept": 300}


KINDS: dict[str, Make] = {
    "nothing": lambda root, name, drawn: {},
    "no byte": holding(b"", EMPTY),
    "white space": holding(b" \n\t\r\n\xc2\xa0", EMPTY),
    "one byte": holding(b"x", KEPT),
    "a few words": kept("tiny"),
    "latin-1": encoded("café", "latin-1"),
    "cp1252": encoded("“smart” quotes – and dashes", "cp1252"),
    "shift-jis": encoded(JAPANESE, "shift-jis"),
    "utf-16": encoded("text with a mark", "utf-16"),
    "utf-16 without a mark": encoded("text without a mark", "utf-16-le"),
    "utf-16 of no zero byte": encoded(JAPANESE, "utf-16-be"),
    "utf-32": encoded("text", "utf-32"),
    "half characters": holding(b"a\xed\xa0\x80b", NOT_TEXT),
    "overlong characters": holding(b"a\xc0\x80b", NOT_TEXT),
    "cut in a character": holding("é".encode()[:1], NOT_TEXT),
    "bad at the end": holding(b"good text " * 200_000 + b"\xff", NOT_TEXT),
    "a zero byte": holding(b"text\0text", NOT_TEXT),
    "a late zero byte": holding(lambda name: f"{name} {'x' * 70_000}\0".encode(), KEPT),
    "a long line": kept("word " * 600_000),
    "a byte order mark": holding(lambda name: b"\xef\xbb\xbf" + name.encode(), KEPT),
    "a mark alone": holding(b"\xef\xbb\xbf", EMPTY),
    "windows' line ends": kept("a\r\nb\rc\r\n"),
    "a link to itself": link("{own}", UNREADABLE),
    "a link to nowhere": link("nowhere", UNREADABLE),
    "a link to its folder": link(".", UNREADABLE),
    "a link to zeros": link("/dev/zero", UNREADABLE),
    "a link to a text": link_to_text,
    "a pipe": pipe,
    "a socket": a_socket,
    "a closed file": closed_file,
    "a closed folder": closed_folder,
    "gone once listed": goes("vanish"),
    "gone once looked at": goes("leave"),
    "a name that is not utf-8": named(b"caf\xe9.txt"),
    "a name of two lines": named("two\nlines.txt"),
    "a name that steers": named("\x1b[2J.txt"),
    "a name with a tag": named("<script>.txt"),
    "a name like a flag": named("-rf"),
    "a long name": named("n" * 250),
    "deep folders": folders(1200, KEPT),
    "folders beyond any path": folders(25, {"unreadable": 1}, "d" * 200),
    "a terabyte of zeros": sparse,
    "noise": blob,
    "copies": copies,
    "hidden files": hidden,
    "many files": many,
    **{f"content {place}": kept(content) for place, content in enumerate(CONTENTS)},
}


def remove(root: Path) -> None:
    """Remove a folder whatever it holds, however deep it is."""
    here, names = os.open(root, os.O_RDONLY), []
    while True:
        with os.scandir(here) as entries:
            below = [_removed(entry, here) for entry in entries]
        deeper = next(filter(None, below), None)
        if deeper is not None:
            names.append(deeper)
            opened = os.open(deeper, os.O_RDONLY, dir_fd=here)
        elif names:
            opened = os.open("..", os.O_RDONLY, dir_fd=here)
            os.rmdir(names.pop(), dir_fd=opened)
        else:
            break
        os.close(here)
        here = opened
    os.close(here)
    root.rmdir()


def _removed(entry: os.DirEntry[str], folder: int) -> str | None:
    """The name of a folder that is still to be emptied."""
    if not entry.is_dir(follow_symlinks=False):
        os.unlink(entry.name, dir_fd=folder)
        return None
    os.chmod(entry.name, 0o700, dir_fd=folder)
    return entry.name
