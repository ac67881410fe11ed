"""Methods against controls: run comparisons by name and keep each summary beside the benchmarks.

`python -m benchmarks.comparisons cpu` is what `make bench` calls. What was done before is kept
under data/runs/compare, so a call that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from sbldlib.comparison import COMPARISONS, ComparisonSummary
from sbldlib.training.launch import launch

from .common import say
from .results import FOLDER

RUNS = Path(__file__).parent.parent / "data" / "runs" / "compare"


def result_path(name: str, folder: Path = FOLDER) -> Path:
    """Where this comparison's summary lies among the results."""
    return folder / f"comparison-{name}.json"


def load_summaries(folder: Path = FOLDER) -> dict[str, ComparisonSummary]:
    """Every comparison's summary, by name."""
    paths = sorted(folder.glob("comparison-*.json"))
    loaded = (ComparisonSummary.load(path) for path in paths)
    return {summary.name: summary for summary in loaded}


def run(
    name: str,
    *,
    processes: int,
    stop_after: float,
    runs: Path = RUNS,
    results: Path = FOLDER,
) -> bool:
    """Run one comparison as far as time allows; True where it is whole and its summary kept."""
    folder = runs / name
    command = ["sbldlib.cli", "compare", "--preset", name, "--out", str(folder)]
    if stop_after:
        command += ["--stop-after", str(stop_after)]
    code = launch(command, num_processes=processes)
    if code:
        raise SystemExit(code)
    summary = folder / "summary.json"
    if not summary.exists():
        say(f"{name}: not whole yet; the same call goes on")
        return False
    ComparisonSummary.load(summary).save(result_path(name, results))
    return True


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparisons", description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(COMPARISONS))
    parser.add_argument("--processes", type=int, help="that share the runs (default: one a core)")
    parser.add_argument("--stop-after", type=float, default=0.0, help="seconds for all of them")
    asked = parser.parse_args(arguments)
    on_gpu = [name for name in asked.names if COMPARISONS[name].device == "cuda"]
    if on_gpu and not torch.cuda.is_available():
        say(f"{', '.join(on_gpu)}: torch sees no CUDA device here")
        return 2
    began = time.monotonic()
    for name in asked.names:
        left = asked.stop_after and max(1.0, asked.stop_after - (time.monotonic() - began))
        cuda = COMPARISONS[name].device == "cuda"
        processes = asked.processes or (torch.cuda.device_count() if cuda else os.cpu_count()) or 1
        if not run(name, processes=processes, stop_after=left):
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
