"""Fill a hole by hand: type a text with [MASK], see what BERT and what GPT would put there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..errors import check_callable, printable
from ..plots.filling import plot_guesses
from .explorer import Explorer, slider
from .theming import NARROW

MASK_TEXT = "[MASK]"
MAX_CHARACTERS = 2000
MOST_SHOWN = 10
Guesses = Sequence[tuple[str, float]]


class Filled(NamedTuple):
    """What both models put into a hole, likeliest first, as (text, probability).

    Attributes:
        bert: with both sides in view.
        gpt: with what stands before the hole; empty where nothing does.
    """

    bert: Guesses
    gpt: Guesses


class FillExplorer(Explorer):
    """BERT's and GPT's likeliest tokens for the hole in a typed text.

    Attributes:
        text_field: the text with one [MASK].
        shown: how many tokens are drawn of each.
        filled: what both say.
    """

    def __init__(self, fill: Callable[[str, int], Filled], *, text: str):
        """
        Args:
            fill: gives both models' guesses for a text and a number of them; a ValueError that it
                raises is shown in words.
            text: what is shown at first, with one [MASK].

        Raises:
            ValueError: the first text cannot be filled.
        """
        self._fill = check_callable("fill", fill, "a function of a text and a number of guesses")
        self.text_field = widgets.Text(
            value=text, description="text", continuous_update=False,
            layout={**NARROW, "width": "40em"}, style={"description_width": "4em"},
        )  # fmt: skip
        self.shown = slider(widgets.IntSlider, "shown", 5, 1, MOST_SHOWN)
        self.filled = Filled(bert=(), gpt=())
        super().__init__([self.text_field, self.shown], size_inches=(6.6, 3.4))

    def _draw(self, figure: Figure) -> str:
        text = str(self.text_field.value)
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"the text has {len(text)} characters; {MAX_CHARACTERS} are the most")
        if (holes := text.count(MASK_TEXT)) != 1:
            raise ValueError(f"the text has {holes} {MASK_TEXT}; write it once, where the hole is")
        self.filled = self._fill(text, int(self.shown.value))
        sides = figure.subplots(1, 2, sharex=True)
        for ax, name, guesses, title in zip(
            sides,
            ("BERT", "GPT"),
            self.filled,
            ("BERT, from both sides", "GPT, from the left"),
            strict=True,
        ):
            plot_guesses(ax, guesses, name=name).set_title(title)
        return f"{_said('BERT', self.filled.bert)} {_said('GPT', self.filled.gpt)}"


def _said(name: str, guesses: Guesses) -> str:
    if not guesses:
        return f"{name} has nothing to go by: nothing stands before the hole."
    named = ", ".join(f"{printable(repr(text))} {share:.2f}" for text, share in guesses[:3])
    return f"{name} says {named}."
