"""How the arms of the GPT variants' comparison look, and the suspects of a low loss in words."""

from __future__ import annotations

from typing import Any

from ..comparison.cells import Cells, kind_of, mean_over_seeds, of_arm, padding_by_share
from ..models.recurrent import KINDS
from .parallelism import kind_style
from .theme import BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, literal

# Kind of arm -> colour, line, marker, and what a legend calls it.
ARM_STYLE = {
    "gpt": (INK, "-", "o", "GPT"),
    "gpt-short": (GREY, "--", "s", "GPT, {} tokens of context"),
    "gpt-shallow": (GREY, "-.", "h", "GPT, half the layers"),
    "gpt-outer": (GREY, "-", "d", "GPT, the outer level alone"),
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
    if arm in KINDS:
        return kind_style(arm)
    plain = (GREY, "-", "o", literal(arm))
    colour, line, marker, label = ARM_STYLE.get(kind_of(arm), plain)
    if arm.endswith("-ahead"):
        ahead = of_arm(cells or {}, "raw", "conv-ahead").values()
        label = label.format(next((cell["offset"] for cell in ahead), "further"))
    if arm != kind_of(arm):
        label = label.format(arm.removeprefix("gpt-"))
    return {"color": colour, "linestyle": line, "marker": marker, "markersize": 5, "label": label}


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
