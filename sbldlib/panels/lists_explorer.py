"""Rules for the block list by hand: what each leaves to the allow list at a saving."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..dropping.allocation import DROP_MAX, WEIGHTS, update_keep_probability
from ..dropping.lists import RULES, create_block_allow_lists
from ..dropping.room import dropping_left
from ..plots.axes import shared_legend
from ..plots.lists import plot_keep_list
from ..plots.sensitivity import plot_sensitivity
from ..records import LayerLists, SensitivityData
from .explorer import Explorer, dropdown, show_only_where, slider

MAX_SAVING = 0.6


class ListsExplorer(Explorer):
    """Choose a rule, its value, a saving and a weight; see the lists and the keep probabilities.

    Attributes:
        rule, saving, weight: what is chosen with.
        values: rule -> its slider, of which the chosen rule's is shown; "largest_gap" has none.
        lists: what the rule gives.
        keep_probability: the list at the chosen saving, one a layer.
    """

    def __init__(self, sensitivity_data: SensitivityData, *, saving: float = 0.25):
        """
        Args:
            sensitivity_data: one value a layer.
            saving: mean drop at first, in [0, 0.6].
        """
        self._data = sensitivity_data
        low, high = min(sensitivity_data.values), max(sensitivity_data.values)
        most = sensitivity_data.num_layers - 1
        self.rule = dropdown("rule", list(RULES))
        self.values: dict[str, Any] = {
            "fraction": slider(widgets.FloatSlider, "fraction", 0.25, 0.05, 0.95, step=0.05),
            "count": slider(widgets.IntSlider, "count", min(2, most), 0, most),
            "threshold": slider(
                widgets.FloatSlider, "threshold", (low + high) / 2, low, high,
                step=max((high - low) / 100, 1e-9), readout_format=".3f",
            ),
            "top_group": slider(
                widgets.FloatSlider, "standard errors", 2.0, 0.0, 10.0, step=0.5
            ),
        }  # fmt: skip
        self.saving = slider(widgets.FloatSlider, "saving", saving, 0.0, MAX_SAVING, step=0.05)
        self.weight = dropdown("weight", list(WEIGHTS))
        self.lists: LayerLists
        self.keep_probability: tuple[float, ...] = ()
        super().__init__([self.rule, *self.values.values(), self.saving, self.weight])

    def _draw(self, figure: Figure) -> str:
        rule = str(self.rule.value)
        for name, control in self.values.items():
            show_only_where(control, name == rule)
        value = self.values[rule].value if rule in self.values else True
        saving = round(float(self.saving.value), 4)
        self.lists = create_block_allow_lists(self._data, **{rule: value})
        left, right = figure.subplots(1, 2)
        plot_sensitivity(left, self._data, self.lists).set_title("Lists")
        found = dropping_left({rule: self.lists}, saving)[rule]
        self.keep_probability = update_keep_probability(
            self._data, 1 - saving, lists=self.lists, weight=str(self.weight.value)
        )
        plot_keep_list(right, self.lists, self.keep_probability).set_title("Keep probability")
        left.get_legend().remove()  # the other picture's says the same
        shared_legend(figure, right)
        return (
            f"{self.lists.rule}: layers {sorted(self.lists.block)} are never dropped. At a saving "
            f"of {saving:.2f} an allowed layer is dropped {found.drop_each:.0%} of the time on "
            f"average; these lists hold up to {found.highest_mean_drop:.2f} (cap {DROP_MAX:g})."
        )
