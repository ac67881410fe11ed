"""Are the widgets alive on this page? A slider to move, and an echo that needs no hand."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
from IPython.display import display

from .words import announced

SENT = 1


class WidgetSelfTest:
    """A slider with a line of text that follows it, and a number that the browser sends back.

    Attributes:
        slider, text: what the reader moves, and what must follow.
        browser_answered: whether the number came back; it comes after the cell has ended.
    """

    def __init__(self) -> None:
        self.slider = widgets.IntSlider(value=5, min=0, max=10, description="Move me")
        self.text = widgets.HTML()
        self.browser_answered = False
        self._sent, self._echo = widgets.IntText(value=SENT), widgets.IntText()
        # This link lives in the browser: the echo takes the sent value where a browser is, alone.
        self._link = widgets.jslink((self._sent, "value"), (self._echo, "value"))
        self.slider.observe(self._follow, "value")
        self._echo.observe(self._heard, "value")
        self._follow()

    def show(self) -> None:
        """Display slider and text."""
        display(widgets.VBox([self.slider, self.text]))

    def responds(self) -> bool:
        """Whether the kernel's half works: the text follows a value set in Python."""
        before = self.slider.value
        self.slider.value = other = before - 1 if before == self.slider.max else before + 1
        followed = f"at {other}." in self.text.value
        self.slider.value = before
        return followed and f"at {before}." in self.text.value

    def _follow(self, _: Any = None) -> None:
        answer = " The browser answers: panels are live here." if self.browser_answered else ""
        line = f"Python sees the slider at {self.slider.value}.{answer}"
        self.text.value = announced(line)

    def _heard(self, change: dict[str, Any]) -> None:
        self.browser_answered = change["new"] == SENT
        self._follow()
