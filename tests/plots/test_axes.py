from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from sbldlib.plots.axes import layer_ticks, mark_mean, shared_legend


@pytest.mark.parametrize(
    ("num_layers", "ticks"), [(2, [0, 1]), (8, list(range(8))), (9, [0, 2, 4, 6, 8])]
)
def test_few_layers_all_have_a_tick_and_many_have_room(num_layers, ticks):
    assert list(layer_ticks(num_layers)) == ticks
    assert all(len(layer_ticks(many)) <= 8 for many in range(2, 200))


@pytest.mark.parametrize("where", ["upper", "lower"])
def test_one_legend_stands_outside_the_axes_and_names_each_once(where):
    figure = Figure(layout="constrained")
    axes = figure.subplots(1, 2)
    for ax in axes:
        ax.plot([0, 1], label="both")
    axes[1].plot([1, 0], label="one")
    axes[1].legend()
    shared_legend(figure, *axes, where=where)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["both", "one"]
    assert all(ax.get_legend() is None for ax in axes)
    box, above = legend.get_window_extent(), where == "upper"
    for extent in (ax.get_window_extent() for ax in axes):
        assert extent.y1 < box.y0 if above else extent.y0 > box.y1


def test_a_mean_is_a_line_named_beside_the_axes():
    ax = Figure().subplots()
    mark_mean(ax, 0.756)
    assert set(ax.get_lines()[0].get_ydata()) == {0.756}
    assert [text.get_text() for text in ax.texts] == ["mean\n0.76"]
