"""Pictures of the variance between baseline and dropping, its fit, and the schedule it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..dropping.schedules import Schedule, progress_grid
from .axes import mark_mean, shared_legend
from .theme import BLUE, GREEN, GREY, INK, METHOD_STYLE, ORANGE, PINK, SKY, literal, method_style

if TYPE_CHECKING:
    from ..dropping.fit_band import FitBand
    from ..dropping.fits import PWEGDFit
    from ..dropping.pwegd import PWEGD
    from ..dropping.variance import VarianceCurve, VarianceScheduler

PROGRESS_LABEL = "progress of the run"
VARIANCE_UNIT = "(nats/token)²"
VARIANCE_LABEL = f"variance {VARIANCE_UNIT}"
FIT_STYLE: dict[str, dict[str, Any]] = {
    "PWEGD": {"color": ORANGE, "linestyle": "--"},
    "by hand": {"color": ORANGE, "linestyle": "--"},
    "least squares": {"color": BLUE, "linestyle": ":"},
    "gamma": {"color": GREEN, "linestyle": ":"},
    "log_normal": {"color": PINK, "linestyle": "-."},
    "exponential": {"color": SKY, "linestyle": (0, (6, 2))},
    "polynomial": {"color": BLUE, "linestyle": (0, (3, 1, 1, 1))},
    "constant": {"color": INK, "linestyle": (0, (1, 3))},
}
DIRECTION_LABEL = {
    "drop_least_where_variance_is_high": "least where variance is high",
    "drop_most_where_variance_is_high": "most where variance is high",
}
_OTHER_STYLES: tuple[dict[str, Any], ...] = (  # of methods without a look of their own
    {"color": PINK, "linestyle": "-."},
    {"color": GREEN, "linestyle": (0, (6, 2))},
    {"color": SKY, "linestyle": "-"},
    {"color": INK, "linestyle": (0, (1, 1))},
)
_DIRECTION_STYLE = ({"color": BLUE, "linestyle": "-"}, {"color": ORANGE, "linestyle": "--"})


def plot_variance(ax: Axes, curve: VarianceCurve, *, label: str = "measured variance v(t)") -> Axes:
    """The measured variance with its bootstrap band, where it has one."""
    progress = np.asarray(curve.progress)
    if curve.low is not None and curve.high is not None:
        band = f"{curve.confidence:.0%} band over {curve.num_pairs} pairs"
        ax.fill_between(progress, curve.low, curve.high, color=GREY, alpha=0.25, label=band)
    ax.plot(progress, curve.variance, color=GREY, label=label)
    return _label(ax, VARIANCE_LABEL)


def plot_variance_fit(
    ax: Axes, curve: VarianceCurve, fit: PWEGDFit, *, band: FitBand | None = None
) -> Axes:
    """The measured variance with its bootstrap band, and the PWEGD fitted to it.

    Args:
        band: the fit's own band; with it, a bar shows between which places the peak lies.
    """
    plot_variance(ax, curve)
    progress = np.asarray(curve.progress)
    label = f"PWEGD fit, R² = {fit.quality.r2:.2f}"
    ax.plot(progress, fit(progress), label=label, **FIT_STYLE["PWEGD"])
    if band is not None and band.low is not None and band.high is not None:
        around = {"color": ORANGE, "alpha": 0.2, "label": "band of the fit"}
        ax.fill_between(band.progress, band.low, band.high, **around)
        low, high = band.peak_range
        ax.errorbar(
            [fit.peak], [fit.amplitude], xerr=[[max(0, fit.peak - low)], [max(0, high - fit.peak)]],
            color=INK, marker="o", markersize=5, capsize=4, linestyle="none", label="its peak",
        )  # fmt: skip
    ax.legend()
    return ax


def plot_null(ax: Axes, curve: VarianceCurve, null: VarianceCurve) -> Axes:
    """The variance of pairs beside that of runs that are no pairs, on a logarithmic axis."""
    ax.plot(curve.progress, curve.variance, color=BLUE, label="dropping against its own baseline")
    style: dict[str, Any] = {"color": INK, "linestyle": (0, (1, 1))}
    ax.plot(null.progress, null.variance, label="full depth, another seed: the null", **style)
    ax.set(xlabel=PROGRESS_LABEL, ylabel=VARIANCE_LABEL, yscale="log")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return ax


def plot_rivals(
    ax: Axes, curve: VarianceCurve, fit: PWEGDFit, rivals: Mapping[str, np.ndarray]
) -> Axes:
    """The fit beside simpler curves fitted to the same points.

    Args:
        rivals: name -> values at the curve's points, as of `fit_rivals`.
    """
    progress = np.asarray(curve.progress)
    ax.plot(progress, curve.variance, color=GREY, alpha=0.6, linewidth=3, label="measured")
    curves = {"PWEGD": (fit(progress), fit.quality)}
    curves |= {name: (values, fit.rivals[name]) for name, values in rivals.items()}
    for name, (values, quality) in curves.items():
        label = f"{name.replace('_', '-')}, R² {quality.r2:.2f}"
        ax.plot(progress, values, label=label, **FIT_STYLE[name])
    _label(ax, VARIANCE_LABEL)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return ax


def plot_residuals(ax: Axes, curve: VarianceCurve, fitted: Mapping[str, np.ndarray]) -> Axes:
    """Measured less fitted variance: what a curve has missed, and where.

    Args:
        fitted: a key of `FIT_STYLE` -> values at the curve's points.
    """
    ax.axhline(0, color=GREY, linewidth=1)
    for name, values in fitted.items():
        residual = np.asarray(curve.variance) - values
        ax.plot(curve.progress, residual, label=name.replace("_", "-"), **FIT_STYLE[name])
    ax.set(xlabel=PROGRESS_LABEL, ylabel="measured less fitted\n(nats/token)²")
    ax.legend()
    return ax


def plot_density(ax: Axes, density: PWEGD, *, run: tuple[float, float] | None = None) -> Axes:
    """A PWEGD, and the gamma densities that it is a mixture of.

    Args:
        run: where the training run begins and ends on the axis of x.
    """
    x = _axis_of(density, run)
    for j, weight in enumerate(density.weights):
        if weight > 0:
            values = weight * density.component(j).pdf(x)
            style: dict[str, Any] = {"linewidth": 1.2, "linestyle": ("-.", ":", (0, (6, 2)))[j % 3]}
            label = f"{weight:.0%} gamma of shape {density.shape + j:.2f}"
            ax.plot(x, values, color=(GREEN, PINK, SKY)[j % 3], label=label, **style)
    ax.plot(x, density.pdf(x), label="their sum, the PWEGD", color=ORANGE, linestyle="--")
    _mark_run(ax, run)
    shown = density.pdf(x if run is None else x[x >= run[0]])
    ax.set(xlabel="x" if run is None else "x, the progress shifted", ylabel="density")
    ax.set_ylim(0, 1.6 * shown.max())  # a pole before the run would hide the rest
    ax.legend(fontsize="small", loc="upper right")
    return ax


def plot_cumulative(ax: Axes, density: PWEGD, *, run: tuple[float, float] | None = None) -> Axes:
    """The share of a PWEGD that lies below x; `run` as in `plot_density`."""
    x = _axis_of(density, run)
    ax.plot(x, density.cdf(x), color=ORANGE, linestyle="--")
    _mark_run(ax, run)
    ax.set(xlabel="x" if run is None else "x, the progress shifted", ylabel="share below x")
    ax.set_ylim(0, 1.02)
    return ax


def plot_schedule(ax: Axes, schedule: Schedule, *, label: str = "K(t)", **style) -> Axes:
    """Mean keep probability over the run."""
    progress = progress_grid(201)
    style = {"color": BLUE, **style}
    ax.plot(progress, [schedule(float(p)) for p in progress], label=label, **style)
    ax.set(xlabel=PROGRESS_LABEL, ylabel="mean keep probability", ylim=(0, 1.05))
    return ax


def plot_schedules(ax: Axes, schedules: Mapping[str, Schedule], *, saving: float) -> Axes:
    """Schedules of several methods, and the mean over the run that they were asked for.

    Args:
        schedules: method name -> progress to mean keep probability; styled by the name.
        saving: the mean drop.
    """
    others = iter(_OTHER_STYLES)
    for name, schedule in schedules.items():
        style = method_style(name) if name in METHOD_STYLE else next(others, {})
        plot_schedule(ax, schedule, label=literal(name), **style)
    return _mark_mean(ax, saving)


def plot_directions(ax: Axes, *schedulers: VarianceScheduler) -> Axes:
    """One scheduler, or both directions of it, and the mean over the run that they share."""
    for scheduler, style in zip(schedulers, _DIRECTION_STYLE, strict=False):
        plot_schedule(ax, scheduler, label=DIRECTION_LABEL[scheduler.direction], **style)
    return _mark_mean(ax, schedulers[0].saving)


def draw_exploration(
    figure: Figure,
    curve: VarianceCurve,
    by_hand: PWEGDFit,
    least_squares: PWEGDFit,
    scheduler: VarianceScheduler,
) -> None:
    """A PWEGD chosen by hand: its curve, residuals, density and cdf, and the schedule it makes.

    One legend stands above them all: a style means the same in each.
    """
    figure.clear()
    axes = figure.subplot_mosaic(
        [["fit", "residuals"], ["density", "cdf"], ["keep", "keep"]], height_ratios=(1, 1, 0.8)
    )
    progress = np.asarray(curve.progress)
    fitted = {"by hand": by_hand(progress), "least squares": least_squares(progress)}
    axes["fit"].plot(progress, curve.variance, color=GREY, label="measured")
    for name, values in fitted.items():
        axes["fit"].plot(progress, values, label=name, **FIT_STYLE[name])
    _label(axes["fit"], VARIANCE_UNIT)
    plot_residuals(axes["residuals"], curve, fitted).set_ylabel(VARIANCE_UNIT)
    run = (by_hand.shift, 1 + by_hand.shift)
    plot_density(axes["density"], by_hand.distribution, run=run)
    plot_cumulative(axes["cdf"], by_hand.distribution, run=run)
    for name in ("density", "cdf"):
        axes[name].set_xlabel("x (grey: the run)")
    plot_schedule(axes["keep"], scheduler).set_ylabel("K(t)")
    mark_mean(axes["keep"], 1 - scheduler.saving)
    shared_legend(figure, axes["fit"], axes["residuals"])
    _name_parts(axes["density"], by_hand.distribution)
    titles = {"fit": "Variance", "residuals": "Measured less fitted"}
    titles |= {"density": "Density (pdf) by hand", "cdf": "Its cdf"}
    titles |= {"keep": "Mean keep probability K(t)"}
    for name, title in titles.items():
        axes[name].set_title(title)


def _name_parts(ax: Axes, density: PWEGD) -> None:
    """A short legend: the gamma densities by weight and shape."""
    parts = [(j, weight) for j, weight in enumerate(density.weights) if weight > 0]
    names = [f"{weight:.0%}, shape {density.shape + j:.3g}" for j, weight in parts]
    ax.legend(ax.get_lines()[: len(parts)], names, fontsize="small", loc="upper right")


def _axis_of(density: PWEGD, run: tuple[float, float] | None) -> np.ndarray:
    """From near 0, where there may be a pole, to a little beyond the run or nearly all of it."""
    return np.linspace(0.004, float(density.ppf(0.995)) if run is None else run[1] + 0.25, 300)


def _mark_run(ax: Axes, run: tuple[float, float] | None) -> None:
    if run is not None:
        ax.axvspan(*run, color=GREY, alpha=0.12, linewidth=0, label="the run")


def _mark_mean(ax: Axes, saving: float) -> Axes:
    ax.axhline(1 - saving, color=GREY, linewidth=1, linestyle=":", label=f"mean {1 - saving:.2f}")
    ax.legend(loc="lower right")
    return ax


def _label(ax: Axes, ylabel: str) -> Axes:
    ax.set(xlabel=PROGRESS_LABEL, ylabel=ylabel)
    ax.set_ylim(bottom=0)
    return ax
