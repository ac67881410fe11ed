"""Pictures of the variance between baseline and dropping, its fit, and the schedule it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from ..dropping.schedules import Schedule, progress_grid
from .theme import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from ..dropping.pwegd_fit import PWEGDFit
    from ..dropping.variance import VarianceCurve


def plot_variance_fit(ax: Axes, curve: VarianceCurve, fit: PWEGDFit) -> Axes:
    """The measured variance with its bootstrap band, and the PWEGD fitted to it."""
    progress, variance = np.asarray(curve.progress), np.asarray(curve.variance)
    if curve.low is not None and curve.high is not None:
        band = f"{curve.confidence:.0%} band over {curve.num_pairs} pairs"
        ax.fill_between(progress, curve.low, curve.high, color=GREY, alpha=0.25, label=band)
    ax.plot(progress, variance, color=GREY, label="measured variance v(t)")
    label = f"PWEGD fit, R² = {fit.quality.r2:.2f}"
    ax.plot(progress, fit(progress), color=ORANGE, linestyle="--", label=label)
    ax.set(xlabel="progress of the run", ylabel="variance (nats/token)²")
    ax.set_ylim(bottom=0)
    ax.legend()
    return ax


def plot_schedule(ax: Axes, schedule: Schedule, *, label: str = "K(t)", **style) -> Axes:
    """Mean keep probability over the run."""
    progress = progress_grid(201)
    style = {"color": BLUE, **style}
    ax.plot(progress, [schedule(float(p)) for p in progress], label=label, **style)
    ax.set(xlabel="progress of the run", ylabel="mean keep probability", ylim=(0, 1.05))
    return ax
