"""What the explorers of a finished measurement share: controls, a line of text, and a picture."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
from IPython.display import Image, display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import printable
from ..plots.theme import themed
from .theming import NARROW, dark_style, picture_image
from .words import announced

WIDTH_PIXELS = 720
SIZE_INCHES = (6.0, 3.0)  # 120 dots an inch: the theme's 11 points are still read at half width
_LABEL = {"description_width": "9em"}


class Explorer:
    """Controls whose every change draws anew, from data that are there already.

    A subclass sets its controls, calls this, and gives `_draw`.

    Attributes:
        line: what is seen, in words; or why a setting cannot be drawn.
        widget: all of it, to be displayed.
    """

    def __init__(
        self,
        controls: Sequence[Any],
        *,
        buttons: Sequence[Any] = (),
        size_inches: tuple[float, float] = SIZE_INCHES,
    ):
        """
        Args:
            controls: widgets with a value.
            buttons: shown behind the controls; each does its own.
            size_inches: width and height of the figure, which is 720 pixels wide whatever they
                are: the narrower, the larger its letters.

        Raises:
            ValueError: what the controls say at first cannot be drawn.
        """
        self.line = widgets.HTML()
        self._image = picture_image(WIDTH_PIXELS)
        dpi = WIDTH_PIXELS / size_inches[0]
        self._figure = Figure(figsize=size_inches, dpi=dpi, layout="constrained")
        FigureCanvasAgg(self._figure)
        wrapped = widgets.HBox([*controls, *buttons], layout={"flex_flow": "row wrap"})
        self.widget = widgets.VBox([dark_style(), wrapped, self.line, self._image])
        self._is_held, self._text = False, ""
        for control in controls:
            control.observe(self._follow, "value")
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

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Within it any controls may be set; at its end one picture is drawn for all of them."""
        was_held, self._is_held = self._is_held, True
        try:
            yield
        finally:
            self._is_held = was_held
            self._follow()

    def _draw(self, figure: Figure) -> str:
        """Draw on an empty figure what the controls say; returns it in words.

        It may set controls itself: they draw nothing more.

        Raises:
            ValueError: the setting cannot be drawn; the message is shown above the last picture.
        """
        raise NotImplementedError(f"{type(self).__name__} must draw")

    def _follow(self, _: Any = None) -> None:
        if self._is_held:
            return
        self._is_held = True
        try:
            self._show()
        finally:
            self._is_held = False
        self.line.value = announced(self._text)

    def _show(self) -> None:
        with themed():
            self._figure.clear()
            try:
                self._text = self._draw(self._figure)
            except ValueError as refusal:
                if not self._image.value:
                    raise  # there is no last picture to leave
                self._text = f"Not drawn: {refusal}."
            else:
                content = io.BytesIO()
                self._figure.savefig(content, format="png", dpi=self._figure.dpi)
                self._image.value = content.getvalue()


def slider(kind: Any, name: str, value: float, low: float, high: float, **others: Any) -> Any:
    """A slider that answers when it is let go, with room for its name.

    Args:
        kind: an ipywidgets class, such as `IntSlider`; of a `FloatLogSlider`, `low` and `high` are
            the powers.
    """
    return kind(
        value=value, min=low, max=high, description=name, continuous_update=False, layout=NARROW,
        style=_LABEL, **others,
    )  # fmt: skip


def dropdown(
    name: str,
    options: Sequence[str] = (),
    *,
    value: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> widgets.Dropdown:
    """A list to choose from.

    Args:
        value: what is chosen at first; the default is the first option.
        labels: option -> what the list calls it, where that is not its name.
    """
    control = widgets.Dropdown(description=name, layout=NARROW, style=_LABEL)
    offer(control, options, labels=labels)
    if value is not None:
        control.value = value
    return control


def offer(
    control: widgets.Dropdown, options: Sequence[str], *, labels: Mapping[str, str] | None = None
) -> None:
    """Let a list offer these; a choice that is among them stays, else the first is chosen."""
    labels = labels or {}
    named = tuple((labels.get(option) or printable(option), option) for option in options)
    if tuple(control.options) == named:
        return
    before = control.value
    control.options = named
    control.value = before if before in options else next(iter(options), None)


def show_only_where(control: Any, is_of_use: bool) -> None:
    """Hide a control, from readers by keyboard and screen readers too, where it is of no use."""
    control.layout.display = "" if is_of_use else "none"
