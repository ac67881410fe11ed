"""What the explorers of a finished measurement share: controls, a line of text, and a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
from IPython.display import Image, display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import printable
from ..plots.theme import themed
from .board import NARROW, announced

WIDTH_INCHES, HEIGHT_INCHES, DPI = 7.2, 3.6, 100
WIDTH_PIXELS = 720


class Explorer:
    """Controls whose every change draws anew, from data that are there already.

    A subclass sets its controls, calls this, and gives `_draw`.

    Attributes:
        line: what is seen, in words; or why a setting cannot be drawn.
        widget: all of it, to be displayed.
    """

    def __init__(self, controls: Sequence[Any]):
        self.line = widgets.HTML()
        self._image = widgets.Image(format="png", layout={"width": f"{WIDTH_PIXELS}px", **NARROW})
        self._figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI, layout="constrained")
        FigureCanvasAgg(self._figure)
        for control in controls:
            control.observe(self._follow, "value")
        wrapped = widgets.HBox(list(controls), layout={"flex_flow": "row wrap"})
        self.widget = widgets.VBox([wrapped, self.line, self._image])
        self._text = ""
        self._follow()

    def show(self) -> None:
        """Display controls, text and picture."""
        display(self.widget)

    def picture(self) -> Image:
        """The picture as it stands, for a page that no kernel serves."""
        return Image(data=bytes(self._image.value), width=WIDTH_PIXELS)

    @property
    def text(self) -> str:
        """What the panel says, in words."""
        return self._text

    def _draw(self, figure: Figure) -> str:
        """Draw on an empty figure what the controls say; returns it in words.

        Raises:
            ValueError: the setting cannot be drawn; the message is shown above the last picture.
        """
        raise NotImplementedError(f"{type(self).__name__} must draw")

    def _follow(self, _: Any = None) -> None:
        with themed():
            self._figure.clear()
            try:
                self._text = self._draw(self._figure)
            except ValueError as refusal:
                self._text = f"Not drawn: {refusal}."
            else:
                content = io.BytesIO()
                self._figure.savefig(content, format="png", dpi=DPI)
                self._image.value = content.getvalue()
        self.line.value = announced(self._text)


def slider(kind: Any, name: str, value: float, low: float, high: float, **others: Any) -> Any:
    """A slider that answers when it is let go, with room for its name.

    Args:
        kind: an ipywidgets class, such as `IntSlider`.
    """
    return kind(
        value=value, min=low, max=high, description=name, continuous_update=False, layout=NARROW,
        style={"description_width": "9em"}, **others,
    )  # fmt: skip


def dropdown(name: str, options: Sequence[str]) -> widgets.Dropdown:
    """A list to choose from, the first one chosen."""
    return widgets.Dropdown(
        options=[(printable(option), option) for option in options], value=options[0],
        description=name, layout=NARROW, style={"description_width": "9em"},
    )  # fmt: skip
