"""Pictures of runs: losses, the layers that ran, and keep probabilities over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes

from ..errors import check_choice, unknown_name
from ..records import RunRecord, StepRecord
from .theme import PROBABILITY, RAN_OR_SKIPPED, arm_styles, literal, method_style

LOSS_UNIT = {"validation_loss": " (nats/token)"}
AGAINST = {
    "steps": ("step", lambda steps: np.arange(1.0, len(steps) + 1)),
    "seconds": ("training time (s)", lambda steps: np.cumsum([s.seconds for s in steps])),
    "flops": ("FLOPs run (10$^{12}$)", lambda steps: np.cumsum([s.flops for s in steps]) / 1e12),
}


def smoothed(values: Sequence[float], window: int) -> np.ndarray:
    """Running mean over the last `window` values; the first ones over as many as there are."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(values, dtype=float)]))
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


def plot_losses(ax: Axes, losses: Mapping[str, Sequence[float]], *, window: int = 20) -> Axes:
    """Training losses against steps, smoothed; colour and line style follow the method's name.

    Args:
        losses: method name -> loss of every step, nats per token.
        window: steps of the running mean.
    """
    for name, values in losses.items():
        steps = np.arange(1, len(values) + 1)
        ax.plot(steps, smoothed(values, window), label=literal(name), **method_style(name))
    ax.set(xlabel="step", ylabel=f"training loss (nats/token,\nmean of {window} steps)")
    ax.legend()
    return ax


def plot_runs(
    ax: Axes, runs: Mapping[str, RunRecord], *, against: str = "steps", window: int = 20
) -> Axes:
    """Training losses of whole runs against "steps", "seconds" or "flops".

    Args:
        runs: method name -> run.
        against: a key of `AGAINST`.
        window: steps of the running mean.
    """
    if against not in AGAINST:
        raise unknown_name("against", against, AGAINST)
    label, horizontal = AGAINST[against]
    plot_losses(ax, {name: run.losses for name, run in runs.items()}, window=window)
    for line, run in zip(ax.get_lines(), runs.values(), strict=True):
        line.set_xdata(horizontal(run.steps))
    ax.relim()
    ax.autoscale_view()
    ax.set_xlabel(label)
    return ax


def plot_evaluations(
    ax: Axes, runs: Mapping[str, RunRecord], measure: str, *, against: str = "steps"
) -> Axes:
    """What each run came to at its evaluations, over "steps", "seconds" or "flops" of training.

    Args:
        runs: method name -> run.
        measure: name of an evaluation.
        against: a key of `AGAINST`.
    """
    label, horizontal = AGAINST[check_choice("against", against, AGAINST)]
    styles = arm_styles(list(runs))
    for (name, run), own, mark in zip(runs.items(), styles, cycle("osD^v"), strict=False):
        at = [place for place, step in enumerate(run) if measure in step.evaluations]
        found = [run.steps[place].evaluations[measure] for place in at]
        style = {**own, "marker": mark, "markersize": 4}
        ax.plot(horizontal(run.steps)[at], found, label=literal(name), **style)
    ax.set(xlabel=label, ylabel=literal(measure.replace("_", " ")) + LOSS_UNIT.get(measure, ""))
    ax.legend()
    return ax


def layers_run_matrix(steps: Sequence[StepRecord], num_layers: int) -> np.ndarray:
    """1 where a layer ran and 0 where it was skipped, [num_layers, num_steps]."""
    ran = np.zeros((num_layers, len(steps)))
    for column, step in enumerate(steps):
        ran[list(step.layers_run), column] = 1
    return ran


def plot_layers_run(ax: Axes, steps: Sequence[StepRecord], num_layers: int) -> Axes:
    """Which layers ran at which step: dark ran, light was skipped."""
    extent = (0.5, len(steps) + 0.5, -0.5, num_layers - 0.5)
    ax.imshow(
        layers_run_matrix(steps, num_layers),
        aspect="auto",
        origin="lower",
        extent=extent,
        interpolation="nearest",
        cmap=RAN_OR_SKIPPED,
        vmin=0,
        vmax=1,
    )
    ax.set(xlabel="step", ylabel="layer", yticks=range(0, num_layers, max(1, num_layers // 8)))
    return ax


def plot_keep_probability(ax: Axes, table: np.ndarray, *, num_steps: int | None = None) -> Axes:
    """Keep probability of each layer over training, as a heat-map with its own scale.

    Args:
        table: [num_steps, num_layers], in (0, 1].
        num_steps: steps that the rows stand for, where they are a sample.
    """
    rows, num_layers = table.shape
    image = ax.imshow(
        table.T,
        aspect="auto",
        origin="lower",
        extent=(0, num_steps or rows, -0.5, num_layers - 0.5),
        interpolation="nearest",
        cmap=PROBABILITY,
        vmin=0,
        vmax=1,
    )
    ax.set(xlabel="step", ylabel="layer", yticks=range(0, num_layers, max(1, num_layers // 8)))
    ax.figure.colorbar(image, ax=ax, label="keep probability")
    return ax
