"""The top of the live picture: training losses against steps, FLOPs or seconds, and what changed.

Legend: C columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, ScalarFormatter

from ..errors import printable
from ..plots.theme import GREY, INK, ORANGE, arm_styles, literal
from .thinned import WINDOW, ThinnedRun

AGAINST = {"steps": "step", "flops": "FLOPs run", "seconds": "training time (s)"}
FIRST_STEPS = 100  # width of the axis where the run's length is not known
LETTER = 0.0145  # share of the axes' width that a letter of a label takes
MOST_LETTERS = 16  # of a label
BRIEFLY = {"learning_rate_scale": "LR ×", "steps_per_second": "steps/s", "method": "", "saving": ""}
NAME_CHARACTERS = 24  # of an arm in the legend
TEXT_SIZE = 10


class LossAxes:
    """Every step thin and the running mean thick, the arms told apart by colour and line.

    Attributes:
        moving: what is drawn anew in every picture, in drawing order.
        right: the end of the horizontal axis, in its unit; 0 before there is one.
    """

    def __init__(self, axes: Axes, arms: Sequence[str]):
        """
        Args:
            arms: their names, the lead's first: its steps are drawn one by one.
        """
        self._axes, self.right, self._labels = axes, 0.0, []
        (self._raw,) = axes.plot([], [], color=GREY, linewidth=0.8, animated=True)
        self._raw.set_label("every step")
        self._means = [
            axes.plot([], [], **style, label=f"{legend_name(name)}, mean of {WINDOW}")[0]
            for name, style in zip(arms, arm_styles(arms), strict=True)
        ]
        for line in self._means:
            line.set(linewidth=2.2, animated=True)
        self._marks = mark_lines(axes)
        self._marks.set(animated=False, zorder=1)  # below the legend; they come with new axes only
        self.moving = (self._raw, *self._means)  # a dashed rival shows above the lead
        axes.set_title("Training loss, nats per token", pad=18)
        axes.legend(
            handles=[*self._means, self._raw],
            loc="upper right",
            fontsize=TEXT_SIZE,
            frameon=True,
            framealpha=1.0,
            edgecolor="none",
        )
        self.clear("steps", None)

    def clear(self, against: str, num_steps: int | None) -> None:
        """Begin anew, with nothing drawn, on this horizontal axis."""
        for line in (*self.moving, self._marks):
            line.set_data([], [])
        self.right = float(num_steps or FIRST_STEPS) if against == "steps" else 0.0
        self._axes.set(xlim=(0, self.right or 1.0), ylim=(0, 1), xlabel=AGAINST[against])
        formatter = EngFormatter(sep="") if against == "flops" else ScalarFormatter()
        self._axes.xaxis.set_major_formatter(formatter)

    def follow(self, runs: Sequence[ThinnedRun], against: str, num_steps: int | None) -> bool:
        """Bring the lines up to the newest steps; True where the axes moved."""
        lead = runs[0]
        self._raw.set_data(np.repeat(lead.last(against), 2), lead.extremes.T.ravel())
        for line, run in zip(self._means, runs, strict=True):
            line.set_data(run.last(against), run.last("mean_loss"))
        return any([self._follow_right(runs, against, num_steps), self._follow_losses()])

    def mark(self, log: Sequence[tuple[float, str, Any]]) -> None:
        """Draw a line at each change, with labels above; close ones share a label.

        Args:
            log: (place on the horizontal axis, name of the control, its new value).
        """
        set_marks(self._marks, [place for place, _, _ in log])
        for label in self._labels:
            label.remove()
        width = self.right or 1.0
        grouped = share_labels([(place / width, name, new) for place, name, new in log])
        self._labels = [
            self._axes.annotate(
                text, (place, 1), xycoords="axes fraction", xytext=(0, 3),
                textcoords="offset points", ha="left" if place < 0.05 else "center",
                color=INK, fontsize=TEXT_SIZE,
            )
            for place, text in grouped
        ]  # fmt: skip

    def _follow_right(
        self, runs: Sequence[ThinnedRun], against: str, num_steps: int | None
    ) -> bool:
        """Make room for all of the run where its length is known, else for as much again."""
        ends = [(run.last(against)[-1], run.last("steps")[-1]) for run in runs if run.num_steps]
        farthest = max(end for end, _ in ends)
        wanted = 2 * farthest
        if num_steps is not None:
            wanted = max(end * max(1.0, num_steps / steps) for end, steps in ends)
        is_much_too_wide = num_steps is not None and self.right > 1.5 * wanted
        if farthest <= self.right and not is_much_too_wide:
            return False
        self.right = wanted
        self._axes.set_xlim(0, self.right or 1.0)
        return True

    def _follow_losses(self) -> bool:
        """Hold every loss, with room to fall into: every new scale has the axes drawn again."""
        drawn = [np.asarray(line.get_ydata()) for line in (self._raw, *self._means)]
        losses = np.concatenate(drawn)
        losses = losses[np.isfinite(losses)]
        low, high = self._axes.get_ylim()
        if not len(losses) or (low <= losses.min() and losses.max() <= high):
            return False
        lowest, highest = float(losses.min()), float(losses.max())
        room = max(0.25 * (highest - lowest), 0.2 * abs(highest))
        bottom = lowest - room
        self._axes.set_ylim(max(0.0, bottom) if lowest >= 0 else bottom, highest + 0.25 * room)
        return True


def legend_name(name: str) -> str:
    """An arm's name as it is, cut where the legend has no room for more."""
    plain = printable(name)
    return literal(plain if len(plain) <= NAME_CHARACTERS else f"{plain[:NAME_CHARACTERS]}…")


def mark_lines(axes: Axes) -> Any:
    """An empty line that `set_marks` fills: one artist, however many marks there are."""
    across = axes.get_xaxis_transform()
    (line,) = axes.plot([], [], color=ORANGE, ls="--", lw=1, transform=across, animated=True)
    return line


def set_marks(line: Any, places: Sequence[float]) -> None:
    """Upright lines at these places of the horizontal axis, over the axes' whole height."""
    line.set_data(np.repeat(places, 3), np.tile([0.0, 1.0, np.nan], len(places)))


def share_labels(changes: Sequence[tuple[float, str, Any]]) -> list[tuple[float, str]]:
    """Labels that do not overlap: two that would become one, in which the newest value counts.

    Args:
        changes: (place as share of the axis, name, new value), by place.
    """
    labels: list[tuple[float, dict[str, str]]] = []
    for place, name, new in changes:
        labels.append((place, {name: change_label(name, new)}))
        while len(labels) > 1 and _overlap(*labels[-2:]):
            (before, named), (after, added) = labels[-2:]
            labels[-2:] = [((before + after) / 2, {**named, **added})]
    return [(place, _joined(named)) for place, named in labels]


def change_label(name: str, new: Any) -> str:
    """A control's new value, short enough to stand above its line."""
    if name == "dropping":
        return "on" if new else "off"
    if name == "stop":
        return name
    value = f"{new:.2f}" if isinstance(new, float) else printable(str(new))
    text = f"{BRIEFLY.get(name, printable(name))} {value}".strip()
    return literal(text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…")


def _joined(named: Mapping[str, str]) -> str:
    text = ", ".join(named.values())
    return text if len(text) <= MOST_LETTERS or len(named) == 1 else f"{len(named)} changes"


def _overlap(
    first: tuple[float, Mapping[str, str]], second: tuple[float, Mapping[str, str]]
) -> bool:
    letters = (len(_joined(first[1])) + len(_joined(second[1]))) / 2 + 1
    return second[0] - first[0] < letters * LETTER
