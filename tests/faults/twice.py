"""Restart & Run All, twice: every notebook tells the same numbers again, and leaves nothing lying.

Run in a copy of the checkout, so that whatever is written where it should not be is seen.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import Any

import nbformat
from faults.lives import ONE_THREAD, ROOT
from faults.outcome import Outcome
from nbclient import NotebookClient

FAULT = "Restart & Run All, again"
PROMISE = "the same numbers in every output, and no file outside of $SBLD_DATA"
CELL_SECONDS = 600
COPIED = ("README.md", "pyproject.toml", "sbldlib", "notebooks", "benchmarks", "figures")
NOT_OURS = ("__pycache__", ".ipynb_checkpoints", ".pytest_cache")  # what Python and Jupyter write
# Only what is a time is passed over: seconds and what follows from them, dates, and addresses.
TIMES = (
    (re.compile(r"-?\b\d[\d,.]*\s*(s|ms|µs|min|minutes|seconds|hours|tokens/s)\b"), "~"),
    (re.compile(r"time saved about -?[\d.]+\s*%"), "time saved about ~ %"),
    (re.compile(r"about -?[\d.]+% of the time"), "about ~% of the time"),
    (re.compile(r"\b20\d\d-\d\d-\d\d\b"), "~date~"),
    (re.compile(r"\b0x[0-9a-f]+\b"), "~address~"),
)  # fmt: skip
TIME_COLUMN = re.compile(r"\b(seconds|time saved|ms a step)\b")


@dataclass(frozen=True)
class Told:
    """One output: the number of its cell, and its text."""

    cell: int
    text: str


def run(num: int, *, seed: int, folder: Path, notebooks: Sequence[Path] = ()) -> Outcome:
    """All notebooks `num` times in order, in one data folder; each but the first time is held.

    Args:
        notebooks: others than the kit's.
    """
    began, failures = time.perf_counter(), {}
    checkout, data = folder / "checkout", folder / "data"
    copy_checkout(checkout)
    paths = [Path(shutil.copy(path, checkout / "notebooks")) for path in notebooks or ours()]
    before, first = inventory(checkout), {}
    tried, cells = 0, 0
    for _ in range(num):
        for path in paths:
            told = execute(path, data)
            cells += len(told)
            failure = ", ".join(lying(checkout, before, data))
            before = inventory(checkout)
            if path.name in first:
                failure = failure or differing(first[path.name], told)
            if failure:
                failures[tried] = f"{path.name}: {failure}"
            first.setdefault(path.name, told)
            tried += 1
    return Outcome.of(
        FAULT,
        PROMISE,
        failures,
        tried,
        seconds=time.perf_counter() - began,
        figures={"notebooks": len(paths), "times each": num, "outputs compared": cells},
    )


def copy_checkout(to: Path) -> None:
    """All that the notebooks need of this checkout."""
    to.mkdir(parents=True)
    for name in COPIED:
        if (path := ROOT / name).is_dir():
            shutil.copytree(path, to / name, ignore=shutil.ignore_patterns(*NOT_OURS))
        else:
            shutil.copy(path, to)


def ours() -> list[Path]:
    """The notebooks that the kit ships, in their order."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def execute(path: Path, data: Path) -> list[Told]:
    """Run a notebook at the smoke tier in a new kernel; its outputs in words."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    environment = {
        **os.environ,
        **ONE_THREAD,
        "SBLD_DATA": str(data),
        "SBLD_TIER": "smoke",
        "SBLD_PANEL": "inline",
        "PYTHONPATH": str(path.parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env=environment)
    return [
        Told(number, text)
        for number, cell in enumerate(notebook.cells)
        for text in texts(cell.get("outputs", ()))
    ]


def texts(outputs: Sequence[Any]) -> list[str]:
    """What a cell printed, each stream in one piece, and what it showed."""
    printed: dict[str, str] = {}
    shown = []
    for output in outputs:
        if output.output_type == "stream":  # cut in pieces by chance
            printed[output.name] = printed.get(output.name, "") + output.text
        else:
            data = output.get("data", {})
            html, plain = data.get("text/html", ""), data.get("text/plain", "")
            shown.append(Table.read(html) if "<table" in html else plain)
    return [*printed.values(), *shown]


class Table(HTMLParser):
    """A table's cells, in rows, those of its columns of seconds as marks."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[list[str]] = []
        self._num_head = 0
        self._span = 0

    @classmethod
    def read(cls, html: str) -> str:
        """All rows in words, one a line."""
        table = cls()
        table.feed(html)
        head, body = table._rows[: table._num_head], table._rows[table._num_head :]
        names = [" ".join(words) for words in zip_longest(*head, fillvalue="")]
        is_time = [bool(TIME_COLUMN.search(name)) for name in names]
        kept = [
            ["~" if at < len(is_time) and is_time[at] else word for at, word in enumerate(row)]
            for row in body
        ]
        return "\n".join(" | ".join(row) for row in (*head, *kept))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._span = int(dict(attrs).get("colspan", 1))
            self._rows[-1] += [""] * self._span

    def handle_endtag(self, tag: str) -> None:
        if tag == "thead":
            self._num_head = len(self._rows)
        if tag in ("td", "th"):
            self._span = 0

    def handle_data(self, data: str) -> None:
        for at in range(1, self._span + 1):
            self._rows[-1][-at] += data


def differing(first: list[Told], again: list[Told]) -> str | None:
    """The first output that is not the same but for its times, or None."""
    if len(first) != len(again):
        return f"{len(first)} outputs, then {len(again)}"
    for before, after in zip(first, again, strict=True):
        if without_times(before.text) != without_times(after.text):
            pairs = zip(before.text.splitlines(), after.text.splitlines(), strict=False)
            odd = next(((a, b) for a, b in pairs if without_times(a) != without_times(b)), None)
            return f"cell {after.cell} told {odd[0]!r}, then {odd[1]!r}" if odd else "other lines"
    return None


def without_times(text: str) -> str:
    """The text with every time, date and address as a mark."""
    for pattern, mark in TIMES:
        text = pattern.sub(mark, text)
    return text


def inventory(folder: Path) -> dict[str, str]:
    """Every file of a checkout, with a digest of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part in NOT_OURS for part in path.parts)
    }


def lying(checkout: Path, before: dict[str, str], data: Path) -> list[str]:
    """What was written, changed or removed in the checkout, and what is half written anywhere."""
    after = inventory(checkout)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    left = [p.name for end in ("part", "gone") for p in data.rglob(f".*.{end}")]
    return [*(f"{name} was touched" for name in sorted(changed)), *(f"{n} is left" for n in left)]
