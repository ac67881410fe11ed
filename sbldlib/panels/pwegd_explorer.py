"""A PWEGD by hand: sliders for its parameters, and at once its fit and the schedule it makes."""

from __future__ import annotations

import math

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..dropping.curves import VarianceCurve
from ..dropping.fits import PWEGDFit
from ..dropping.pwegd_fit import SCALE_RANGE, SHAPE_RANGE, fit_amplitude, fit_pwegd
from ..dropping.variance import CONSTANT, DIRECTIONS, FITTED, VarianceScheduler
from ..errors import check_range
from ..plots.variance import DIRECTION_LABEL, draw_exploration
from .explorer import Explorer, dropdown, slider

SIZE_INCHES = (6.0, 6.8)
START_SHAPE, START_SCALE = 2.0, 0.2  # a plain gamma with its peak early in the run
MAX_SAVING = 0.5


class PWEGDExplorer(Explorer):
    """Choose q, b and a_0..a_m by hand and compare with the least-squares fit.

    The height is always fitted: what is left to the hand is the shape.

    Attributes:
        shape, scale, coefficients, saving, direction: what is chosen with; `coefficients` is one
            slider a coefficient.
        take_fit: sets the parameters to the least-squares fit's.
        least_squares: the fit to compare with.
        by_hand: the PWEGD that is chosen now.
        scheduler: what it makes of the asked saving.
    """

    by_hand: PWEGDFit
    scheduler: VarianceScheduler

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
        self.shape = _log_slider("q, shape", START_SHAPE, lowest_shape, SHAPE_RANGE[1])
        self.scale = _log_slider("b, scale", START_SCALE, *SCALE_RANGE)
        self.coefficients = tuple(
            slider(widgets.FloatSlider, f"a_{j}", float(j == 0), 0.0, 1.0, step=0.01)
            for j in range(degree + 1)
        )
        self.saving = slider(widgets.FloatSlider, "asked saving", saving, 0.0, most, step=0.01)
        self.direction = dropdown("direction", DIRECTIONS, labels=DIRECTION_LABEL)
        self.take_fit = widgets.Button(
            description="Take the least-squares fit", layout={"width": "16em"}
        )
        self.take_fit.on_click(lambda _: self.set_to_fit())
        super().__init__(
            [self.shape, self.scale, *self.coefficients, self.saving, self.direction],
            buttons=[self.take_fit],
            size_inches=SIZE_INCHES,
        )

    def set_to_fit(self) -> None:
        """Set q, b and the coefficients to the least-squares fit's."""
        best = self.least_squares
        with self.hold():
            self.shape.value, self.scale.value = best.shape, best.scale
            for control, value in zip(self.coefficients, best.coefficients, strict=True):
                control.value = value

    def _draw(self, figure: Figure) -> str:
        self.by_hand = fit_amplitude(
            self._curve.progress,
            self._curve.variance,
            coefficients=[control.value for control in self.coefficients],
            shape=self.shape.value,
            scale=self.scale.value,
            window=self._curve.window,
        )
        self.scheduler = VarianceScheduler(
            saving=round(self.saving.value, 4),
            mean_keep_min=self._mean_keep_min,
            direction=str(self.direction.value),
            fit=self.by_hand,
            curve=self._curve,
            reason=FITTED if self.by_hand.carries_signal else CONSTANT,
        )
        draw_exploration(figure, self._curve, self.by_hand, self.least_squares, self.scheduler)
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


def _log_slider(name: str, value: float, low: float, high: float) -> widgets.FloatLogSlider:
    powers = math.log10(low), math.log10(high)
    return slider(
        widgets.FloatLogSlider, name, value, *powers, base=10, step=0.02, readout_format=".3g"
    )
