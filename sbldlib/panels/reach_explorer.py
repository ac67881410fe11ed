"""How far back an untrained model looks, by kind, width and length: measured as you choose."""

from __future__ import annotations

import math
from dataclasses import replace

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure

from ..measure import Reach, measure_reach
from ..models.recurrent import KINDS, SequenceConfig, SequenceModel, same_budget
from ..plots.parallelism import KIND_LABEL
from ..plots.reach import plot_reach, variant_style
from ..plots.theme import GREY
from .explorer import Explorer, dropdown, show_only_where, slider
from .parallelism_explorer import BUDGET_LENGTH, choice_slider

SIZE_INCHES = (6.4, 3.6)
LENGTHS, WIDTHS = (16, 32, 64, 128, 256), (8, 16, 32, 64)
ROWS, VOCABULARY, SEED = 8, 17, 0
WINDOW_SHARE = 1e-3  # of the gradient at distance 0: what counts as being seen


class ReachExplorer(Explorer):
    """The gradient of the last output towards each earlier token, by kind and distance.

    Attributes:
        kind, length, width, distance, forget_bias, orthogonal: what is chosen with; width is
            attention's, and the other kinds are as wide as the same number of weights lets them
            be. The last two are shown where they are of use.
        reach: what was measured.
    """

    reach: Reach

    def __init__(self, *, kind: str = "rnn", length: int = 128, width: int = 32, distance: int = 1):
        """
        Args:
            kind: at first, one of KINDS.
            length: tokens at first, one of LENGTHS.
            width: at first, one of WIDTHS.
            distance: at first, in 1..length - 1.

        Raises:
            ValueError: an argument is none of these.
        """
        self.kind = dropdown("model", KINDS, value=kind, labels=KIND_LABEL)
        self.length = choice_slider("length", length, LENGTHS)
        self.width = choice_slider("width", width, WIDTHS)
        if not 1 <= distance < length:
            raise ValueError(f"distance={distance!r} must be in 1..{length - 1}, below the length")
        self.distance = slider(widgets.IntSlider, "distance", distance, 1, length - 1)
        self.forget_bias = slider(widgets.FloatSlider, "forget bias", 0.0, -1.0, 5.0, step=0.5)
        self.orthogonal = widgets.Checkbox(description="orthogonal start", value=False)
        self._measured: dict[SequenceConfig, Reach] = {}
        super().__init__(
            [self.kind, self.length, self.width, self.distance, self.forget_bias, self.orthogonal],
            size_inches=SIZE_INCHES,
        )

    def _draw(self, figure: Figure) -> str:
        kind, length = str(self.kind.value), int(self.length.value)
        show_only_where(self.forget_bias, kind == "lstm")
        show_only_where(self.orthogonal, kind == "rnn")
        self.distance.max = length - 1
        distance = int(self.distance.value)
        self.reach = self._reach(self._config(kind, length))
        ax = plot_reach(figure.subplots(), {kind: self.reach.relative})
        ax.axvline(distance, color=GREY, linewidth=1, linestyle="--")
        ax.axhline(WINDOW_SHARE, color=GREY, linewidth=1, linestyle=":")
        value = self.reach.relative[distance]
        style = {**variant_style(kind), "markersize": 8}
        ax.plot([distance], [value], **style)
        ax.set_title(f"{KIND_LABEL[kind]}, untrained, {length} tokens")
        return self._said(kind, distance, value)

    def _config(self, kind: str, length: int) -> SequenceConfig:
        base = SequenceConfig(
            kind="attention", vocabulary_size=VOCABULARY, context_length=BUDGET_LENGTH,
            width=int(self.width.value),
        )  # fmt: skip
        return replace(
            same_budget(base, tolerance=0.5)[kind],
            context_length=length,
            forget_bias=float(self.forget_bias.value) if kind == "lstm" else 1.0,
            orthogonal=bool(self.orthogonal.value) and kind == "rnn",
        )

    def _reach(self, config: SequenceConfig) -> Reach:
        if config not in self._measured:
            generator = torch.Generator().manual_seed(SEED)
            shape = (ROWS, config.context_length)
            tokens_BT = torch.randint(VOCABULARY, shape, generator=generator)
            self._measured[config] = measure_reach(SequenceModel(config, SEED), tokens_BT)
        return self._measured[config]

    def _said(self, kind: str, distance: int, value: float) -> str:
        window = self.reach.window(WINDOW_SHARE)
        said = (
            f"{KIND_LABEL[kind]}: at distance {distance} the gradient is {value:.2g} of that at "
            f"distance 0; it is {WINDOW_SHARE:g} of it or more up to distance {window}."
        )
        if kind == "convolution":
            ones = bin(distance).count("1")
            return f"{said} {distance} is {distance:b} in binary, with {ones} one(s)."
        if kind == "attention" or value <= 0:
            return said
        factor = value ** (1 / distance)
        half = "" if factor >= 1 else f", half is left after {math.log(0.5, factor):.1f}"
        return f"{said} That is a factor of {factor:.3f} a token{half}."
