"""The lower part of the live picture: which layers ran, how often each runs now, and the mean.

Legend: C columns, L layers, S points of a schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..errors import printable
from ..plots.theme import BLUE, INK, ORANGE, RAN_OR_SKIPPED, SKY, literal
from ..records import SensitivityData
from .loss_axes import TEXT_SIZE, mark_lines, set_marks
from .thinned import ThinnedRun

BAR = 0.8  # width, in layers
UNIT_LETTERS = 22  # in a line as long as the axis
_SKIPPED, _RAN = RAN_OR_SKIPPED(np.array([0, 1]))
_SHARES = np.linspace(0, 1, 256)[:, None]
_COLOURS = np.round(255 * (_SKIPPED + _SHARES * (_RAN - _SKIPPED))).astype(np.uint8)  # [share, 4]


class RasterAxes:
    """Layers over steps: blue ran, pale was skipped, between them for a share of a column.

    Attributes:
        moving: what is drawn anew in every picture, in drawing order.
    """

    def __init__(self, axes: Axes, num_layers: int):
        self._axes, self._num_layers = axes, num_layers
        self._raster = axes.imshow(
            np.zeros((1, 1, 4), np.uint8), aspect="auto", origin="lower",
            interpolation="nearest", animated=True,
        )  # fmt: skip
        self._marks = mark_lines(axes)
        self.moving = (self._raster, self._marks)
        axes.set_title("Layers: blue ran, the rest was skipped")
        axes.set(xlabel="step", ylabel="layer", yticks=layer_ticks(num_layers, 4))
        axes.set_ylim(-0.5, num_layers - 0.5)
        axes.autoscale(False)  # or the raster's extent would move the axis

    def clear(self, right: float) -> None:
        """Begin anew, with nothing drawn, on an axis of so many steps."""
        self._raster.set_data(np.zeros((1, 1, 4), np.uint8))
        self._raster.set_extent((0, 1, -0.5, self._num_layers - 0.5))
        set_marks(self._marks, [])
        self._axes.set_xlim(0, right)

    def follow(self, run: ThinnedRun) -> bool:
        """Bring the raster up to the newest step; True where the axis grew."""
        self._raster.set_data(_COLOURS[run.ran])
        end = run.first_step + run.num_columns * run.stride
        self._raster.set_extent((run.first_step, end, -0.5, self._num_layers - 0.5))
        last = run.first_step + run.num_steps
        if last <= self._axes.get_xlim()[1]:
            return False
        self._axes.set_xlim(0, 2 * last)
        return True

    def mark(self, steps: Sequence[int]) -> None:
        """Draw a line at the start of each of these steps."""
        set_marks(self._marks, steps)


class KeepAxes:
    """Each layer's keep probability as it is now, its sensitivity over it, the block list hatched.

    Attributes:
        moving: what is drawn anew in every picture, in drawing order.
    """

    def __init__(self, axes: Axes, num_layers: int, sensitivity_data: SensitivityData | None):
        self._axes, self._num_layers = axes, num_layers
        layers_L = np.arange(num_layers)
        edges = np.stack([layers_L - BAR / 2, layers_L + BAR / 2], axis=1).ravel()
        none = np.full(2 * num_layers - 1, np.nan)
        shape: dict[str, Any] = {"edges": edges, "animated": True}
        self._bars = axes.stairs(none, fill=True, color=SKY, **shape)
        self._block = axes.stairs(none, fill=True, facecolor="none", **shape)
        self._block.set(hatch="////", edgecolor=INK, linewidth=0.8)
        self.moving: tuple[Any, ...] = (self._bars, self._block)
        axes.set_title("Keep probability now")
        axes.set(xlim=(-0.6, num_layers - 0.4), ylim=(0, 1.05), yticks=(0, 0.5, 1))
        axes.set(xlabel="layer (hatched: never dropped)", xticks=layer_ticks(num_layers, 8))
        if sensitivity_data is not None:
            self._add_sensitivities(sensitivity_data)

    def show(self, keep_probability: Sequence[float], block: Sequence[int]) -> None:
        """Set the bars, and which of them are hatched."""
        heights = np.full(2 * self._num_layers - 1, np.nan)
        heights[::2] = keep_probability
        self._bars.set_data(heights)
        is_free = np.ones(2 * self._num_layers - 1, bool)
        is_free[2 * np.asarray(block, int)] = False
        self._block.set_data(np.where(is_free, np.nan, heights))

    def _add_sensitivities(self, data: SensitivityData) -> None:
        beside = self._axes.twinx()
        (dots,) = beside.plot(
            range(self._num_layers), data.values, "D", color=ORANGE, markeredgecolor="white",
            markersize=6, animated=True,
        )  # fmt: skip
        low, high = min(0.0, *data.values), max(0.0, *data.values)
        room = 0.08 * ((high - low) or 1.0)
        beside.set_ylim(low - room if low < 0 else 0.0, high + room)
        beside.locator_params(axis="y", nbins=3)
        beside.ticklabel_format(axis="y", scilimits=(-2, 4), useMathText=True)
        beside.spines["right"].set_visible(True)
        lines = ["◆ sensitivity", *wrap(f"({printable(data.unit)})", UNIT_LETTERS)[:2]]
        beside.set_ylabel("\n".join(map(literal, lines)), fontsize=TEXT_SIZE)
        self._dots = dots
        self.moving = (*self.moving, dots)


class ScheduleAxes:
    """The mean keep probability over the run: planned where there is a plan, applied, and now.

    Attributes:
        moving: what is drawn anew in every picture, in drawing order.
    """

    def __init__(self, axes: Axes):
        self._axes, self._plan_S = axes, np.zeros(0)
        (self._plan,) = axes.plot([], [], color=INK, linestyle="--", linewidth=1.6)
        (self._applied,) = axes.plot([], [], color=BLUE, linewidth=2.2)
        (self._now,) = axes.plot([], [], color=ORANGE, linewidth=1.6)
        (self._dot,) = axes.plot([], [], "o", color=ORANGE, markeredgecolor="white", markersize=8)
        self._now.set_transform(axes.get_xaxis_transform())
        self.moving = (self._now, self._plan, self._applied, self._dot)
        for artist in self.moving:
            artist.set_animated(True)
        axes.set_title("Mean keep probability")
        axes.set(xlim=(0, 100), ylim=(0, 1.05), yticks=(0, 0.5, 1), xticks=(0, 50, 100))
        axes.set_xlabel("share of the run (%), ● now")
        handles = {"applied": self._applied, "planned": self._plan}
        self._legend = axes.legend(
            handles.values(), handles, loc="lower center", fontsize=TEXT_SIZE, ncols=2,
            borderaxespad=0.1, handlelength=1.6, columnspacing=1.2,
        )  # fmt: skip
        self._name_plan(False)

    def show_plan(self, mean_keep_S: np.ndarray | None) -> bool:
        """Set the plan for all of the run, at any number of even spaces; None where there is none.

        Returns whether the axes have to be drawn again.
        """
        planned = np.zeros(0) if mean_keep_S is None else np.asarray(mean_keep_S, float)
        had_plan, self._plan_S = len(self._plan_S) > 0, planned
        self._plan.set_data(np.linspace(0, 100, len(planned)), planned)
        if had_plan == (len(planned) > 0):
            return False
        self._name_plan(not had_plan)
        return True

    def follow(self, run: ThinnedRun) -> None:
        """Bring what was applied up to the newest step, and mark now."""
        percent_C, applied_C = 100 * run.last("progress"), run.last("mean_keep")
        self._applied.set_data(percent_C, applied_C)
        now = float(percent_C[-1]) if run.num_steps else 0.0
        if len(self._plan_S):
            percent_S = np.linspace(0, 100, len(self._plan_S))
            heights = [float(np.interp(now, percent_S, self._plan_S))]
        else:
            heights = [float(value) for value in applied_C[-1:]]
        self._now.set_data([now, now], [0, 1])
        self._dot.set_data([now] * len(heights), heights)

    def _name_plan(self, is_there: bool) -> None:
        for part in (self._legend.get_lines()[1], self._legend.get_texts()[1]):
            part.set_visible(is_there)


def layer_ticks(num_layers: int, most: int) -> range:
    """At most so many layers, evenly, to be named on an axis."""
    return range(0, num_layers, -(-num_layers // most))
