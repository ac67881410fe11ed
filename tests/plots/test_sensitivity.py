from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from sbldlib.dropping.lists import create_block_allow_lists
from sbldlib.plots.sensitivity import plot_sensitivity
from sbldlib.records import SensitivityData


def test_bars_hold_the_values_and_the_block_list_is_hatched():
    data = SensitivityData(values=(0.5, 0.1, 0.2, 0.3), standard_errors=(0.01,) * 4)
    ax = Figure().subplots()
    plot_sensitivity(ax, data, create_block_allow_lists(data, count=2))
    bars = {round(b.get_x() + b.get_width() / 2): b for b in ax.patches}
    assert np.allclose([bars[layer].get_height() for layer in range(4)], data.values)
    assert [layer for layer in range(4) if bars[layer].get_hatch()] == [0, 3]
    assert "nats per token" in ax.get_ylabel()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["block list: never dropped", "allow list: may be dropped"]


def test_one_dominant_layer_does_not_hide_the_rest():
    data = SensitivityData(values=(5.0, 0.01, 0.02, 0.01), standard_errors=(0.001,) * 4)
    ax = Figure().subplots()
    plot_sensitivity(ax, data)
    assert ax.get_yscale() == "symlog" and ax.get_legend() is None
