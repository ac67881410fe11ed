"""`make faults`: every fault, as often as it takes to believe it; the table, and the file of it."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from faults.outcome import Outcome

from benchmarks.faults import FILE, FaultResults, load_faults, rows
from benchmarks.report import plain_table

# Module -> how often, in full and in short. Of streamed: MiB; of steady ones: steps.
FAULTS: dict[str, tuple[int, int]] = {
    "killed": (50, 3),
    "killed_saves": (200, 10),
    "damaged": (300, 4),
    "hostile": (200, 12),
    "full_disk": (60, 5),
    "interrupted": (200, 7),
    "steered": (200, 4),
    "killed_rank": (10, 1),
    "racing": (20, 5),
    "fuzzed": (2100, 150),
    "corpora": (100, 20),
    "streamed": (10_240, 64),
    "steady": (10_000, 200),
    "steady_panel": (10_000, 200),
    "twice": (2, 2),
}
NOWHERE = Path(os.devnull)


def run_fault(name: str, num: int, *, seed: int) -> tuple[Outcome, ...]:
    """The outcomes of one module's faults, in a folder that goes after it."""
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{name}-"))
    try:
        found = importlib.import_module(f"faults.{name}").run(num, seed=seed, folder=folder)
        return found if isinstance(found, tuple) else (found,)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def told_or_broken(name: str, num: int, *, seed: int) -> tuple[Outcome, ...]:
    """The outcomes; where the harness itself breaks, that as a promise that was not kept."""
    try:
        return run_fault(name, num, seed=seed)
    except Exception as error:
        traceback.print_exc()
        words = f"{type(error).__name__}: {error}"
        return (Outcome.of(name, "the fault can be done here", {0: words}, 1),)


def main() -> int:
    """Run what is asked, tell it as it comes, and end with 1 where a promise was broken."""
    asked = parse()
    names, place = asked.names or list(FAULTS), int(asked.short)
    path = Path(asked.out or (NOWHERE if asked.short else FILE))
    results = FaultResults(machine={}) if asked.anew else load_faults(path)
    for name in names:
        num = FAULTS[name][place]
        print(f"{time.strftime('%H:%M')}  {name} ({num:,})", file=sys.stderr, flush=True)
        found = told_or_broken(name, num, seed=asked.seed)
        told = [dataclasses.asdict(outcome) for outcome in found]
        results = results.with_outcomes(name, told, count=num, seed=asked.seed)
        results = results.in_order(list(FAULTS))
        if path != NOWHERE:
            results.save(path)
        for outcome in found:
            for failure in outcome.failures:
                print(f"!! {outcome.fault}: {failure}", file=sys.stderr, flush=True)
    print(plain_table(rows(results)))
    return 0 if results.all_kept else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*FAULTS, []], help="these alone; default all")
    parser.add_argument("--short", action="store_true", help="as often as the tests do")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--out", help="where the results lie; with --short nowhere, if not said")
    parser.add_argument("--anew", action="store_true", help="leave out what was found before")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
