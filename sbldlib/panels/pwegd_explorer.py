"""A PWEGD by hand: sliders for its parameters, and at once its fit and the schedule it makes."""

from __future__ import annotations

import io
import math
from typing import Any

import ipywidgets as widgets
from IPython.display import Image, display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..dropping.curves import VarianceCurve
from ..dropping.fits import PWEGDFit
from ..dropping.pwegd_fit import SCALE_RANGE, SHAPE_RANGE, fit_amplitude, fit_pwegd
from ..dropping.variance import CONSTANT, DIRECTIONS, FITTED, LEAST_WHERE_HIGH, VarianceScheduler
from ..errors import check_range
from ..plots.theme import themed
from ..plots.variance import draw_exploration
from .board import NARROW, announced

WIDTH_INCHES, HEIGHT_INCHES, DPI = 7.2, 7.6, 100
WIDTH_PIXELS = 720
START_SHAPE, START_SCALE = 2.0, 0.2  # a plain gamma with its peak early in the run
MAX_SAVING = 0.5
_LABEL = {"description_width": "9em"}


class PWEGDExplorer:
    """Choose q, b and a_0..a_m by hand and compare with the least-squares fit.

    The height is always fitted: what is left to the hand is the shape.

    Attributes:
        shape, scale, coefficients, saving, direction: what is chosen with; `coefficients` is one
            slider a coefficient.
        take_fit: sets the parameters to the least-squares fit's.
        line: what came of it, in words.
        widget: all of it, to be displayed.
        least_squares: the fit to compare with.
        by_hand: the PWEGD that is chosen now.
        scheduler: what it makes of the asked saving.
    """

    def __init__(
        self,
        curve: VarianceCurve,
        *,
        saving: float = 0.25,
        mean_keep_min: float = 0.1,
        degree: int = 2,
    ):
        """
        Args:
            curve: the measured variance.
            saving: mean drop at first, in [0, 0.5] and not above 1 - mean_keep_min.
            mean_keep_min: the lowest mean keep probability, in (0, 1].
            degree: m, the highest power in the polynomial, >= 0.

        Raises:
            ValueError: an argument is outside its range, or the curve is degenerate.
        """
        self._curve, self._mean_keep_min = curve, mean_keep_min
        self.least_squares: PWEGDFit = fit_pwegd(
            curve.progress, curve.variance, degree=degree, window=curve.window
        )
        check_range("mean_keep_min", mean_keep_min, 0, 1, low_open=True)
        most = min(MAX_SAVING, 1 - mean_keep_min)
        check_range("saving", saving, 0, most)
        lowest_shape = SHAPE_RANGE[0] if self.least_squares.shift > 0 else 1.0  # no pole at x = 0
        self.shape = _log_slider("q, shape", START_SHAPE, (lowest_shape, SHAPE_RANGE[1]))
        self.scale = _log_slider("b, scale", START_SCALE, SCALE_RANGE)
        self.coefficients = tuple(
            _slider(f"a_{j}", float(j == 0), 1.0, 0.01) for j in range(degree + 1)
        )
        self.saving = _slider("asked saving", saving, most, 0.01)
        self.direction = widgets.Dropdown(
            options=DIRECTIONS, value=LEAST_WHERE_HIGH, description="direction", layout=NARROW,
            style=_LABEL,
        )  # fmt: skip
        self.take_fit = widgets.Button(
            description="Take the least-squares fit", layout={"width": "16em"}
        )
        self.line = widgets.HTML()
        self._image = widgets.Image(format="png", layout={"width": f"{WIDTH_PIXELS}px", **NARROW})
        self._is_held = False
        self._figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI, layout="constrained")
        FigureCanvasAgg(self._figure)
        controls = [self.shape, self.scale, *self.coefficients, self.saving, self.direction]
        for control in controls:
            control.observe(self._follow, "value")
        self.take_fit.on_click(lambda _: self.set_to_fit())
        wrap = {"flex_flow": "row wrap"}  # narrow windows get more rows
        self.widget = widgets.VBox(
            [widgets.HBox([*controls, self.take_fit], layout=wrap), self.line, self._image]
        )
        self._follow()

    def show(self) -> None:
        """Display sliders, text and picture."""
        display(self.widget)

    def picture(self) -> Image:
        """The picture as it stands, for a page that no kernel serves."""
        return Image(data=bytes(self._image.value), width=WIDTH_PIXELS)

    def set_to_fit(self) -> None:
        """Set q, b and the coefficients to the least-squares fit's."""
        self._is_held = True  # one picture, not one a slider
        try:
            self.shape.value = self.least_squares.shape
            self.scale.value = self.least_squares.scale
            for slider, value in zip(
                self.coefficients, self.least_squares.coefficients, strict=True
            ):
                slider.value = value
        finally:
            self._is_held = False
        self._follow()

    @property
    def text(self) -> str:
        """What the panel says, in words."""
        hand, best = self.by_hand.quality, self.least_squares.quality
        keep = self.scheduler.tabulate(201)
        flat = (
            "" if self.scheduler.reason == FITTED else ", no better than a constant, so it is one"
        )
        return (
            f"By hand: R² {hand.r2:.2f}, RMSE {hand.rmse:.3g}. Least squares: R² {best.r2:.2f}, "
            f"RMSE {best.rmse:.3g} (nats/token)². K(t) {keep.min():.2f} to {keep.max():.2f}, mean "
            f"{keep.mean():.2f}{flat}."
        )

    def _follow(self, _: Any = None) -> None:
        """Take the values as they are now, and show what they make."""
        if self._is_held:
            return
        try:
            self.by_hand = fit_amplitude(
                self._curve.progress,
                self._curve.variance,
                coefficients=[slider.value for slider in self.coefficients],
                shape=self.shape.value,
                scale=self.scale.value,
                window=self._curve.window,
            )
        except ValueError as error:
            self._say(f"Not drawn: {error}.")
            return
        self.scheduler = VarianceScheduler(
            saving=round(self.saving.value, 4),
            mean_keep_min=self._mean_keep_min,
            direction=str(self.direction.value),
            fit=self.by_hand,
            curve=self._curve,
            reason=FITTED if self.by_hand.carries_signal else CONSTANT,
        )
        self._image.value = self._png()
        self._say(self.text)

    def _png(self) -> bytes:
        with themed():
            draw_exploration(
                self._figure, self._curve, self.by_hand, self.least_squares, self.scheduler
            )
            content = io.BytesIO()
            self._figure.savefig(content, format="png", dpi=DPI)
        return content.getvalue()

    def _say(self, text: str) -> None:
        self.line.value = announced(text)


def _slider(name: str, value: float, most: float, step: float) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        value=value, min=0.0, max=most, step=step, description=name, readout_format=".2f",
        continuous_update=False, layout=NARROW, style=_LABEL,
    )  # fmt: skip


def _log_slider(name: str, value: float, ends: tuple[float, float]) -> widgets.FloatLogSlider:
    low, high = (math.log10(end) for end in ends)
    return widgets.FloatLogSlider(
        value=value, base=10, min=low, max=high, step=0.02, description=name, readout_format=".3g",
        continuous_update=False, layout=NARROW, style=_LABEL,
    )  # fmt: skip
