"""What the lessons' scripts share: a file of cells, measured one by one, gone on with later.

A cell is a name, such as "counts/rnn/64", and what was measured. Its part is what stands before the
first stroke.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sbldlib.environment import environment
from sbldlib.records import Record

from .common import say
from .results import FOLDER, machine

Cell = tuple[str, Callable[[], dict[str, Any]]]  # its name, and what measures it
Parts = Mapping[str, Callable[[Any], Iterator[Cell]]]  # part -> its cells at a size


@dataclass(frozen=True, kw_only=True)
class LessonResults(Record):
    """What is known so far.

    Attributes:
        size: how much is measured, as plain values.
        machine: what it ran on, as `machine` gives it.
        cells: name, such as "counts/rnn/64" -> what was measured, each with its date and seconds.
    """

    size: dict[str, Any]
    machine: dict[str, Any]
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> str:
        """As any record, with every list of numbers on one line."""
        lists = re.compile(r"\[[\d\s,.eE+-]*\]")
        return lists.sub(lambda found: " ".join(found[0].split()), super().to_json()) + "\n"


def file_of(script: str, size: str, folder: Path = FOLDER) -> Path:
    """Where a script's numbers at this size lie among the results."""
    return folder / f"{script}-{size}.json"


def known_so_far(size: Any, path: Path) -> LessonResults:
    """What this machine has measured at this size; nothing where the file is of another."""
    fresh = LessonResults(size=asdict(size), machine=machine())
    fresh = LessonResults.from_json(fresh.to_json())  # with lists as a file has them
    if not path.exists():
        return fresh
    try:
        found = LessonResults.load(path)
    except ValueError as reason:  # another format: measure again
        say(f"{path.name} is measured again: {reason}")
        return fresh
    return found if replace(found, cells={}) == fresh else fresh


def measure_missing(
    size: Any, path: Path, cells: Parts, *, parts: tuple[str, ...] = (), stop_after: float = 0.0
) -> bool:
    """Measure what the file lacks; True where nothing of these parts is missing any more.

    Args:
        size: how much, a dataclass.
        path: of the file; written after every cell.
        cells: of every part, in the order in which they are measured.
        parts: of `cells`; () is all of them.
        stop_after: seconds after which no other cell is begun; 0 never stops.
    """
    began, results = time.perf_counter(), known_so_far(size, path)
    for name, measure in (cell for part in parts or cells for cell in cells[part](size)):
        if name in results.cells:
            continue
        if stop_after and time.perf_counter() - began > stop_after:
            say(f"{name}: not begun after {stop_after:.0f} s; the same call goes on")
            return False
        start = time.perf_counter()
        values = measure()
        taken = round(time.perf_counter() - start, 2)
        cell = {**values, "date": environment()["date"], "seconds_taken": taken}
        results = replace(results, cells={**results.cells, name: cell})
        results.save(path)
        say(f"{name}: {taken} s")
    return True


def forget(size: Any, path: Path, part: str) -> None:
    """Take a part's cells out of the file, so that they are measured again."""
    results = known_so_far(size, path)
    kept = {name: cell for name, cell in results.cells.items() if name.split("/")[0] != part}
    if kept != results.cells:
        replace(results, cells=kept).save(path)


def short(values: Iterable[float]) -> list[float]:
    """Each to six digits: a file of some hundred trainings holds many."""
    return [float(f"{value:.6g}") for value in values]


def run_script(
    script: str,
    sizes: Mapping[str, Any],
    cells_of: Callable[[Path], Parts],
    arguments: list[str] | None = None,
) -> int:
    """A lesson's command; returns its exit code.

    Args:
        script: its name, and its file's.
        sizes: name -> size; each has a `device`.
        cells_of: path of the file -> the cells of every part.
        arguments: of the command line; None is the process's own.
    """
    parts = list(cells_of(FOLDER))
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{script}")
    parser.add_argument("size", choices=list(sizes), help="how much is measured")
    parser.add_argument("--only", choices=parts, help="this part alone")
    parser.add_argument("--again", choices=parts, help="this part alone, and anew")
    parser.add_argument("--stop-after", type=float, default=0.0, help="seconds; 0 never stops")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the results go")
    asked = parser.parse_args(arguments)
    size = sizes[asked.size]
    if size.device == "cuda" and not torch.cuda.is_available():
        say("gpu: torch sees no CUDA device here; `cpu` measures the processor")
        return 2
    torch.set_num_threads(1)
    path = file_of(script, asked.size, asked.folder)
    if asked.again:
        forget(size, path, asked.again)
    only = asked.again or asked.only
    chosen = (only,) if only else ()
    done = measure_missing(size, path, cells_of(path), parts=chosen, stop_after=asked.stop_after)
    return 0 if done else 1
