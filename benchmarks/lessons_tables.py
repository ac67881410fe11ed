"""The first lesson's numbers as two tables, for this folder's README."""

from __future__ import annotations

from statistics import fmean, median
from typing import Any

from sbldlib.comparison.cells import Cells
from sbldlib.plots.parallelism import KIND_LABEL, cells_of, speed_ups
from sbldlib.plots.reach import VARIANT_STYLE, by_distance, variants_of

SAME = 0.005  # seeds whose shares lie no further apart are one number


def work_and_span_rows(cells: Cells) -> list[list[str]]:
    """The header, and a line a kind: its shortest and longest sequence, and its median seconds."""
    head = ["model", "tokens", "longest path", "operations", "MFLOPs a sequence"]
    rows = [[*head, "tokens timed", "µs a token", "two threads, times as fast"]]
    for kind, label in KIND_LABEL.items():
        counted, timed = cells_of(cells, "counts", kind), cells_of(cells, "seconds", kind)
        ends = [counted[0], counted[-1]]
        mflops = [f"{cell['flops'] / cell['rows'] / 1e6:.3g}" for _, cell in ends]
        rows.append(
            [
                label,
                " → ".join(f"{length:,}" for length, _ in ends),
                " → ".join(f"{cell['longest_path']:,}" for _, cell in ends),
                " → ".join(f"{cell['num_operations']:,}" for _, cell in ends),
                " → ".join(mflops),
                ", ".join(str(length) for length, _ in timed),
                ", ".join(f"{_microseconds(length, cell):.1f}" for length, cell in timed),
                ", ".join(f"{median(speed_ups(cell)):.2f}" for _, cell in timed),
            ]
        )
    return rows


def recall_rows(cells: Cells, part: str) -> list[list[str]]:
    """The header, and a line a variant: mean and range of the seeds at every distance.

    Args:
        cells: of the file.
        part: "alone" or "together".
    """
    found = {name: by_distance(cells, part, name, "accuracy") for name in variants_of(cells)}
    distances = next(iter(found.values()))
    rows = [[f"right, trained {part}", *(f"at {distance}" for distance in distances)]]
    for name, shares in found.items():
        rows.append([VARIANT_STYLE[name][2], *(_shares(each) for each in shares.values())])
    return rows


def _microseconds(length: int, cell: Any) -> float:
    return median(cell["seconds_by_threads"]["1"]) / (cell["rows"] * length) * 1e6


def _shares(values: tuple[float, ...]) -> str:
    mean, low, high = fmean(values), min(values), max(values)
    return f"{mean:.2f}" if high - low < SAME else f"{mean:.2f} ({low:.2f} to {high:.2f})"
