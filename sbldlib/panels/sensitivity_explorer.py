"""More batches or fewer: what becomes of the intervals, and of the layers told apart."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..plots.sensitivity import plot_sensitivity, short_name
from ..records import SensitivityData
from ..sensitivity import Ties, data_from_samples, tied_pairs
from .explorer import Explorer, dropdown, slider


class SensitivityExplorer(Explorer):
    """Choose an estimator and how many of its batches count.

    Attributes:
        method, num_batches: what is chosen with.
        data: the chosen estimator over the chosen batches.
        ties: its layers that cannot be told apart.
    """

    def __init__(self, measured: Mapping[str, SensitivityData]):
        """
        Args:
            measured: name -> data with samples.

        Raises:
            ValueError: none measured, or one without samples.
        """
        if not measured or not all(data.samples for data in measured.values()):
            bare = [name for name, data in measured.items() if not data.samples]
            raise ValueError(f"measured: {bare or 'nothing'} to explore; each needs samples")
        self._measured = dict(measured)
        self.method = dropdown("estimator", list(measured))
        most = min(data.num_batches for data in measured.values())
        self.num_batches = slider(widgets.IntSlider, "batches", most, 2, most)
        self.data: SensitivityData
        self.ties: Ties
        super().__init__([self.method, self.num_batches])

    def _draw(self, figure: Figure) -> str:
        whole = self._measured[str(self.method.value)]
        number = int(self.num_batches.value)
        self.data = data_from_samples(
            [row[:number] for row in whole.samples],
            method=whole.method,
            unit=whole.unit,
            iteration=whole.iteration,
        )
        self.ties = tied_pairs(self.data)
        axes = plot_sensitivity(figure.subplots(), self.data)
        name = short_name(str(self.method.value))
        axes.set_title(f"{name} over {number} batches,\nbars of 2 standard errors")
        return self.ties.summary()
