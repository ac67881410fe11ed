"""Pictures of sensitivity and of the lists it leads to."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ..records import LayerLists, SensitivityData
from .theme import BLUE, INK, ORANGE


def plot_sensitivity(
    ax: Axes, sensitivity_data: SensitivityData, lists: LayerLists | None = None
) -> Axes:
    """One bar a layer with two standard errors; the block list is hatched and named.

    The scale is symmetric-logarithmic where one layer dwarfs the rest.
    """
    values = np.asarray(sensitivity_data.values)
    layers = np.arange(len(values))
    blocked = set(lists.block) if lists is not None else set()
    for is_blocked, colour, hatch, label in (
        (True, ORANGE, "//", "block list: never dropped"),
        (False, BLUE, "", "allow list: may be dropped" if lists is not None else None),
    ):
        chosen = np.array([(layer in blocked) == is_blocked for layer in layers])
        if chosen.any():
            ax.bar(
                layers[chosen], values[chosen], color=colour, hatch=hatch, label=label,
                edgecolor="white",
            )  # fmt: skip
    errors = 2 * np.asarray(sensitivity_data.standard_errors)
    ax.errorbar(layers, values, yerr=errors, fmt="none", color=INK, capsize=3, linewidth=1)
    if values.max() > 20 * max(np.median(np.abs(values)), 1e-12):
        ax.set_yscale("symlog", linthresh=max(float(np.median(np.abs(values))), 1e-4))
    ax.axhline(0, color=INK, linewidth=0.8)
    scale = ",\nlogarithmic away from 0" if ax.get_yscale() == "symlog" else ""
    ax.set(xlabel="layer", ylabel=f"sensitivity ({sensitivity_data.unit}){scale}", xticks=layers)
    if lists is not None:
        ax.legend()
    return ax
