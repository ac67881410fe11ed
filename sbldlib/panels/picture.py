"""The live picture: losses, the layers that ran, how often each runs now, and the schedule.

Drawn with an Agg figure of its own, for pyplot is neither safe beside a thread nor free of leaks.
What stays (axes, labels) is drawn once and kept; a refresh draws a few lines, bars and one raster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import check_choice
from ..plots.theme import themed
from ..records import SensitivityData, StepRecord
from ..records.analysis import check_num_layers
from ..training.controls import LogEntry
from .layer_axes import KeepAxes, RasterAxes, ScheduleAxes
from .loss_axes import AGAINST, FIRST_STEPS, LossAxes
from .png import encode_png
from .thinned import ThinnedRun

WIDTH_INCHES, HEIGHT_INCHES, DPI = 6.4, 6.6, 120
WIDTH_PIXELS = 720  # as shown: a page has about 100 to the inch
# Left, bottom, width, height of each part, as shares of the figure.
TOP, MIDDLE = (0.09, 0.665, 0.875, 0.265), (0.09, 0.37, 0.875, 0.175)
BOTTOM_LEFT, BOTTOM_RIGHT = (0.09, 0.08, 0.315, 0.175), (0.63, 0.08, 0.335, 0.175)


class LivePicture:
    """A figure that grows with a run, or with two that race.

    Attributes:
        figure: holds the axes; `png` draws it.
    """

    def __init__(
        self,
        arms: Sequence[str],
        num_layers: int,
        num_steps: int | None,
        *,
        sensitivity_data: SensitivityData | None = None,
    ):
        """
        Args:
            arms: names, the lead's first: its steps, layers and changes are shown.
            num_layers: of the model.
            num_steps: of the whole run; None where it is not known, and the axes grow.
            sensitivity_data: shown with the keep probabilities; without it, they are alone.

        Raises:
            ValueError: the sensitivities are of another number of layers.
        """
        if sensitivity_data is not None:
            check_num_layers("sensitivity_data", sensitivity_data.num_layers, num_layers)
        self._num_steps, self._against = num_steps, "steps"
        self._runs = [ThinnedRun(0 if arm else num_layers) for arm in range(len(arms))]
        self._changes: list[LogEntry] = []
        self._background: Any = None
        with themed():
            self.figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI)
            self._canvas = FigureCanvasAgg(self.figure)
            places = (TOP, MIDDLE, BOTTOM_LEFT, BOTTOM_RIGHT)
            top, middle, left, right = (self.figure.add_axes(place) for place in places)
            self._losses = LossAxes(top, arms)
            self._raster = RasterAxes(middle, num_layers)
            self._keep = KeepAxes(left, num_layers, sensitivity_data)
            self._schedule = ScheduleAxes(right)
        self.clear()

    @property
    def against(self) -> str:
        """What the losses are drawn against: "steps", "flops" or "seconds", each arm's own sum."""
        return self._against

    @against.setter
    def against(self, wanted: str) -> None:
        wanted = check_choice("against", wanted, AGAINST)
        if wanted != self._against:
            self._against = wanted
            self._losses.clear(wanted, self._num_steps)
            self._background = None

    def add(
        self, arm: int, records: Iterable[StepRecord], changes: Sequence[LogEntry] = ()
    ) -> None:
        """Take in more steps of an arm.

        Args:
            arm: its place in `arms`.
            records: the steps that are new, in order.
            changes: the lead's whole control log so far; what is new in it is marked.
        """
        for record in records:
            self._runs[arm].add(record)
        if new := changes[len(self._changes) :]:
            self._changes.extend(new)
            self._background = None

    def show_keep(self, keep_probability: Sequence[float], block: Sequence[int] = ()) -> None:
        """Show what is in force now.

        Args:
            keep_probability: one a layer, in [0, 1].
            block: layers that are never dropped.
        """
        self._keep.show(keep_probability, block)

    def show_schedule(self, mean_keep_T: np.ndarray | None) -> None:
        """Show the mean keep probability planned over the whole run.

        Args:
            mean_keep_T: in [0, 1], at any number of points evenly over the run; None where there
                is no plan.
        """
        if self._schedule.show_plan(mean_keep_T):
            self._background = None

    def clear(self) -> None:
        """Forget all records and changes; what is added next is a new beginning."""
        for run in self._runs:
            run.clear()
        self._changes = []
        self._losses.clear(self._against, self._num_steps)
        self._raster.clear(self._num_steps or FIRST_STEPS)
        self._background = None

    def png(self) -> bytes:
        """The picture now."""
        if self._follow():
            self._background = None
        if self._background is None:
            with themed():
                self._place_marks()
                self._canvas.draw()
            self._background = self._canvas.copy_from_bbox(self.figure.bbox)
        self._canvas.restore_region(self._background)
        renderer = self._canvas.get_renderer()
        for part in (self._losses, self._raster, self._keep, self._schedule):
            for artist in part.moving:
                artist.draw(renderer)
        return encode_png(np.asarray(self._canvas.buffer_rgba()))

    def _follow(self) -> bool:
        """Bring all parts up to the newest step; True where axes moved."""
        lead = self._runs[0]
        self._schedule.follow(lead)
        moved = [False]
        if any(run.num_steps for run in self._runs):
            moved.append(self._losses.follow(self._runs, self._against, self._num_steps))
        if lead.num_steps:
            moved.append(self._raster.follow(lead))
        return any(moved)

    def _place_marks(self) -> None:
        """Where a control changed: at its step, and at the lead's loss at that step's start."""
        self._raster.mark([step for step, *_ in self._changes])
        self._losses.mark([(self._place(step), name, new) for step, name, _, new in self._changes])

    def _place(self, step: int) -> float:
        if self._against == "steps":
            return float(step)
        return self._runs[0].at_step(step, self._against)
