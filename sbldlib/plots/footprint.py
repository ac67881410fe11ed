"""What a training step takes, drawn: memory by part, time by phase and kind, weights by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..measure.footprint import PARTS, Footprint
from ..measure.profile import StepProfile
from .theme import BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, literal

# Told apart without colour by their hatching.
FILLS = ((BLUE, ""), (ORANGE, "//"), (SKY, ".."), (GREEN, "\\\\"), (PINK, "xx"), (GREY, "--"))
UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
EMPTY = 1e-9  # of a bar; a part below it is not drawn, nor named


def plot_parts(ax: Axes, rows: Mapping[str, Mapping[str, float]]) -> Axes:
    """One bar a row, made up of its parts; a part has the same filling in every row.

    Args:
        rows: name of the row, from top to bottom -> part -> its length.
    """
    names = list(dict.fromkeys(part for parts in rows.values() for part in parts))
    left = np.zeros(len(rows))
    for name, (colour, hatch) in zip(names, cycle(FILLS), strict=False):
        widths = np.array([parts.get(name, 0.0) for parts in rows.values()])
        if widths.max() > EMPTY:
            ax.barh(
                range(len(rows)), widths, left=left, height=0.7, color=colour, hatch=hatch,
                edgecolor="white", linewidth=0.8, label=literal(name),
            )  # fmt: skip
        left = left + widths
    ax.set_yticks(range(len(rows)), labels=list(map(literal, rows)))
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    return ax


def plot_footprints(
    ax: Axes, footprints: Mapping[str, Footprint], *, capacity: float | None = None
) -> Axes:
    """Memory of a training step by part, one bar a way of training.

    Args:
        footprints: name -> what it takes.
        capacity: bytes that the device has, as a line; None for none.
    """
    most = max([each.total for each in footprints.values()] + [capacity or 0.0])
    size, unit = next((each for each in UNITS if most >= each[0]), UNITS[-1])
    rows = {
        name: {part: number / size for part, number in each.parts.items()}
        for name, each in footprints.items()
    }
    plot_parts(ax, rows)
    if capacity is not None:
        ax.axvline(capacity / size, color=INK, linestyle="--", linewidth=1.4, label="the device")
    ax.set(xlabel=f"memory of one step ({unit})", xlim=(0, 1.05 * most / size))
    return ax


def plot_shares(ax: Axes, shares: Mapping[str, float]) -> Axes:
    """One bar a part, from top to bottom, with its share in percent behind it.

    Args:
        shares: part -> its share, in [0, 1].
    """
    values = 100 * np.array(list(shares.values()))
    bars = ax.barh(range(len(shares)), values, height=0.7, color=BLUE)
    ax.bar_label(bars, fmt="%.0f %%", padding=3, color=INK)
    ax.set_yticks(range(len(shares)), labels=list(map(literal, shares)))
    ax.set(xlabel="share (%)", xlim=(0, 1.18 * values.max()))
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    return ax


def draw_profile(figure: Figure, measured: StepProfile) -> Sequence[Axes]:
    """Where a step's time went: by phase on the left, by kind of operator on the right."""
    left, right = figure.subplots(1, 2)
    plot_shares(left, measured.phase_shares()).set_title("By phase")
    plot_shares(right, measured.kind_shares()).set_title("By kind of operator")
    for ax in (left, right):
        ax.set_xlabel("share of a step's time (%)")
    return left, right


def draw_recipe(figure: Figure, chosen: str, ways: Mapping[str, Footprint], memory: float) -> None:
    """The ways to train one model on one batch, and which of them fit; the chosen one is marked.

    Args:
        chosen: one of `ways`.
        ways: name -> what it takes.
        memory: bytes that the device has.
    """
    ax = figure.subplots()
    marked = {f"▸ {name}" if name == chosen else name: each for name, each in ways.items()}
    plot_footprints(ax, marked, capacity=memory)
    for label in ax.get_yticklabels():
        label.set_fontweight("bold" if label.get_text().startswith("▸") else "normal")
    figure.legend(loc="outside lower center", ncols=min(3, len(PARTS)), frameon=False)
