"""The cells of the GPT variants' comparison, read: by arm and seed, paired, and by suspect.

Cells are those of `benchmarks.lessons_variants`: name -> what was measured, as plain values.
"raw/ARM/SEED" is a training of as many tokens as the GPT's, "compute/ARM/SEED" of as many
operations.
"""

from __future__ import annotations

import re
from statistics import fmean
from typing import Any

from ..comparison.summary import Difference, paired_difference
from .parallelism import Cells
from .theme import BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, literal

REFERENCE = "gpt"
# Arm -> colour, line, marker, and what a legend calls it; "gpt-short" is any other "gpt-CONTEXT".
ARM_STYLE = {
    "gpt": (INK, "-", "o", "GPT"),
    "gpt-short": (GREY, "--", "s", "GPT, {} tokens of context"),
    "gpt-shallow": (GREY, "-.", "h", "GPT, half the layers"),
    "gpt-ahead": (GREY, ":", "o", "GPT, {} ahead"),
    "conv": (BLUE, "-", "^", "convolution, next token"),
    "conv-ahead": (SKY, ":", "v", "convolution, {} ahead"),
    "conv-leak": (ORANGE, "-.", "X", "convolution, planted leak"),
    "diverging": (GREEN, "-", "D", "diverging"),
    "diverging-plain": (GREEN, "--", "P", "diverging, plain"),
    "stack": (PINK, "-.", "p", "stacking"),
}
COUNTED = {"bigram": "guess by the token before", "unigram": "guess by frequency"}
# Arm -> its part, and what kind of suspect it is.
SUSPECTS = {
    "gpt": ("raw", "reference"),
    "conv": ("raw", "reference"),
    "conv-ahead": ("raw", "target"),
    "gpt-ahead": ("control", "target"),
}


def arm_style(arm: str, cells: Cells | None = None) -> dict[str, Any]:
    """Colour, line, marker and label of an arm, the same in every figure.

    Args:
        cells: say how far ahead "conv-ahead" predicts; without them its label does not.
    """
    context = re.fullmatch(r"gpt-(\d+)", arm)
    plain = (GREY, "-", "o", literal(arm))
    colour, line, marker, label = ARM_STYLE.get("gpt-short" if context else arm, plain)
    if arm.endswith("-ahead"):
        ahead = of_arm(cells or {}, "raw", "conv-ahead").values()
        label = label.format(next((cell["offset"] for cell in ahead), "further"))
    if context:
        label = label.format(context[1])
    return {"color": colour, "linestyle": line, "marker": marker, "markersize": 5, "label": label}


def of_arm(cells: Cells, part: str, arm: str) -> dict[int, Any]:
    """Seed -> this arm's cell. "compute" has the GPT's of "raw", whose operations it has."""
    if part == "compute" and arm == REFERENCE:
        part = "raw"
    prefix = f"{part}/{arm}/"
    found = {
        int(name.removeprefix(prefix)): cell
        for name, cell in cells.items()
        if name.startswith(prefix)
    }
    return dict(sorted(found.items()))


def arms_of(cells: Cells, part: str) -> list[str]:
    """The arms of this part, the GPT first, in the order of ARM_STYLE."""
    found = {name.split("/")[1] for name in cells if name.startswith(f"{part}/")}
    if part == "compute" and of_arm(cells, "raw", REFERENCE):
        found.add(REFERENCE)
    order = list(ARM_STYLE)

    def place(arm: str) -> int:
        name = "gpt-short" if re.fullmatch(r"gpt-\d+", arm) else arm
        return order.index(name) if name in order else len(order)

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


def suspects(cells: Cells) -> list[tuple[str, str, float, float | None]]:
    """What could make a loss low: label, kind, loss as reported, and on text alone if it differs.

    Means over seeds, nats a target of new text. Kinds: "reference", "target", "padding", "leak".
    """
    rows: list[tuple[str, str, float, float | None]] = []
    for arm, (part, kind) in SUSPECTS.items():
        mean = mean_over_seeds(cells, part, arm, "test_nats").mean
        if mean is not None:
            rows.append((arm_style(arm, cells)["label"], kind, mean, None))
    for name, label in COUNTED.items():
        if name in cells:
            rows.append((label, "reference", cells[name]["nats"], None))
    for share, (reported, on_text) in padding_by_share(cells).items():
        rows.append((f"padding counted, {share:.0%} of targets", "padding", reported, on_text))
    leak = mean_over_seeds(cells, "raw", "conv-leak", "test_nats").mean
    if leak is not None:
        rows.append((arm_style("conv-leak")["label"], "leak", leak, None))
    return rows


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
