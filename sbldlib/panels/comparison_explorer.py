"""A comparison's tables by choice: which budget, which result, held against which arm."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
from IPython.display import Image, display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..comparison import ComparisonSummary
from ..comparison.summary import UNRESOLVED, Difference
from ..errors import printable
from ..plots.comparison import differences, plot_differences
from ..plots.theme import themed
from .board import NARROW, announced

WIDTH_INCHES, HEIGHT_INCHES, DPI = 7.2, 5.4, 100
WIDTH_PIXELS = 720
TITLES = {"steps": "Equal steps", "flops": "Equal FLOPs", "seconds": "Equal seconds"}
RESULTS = {"validation_loss": "loss on new text", "accuracy": "exact answers"}


class ComparisonExplorer:
    """Every arm's paired difference to an arm of your choice, one table at a time.

    Attributes:
        table, metric, reference: what is chosen with.
        line: what the picture shows, in words.
        widget: all of it, to be displayed.
        differences: arm -> its difference to the reference, lowest first.
    """

    differences: dict[str, Difference]

    def __init__(self, summary: ComparisonSummary):
        """
        Args:
            summary: of a comparison; its first table is shown first.
        """
        self._summary = summary
        titles = [(TITLES[table["budget"]], table["budget"]) for table in summary.tables]
        self.table = widgets.Dropdown(options=titles, description="table", layout=NARROW)
        self.metric = widgets.Dropdown(description="result", layout=NARROW)
        self.reference = widgets.Dropdown(description="against", layout=NARROW)
        self.line = widgets.HTML()
        self._image = widgets.Image(format="png", layout={"width": f"{WIDTH_PIXELS}px", **NARROW})
        self._is_held = False
        wrap = {"flex_flow": "row wrap"}  # narrow windows get more rows
        controls = widgets.HBox([self.table, self.metric, self.reference], layout=wrap)
        self.widget = widgets.VBox([controls, self.line, self._image])
        self._follow()
        for control in (self.table, self.metric, self.reference):
            control.observe(self._follow, "value")

    def show(self) -> None:
        """Display choices, text and picture."""
        display(self.widget)

    def picture(self) -> Image:
        """The picture as it stands, for a page that no kernel serves."""
        return Image(data=bytes(self._image.value), width=WIDTH_PIXELS)

    @property
    def text(self) -> str:
        """What the picture shows, in words."""
        arms: dict[str, list[str]] = {"lower": [], "higher": [], UNRESOLVED: []}
        for arm, gap in self.differences.items():
            arms[gap.verdict].append(arm)
        said = "; ".join(
            f"{verdict}: {' · '.join(some) or 'none'}" for verdict, some in arms.items()
        )
        metric = str(self.metric.value)
        return (
            f"{TITLES[str(self.table.value)]}, {RESULTS.get(metric, metric)}, against "
            f"{self.reference.value}, {len(self._summary.seeds)} seed(s). Resolved {said}."
        )

    def _follow(self, _: Any = None) -> None:
        """Offer what the chosen table holds, and show what is chosen of it."""
        if self._is_held:
            return
        with self._held():
            self._offer()
        chosen = {"metric": str(self.metric.value), "reference": str(self.reference.value)}
        self.differences = differences(self._summary, str(self.table.value), **chosen)
        self._image.value = self._png(chosen)
        self.line.value = announced(self.text)

    def _offer(self) -> None:
        """The results and arms of the table; a choice that is still among them stays."""
        table = self._summary.table(str(self.table.value))
        results = {run for row in table["rows"] for run in row if f"{run}_difference" in row}
        ordered = [name for name in RESULTS if name in results]
        ordered += sorted(results.difference(RESULTS))
        _set_options(
            self.metric, [(RESULTS.get(name) or printable(name), name) for name in ordered]
        )
        arms = [row["arm"] for row in table["rows"] if self.metric.value in row]
        _set_options(self.reference, [(printable(arm), arm) for arm in arms])

    def _png(self, chosen: dict[str, str]) -> bytes:
        budget = str(self.table.value)
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        with themed():
            plot_differences(figure.subplots(), self._summary, budget, **chosen)
            figure.axes[0].set_title(TITLES[budget])
            content = io.BytesIO()
            figure.savefig(content, format="png", dpi=DPI)
        return content.getvalue()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """No picture for a change that is made here."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False


def _set_options(control: widgets.Dropdown, options: list[tuple[str, str]]) -> None:
    """Offer these; the first is chosen where the choice so far is gone."""
    if list(control.options) == options:
        return
    before, values = control.value, [value for _, value in options]
    control.options = options
    control.value = before if before in values else values[0]
