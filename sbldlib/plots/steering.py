"""Pictures of a run whose dropping was steered: what a layer costs, what its absence does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..records import StepRecord
from .theme import BLUE, GREY, INK, ORANGE, literal


def plot_step_seconds(
    ax: Axes, steps: Sequence[StepRecord], num_layers: int, line: tuple[float, float]
) -> Axes:
    """Each step's time against the number of layers that ran, their medians, and a straight line.

    Args:
        line: seconds of a step outside the layers, and of one layer.
    """
    depths = np.array([len(step.layers_run) for step in steps])
    milliseconds = 1000 * np.array([step.seconds for step in steps])
    outside, layer = 1000 * line[0], 1000 * line[1]
    medians = pd.Series(milliseconds).groupby(depths).median()
    ax.scatter(depths, milliseconds, s=8, color=GREY, label="one step")
    ax.plot(medians.index, medians, "o", color=ORANGE, label="median")
    ends = np.array([0, num_layers])
    label = f"{outside:.1f} ms + {layer:.2f} ms a layer"
    ax.plot(ends, outside + layer * ends, color=BLUE, label=label)
    ax.set(xlabel="layers that ran", ylabel="milliseconds a step", xlim=(-0.3, num_layers + 0.3))
    ax.set_ylim(0, 3 * float(np.median(milliseconds)))  # a few slow steps must not hide the rest
    ax.legend(loc="upper left")
    return ax


def excess_loss(steps: Sequence[StepRecord], window: int = 9) -> np.ndarray:
    """Each step's training loss above the median of the steps around it, nats per token."""
    losses = pd.Series([step.loss_nats for step in steps])
    return (losses - losses.rolling(window, center=True, min_periods=1).median()).to_numpy()


def excess_without(steps: Sequence[StepRecord], num_layers: int) -> list[np.ndarray]:
    """The excess losses of the steps that skipped each layer, by layer."""
    excess = excess_loss(steps)
    return [excess[[layer not in step.layers_run for step in steps]] for layer in range(num_layers)]


def plot_excess_loss(ax: Axes, steps: Sequence[StepRecord], num_layers: int) -> Axes:
    """How far the loss of a step lies above its neighbours', by the layer that it skipped."""
    for layer, values in enumerate(excess_without(steps, num_layers)):
        ax.scatter(np.full(len(values), layer), values, s=10, color=BLUE, alpha=0.5)
        ax.annotate(
            str(len(values)), (layer, 1), xycoords=("data", "axes fraction"),
            xytext=(0, 4), textcoords="offset points", ha="center", fontsize=9,
        )  # fmt: skip
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set(xlabel="layer that was skipped", xticks=range(num_layers), xlim=(-0.5, num_layers - 0.5))
    ax.set_ylabel("loss above neighbours\n(nats/token)")
    return ax


def plot_paired_gaps(
    ax: Axes, gaps: Mapping[str, Sequence[float]], half_widths: Mapping[str, float]
) -> Axes:
    """One point a pair, and each arm's mean with its interval.

    Args:
        gaps: arm -> differences to the baseline, one a pair.
        half_widths: arm -> half the interval's width.
    """
    for place, (name, values) in enumerate(gaps.items()):
        ax.plot(values, np.full(len(values), place + 0.2), "o", color=GREY)
        ax.errorbar(
            float(np.mean(values)), place, xerr=half_widths[name],
            fmt="s", color=BLUE, capsize=4,
        )  # fmt: skip
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_yticks(range(len(gaps)), labels=list(map(literal, gaps)))
    ax.set_ylim(len(gaps) - 0.5, -0.5)
    return ax
