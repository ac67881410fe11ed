"""The cells of the GPT variants' comparison, read: by arm and seed, and paired.

Cells are those of `benchmarks.lessons_variants`: name -> what was measured, as plain values.
"raw/ARM/SEED" is a training of as many tokens as the GPT's, "compute/ARM/SEED" of as many
operations; "longer/ARM/SEED" and "longer_compute/ARM/SEED" of several times as many.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from .summary import Difference, paired_difference

Cells = Mapping[str, Mapping[str, Any]]  # of any lesson's benchmark
REFERENCE = "gpt"
SHORT = "gpt-short"  # stands for any "gpt-CONTEXT", a GPT with so many tokens of context
# Part -> the part whose GPT had as many operations.
SAME_OPERATIONS = {"compute": "raw", "longer_compute": "longer"}
ORDER = (
    REFERENCE,
    SHORT,
    "gpt-shallow",
    "gpt-outer",
    "gpt-ahead",
    "conv",
    "conv-ahead",
    "conv-leak",
    "diverging",
    "diverging-plain",
    "stack",
)


def kind_of(arm: str) -> str:
    """The arm's own name, or SHORT."""
    return SHORT if re.fullmatch(r"gpt-\d+", arm) else arm


def of_arm(cells: Cells, part: str, arm: str) -> dict[int, Any]:
    """Seed -> this arm's cell. "compute" has the GPT's of "raw", whose operations it has."""
    if arm == REFERENCE:
        part = SAME_OPERATIONS.get(part, part)
    prefix = f"{part}/{arm}/"
    found = {
        int(name.removeprefix(prefix)): cell
        for name, cell in cells.items()
        if name.startswith(prefix)
    }
    return dict(sorted(found.items()))


def arms_of(cells: Cells, *parts: str) -> list[str]:
    """The arms of these parts, the GPT first, in the order of ORDER."""
    found = {name.split("/")[1] for name in cells if name.split("/")[0] in parts}
    if any(part in SAME_OPERATIONS and of_arm(cells, part, REFERENCE) for part in parts):
        found.add(REFERENCE)

    def place(arm: str) -> int:
        kind = kind_of(arm)
        return ORDER.index(kind) if kind in ORDER else len(ORDER)

    return sorted(found, key=lambda arm: (place(arm), arm))


def by_seed(cells: Cells, part: str, arm: str, quantity: str = "bits_per_byte") -> dict[int, float]:
    """Seed -> one number of its cell."""
    return {seed: cell[quantity] for seed, cell in of_arm(cells, part, arm).items()}


def mean_over_seeds(
    cells: Cells, part: str, arm: str, quantity: str = "bits_per_byte"
) -> Difference:
    """The mean over seeds with Student's t interval; no interval with fewer than two seeds."""
    values = by_seed(cells, part, arm, quantity)
    return paired_difference(values, dict.fromkeys(values, 0.0))


def difference_to(
    cells: Cells,
    part: str,
    arm: str,
    *,
    reference: str = REFERENCE,
    quantity: str = "bits_per_byte",
) -> Difference:
    """An arm's number less another's, paired by seed, with Student's t interval."""
    return paired_difference(
        by_seed(cells, part, arm, quantity), by_seed(cells, part, reference, quantity)
    )


def change_of(
    cells: Cells, parts: tuple[str, str], arm: str, *, reference: str = REFERENCE
) -> Difference:
    """How much its distance to another arm grew from one part to the next, paired by seed."""
    distances = []
    for part in parts:
        own, others = by_seed(cells, part, arm), by_seed(cells, part, reference)
        distances.append({seed: own[seed] - others[seed] for seed in own if seed in others})
    first, second = distances
    return paired_difference(second, first)


def times_as_long(cells: Cells) -> float | None:
    """How many times the tokens of "raw" the GPT had in "longer"; None where it is not there."""
    tokens = [by_seed(cells, part, REFERENCE, "tokens") for part in ("longer", "raw")]
    longer, raw = (fmean(each.values()) if each else 0.0 for each in tokens)
    return longer / raw if longer and raw else None


def padding_by_share(cells: Cells, treatment: str = "counted") -> dict[float, tuple[float, float]]:
    """Share of padding -> loss as it was counted, and loss on the text alone; nats, over seeds.

    Args:
        treatment: "counted" or "ignored".
    """
    found: dict[float, list[Any]] = {}
    for name, cell in cells.items():
        if name.startswith("padding/") and name.split("/")[2] == treatment:
            found.setdefault(cell["pad_share"], []).append(cell)
    return {
        share: (
            fmean(cell["loss_as_counted"] for cell in found[share]),
            fmean(cell["loss_on_text"] for cell in found[share]),
        )
        for share in sorted(found)
    }


def of_length(cells: Cells, arm: str) -> dict[int, Any]:
    """Tokens a row -> this arm's cell, the shortest first."""
    return of_arm(cells, "length", arm)
