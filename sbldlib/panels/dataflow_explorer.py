"""A translation as an animation: what flows where, step by step, in a model that is there."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..errors import check_callable
from ..plots.dataflow import draw_flow_step, flow_in_words
from ..translation.dataflow import DataFlow
from .explorer import Explorer, slider
from .theming import NARROW

SIZE_INCHES = (7.2, 4.8)
MILLISECONDS = 900  # a frame: as long as its sentence takes to read
_LABEL = {"description_width": "9em"}


class DataFlowExplorer(Explorer):
    """A sentence to type, a slider over the steps, and a button that plays them.

    Attributes:
        sentence, step, play: what is chosen with; `play` moves `step`.
        flow: of the sentence.
    """

    flow: DataFlow

    def __init__(self, trace: Callable[[str], DataFlow], *, sentence: str):
        """
        Args:
            trace: gives the flow of a sentence; a ValueError that it raises is shown in words.
            sentence: what is shown at first.

        Raises:
            ValueError: the first sentence cannot be traced.
        """
        self._trace = check_callable("trace", trace, "a function from a sentence to its DataFlow")
        self._traced: str | None = None
        self.sentence = widgets.Text(
            value=sentence, description="sentence", continuous_update=False, layout=NARROW,
            style=_LABEL,
        )  # fmt: skip
        self.step = slider(widgets.IntSlider, "step", 1, 1, 1)
        self.play = widgets.Play(value=1, min=1, max=1, interval=MILLISECONDS)
        self._link = widgets.link((self.play, "value"), (self.step, "value"))
        super().__init__([self.sentence, self.step], buttons=[self.play], size_inches=SIZE_INCHES)

    def _draw(self, figure: Figure) -> str:
        sentence = str(self.sentence.value)
        if not sentence.strip():
            raise ValueError("the sentence is empty; type at least one word")
        if sentence != self._traced:
            self.flow = self._trace(sentence)
            self._traced = sentence
            self.step.max = self.play.max = len(self.flow.steps)
        place = int(self.step.value) - 1
        draw_flow_step(figure, self.flow, place)
        return flow_in_words(self.flow, place)
