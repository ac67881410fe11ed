from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from sbldlib.dropping.lists import create_block_allow_lists
from sbldlib.plots.sensitivity import (
    layers_farthest_apart,
    plot_agreement,
    plot_estimators,
    plot_rank_correlation,
    plot_rank_slopes,
    plot_sensitivity,
    plot_stability,
    short_name,
)
from sbldlib.records import SensitivityData
from sbldlib.sensitivity import agreement, data_from_samples, stability


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


def measured(values, noise=0.1, iteration=None, seed=0) -> SensitivityData:
    generator = np.random.default_rng(seed)
    samples = np.asarray(values)[:, None] + noise * generator.standard_normal((len(values), 6))
    return data_from_samples(samples.tolist(), method="test", unit="points", iteration=iteration)


def cell_texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_estimators_stand_side_by_side_as_ranks():
    ax = Figure().subplots()
    plot_estimators(ax, {"one": measured([3.0, 9.0, 6.0]), "other": measured([0.5, 0.1, 0.2], 0.0)})
    assert cell_texts(ax) == ["3", "1", "2", "1", "3", "2"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "other"]
    light, dark = ax.texts[1], ax.texts[0]
    assert light.get_color() == "white" and dark.get_color() != "white"


def test_estimators_stand_side_by_side_as_values_between_their_own_ends():
    ax = Figure().subplots()
    given = {"one": measured([3.0, 9.0, 6.0], 0.0), "other": measured([-0.5, 0.0, 0.5], 0.0)}
    plot_estimators(ax, given, of="value", labels=["A: one", "B: other"])
    assert cell_texts(ax) == ["0", "100", "50", "0", "50", "100"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A: one", "B: other"]
    assert ax.texts[1].get_color() == "white", "the most sensitive is dark, as among ranks"
    with pytest.raises(ValueError, match=r"of='values' is not known.*'value'"):
        plot_estimators(ax, given, of="values")
    with pytest.raises(ValueError, match="one value for all layers"):
        plot_estimators(ax, {"flat": measured([1.0, 1.0], 0.0)}, of="value")


def test_slopes_join_a_layers_two_ranks_and_the_farthest_stand_out():
    first, second = measured([9.0, 5, 7, 3, 1], 0.0), measured([9.0, 1, 7, 3, 5], 0.0)
    ax = plot_rank_slopes(Figure().subplots(), first, second)
    styles = {tuple(line.get_ydata()): line.get_linestyle() for line in ax.get_lines()}
    assert styles == {(1, 1): "-", (2, 2): "-", (4, 4): "-", (3, 5): "--", (5, 3): "--"}
    assert layers_farthest_apart(first, second) == (1, 4)
    assert cell_texts(ax) == ["0", "2", "1", "3", "4", "0", "2", "4", "3", "1"]
    assert ax.yaxis_inverted()
    _, named = ax.get_legend_handles_labels()
    assert sorted(named) == ["a layer", "farthest apart"], "one entry a kind"


def test_slopes_of_one_order_have_no_farthest_and_ties_share_a_label():
    tied = measured([2.0, 2.0, 1.0], 0.0)
    ax = plot_rank_slopes(Figure().subplots(), tied, tied)
    assert layers_farthest_apart(tied, tied) == ()
    assert cell_texts(ax) == ["0, 1", "2", "0, 1", "2"]
    assert {line.get_linestyle() for line in ax.get_lines()} == {"-"}


def test_a_long_name_is_cut_where_it_would_take_the_room():
    assert short_name("angular_distance") == "angular_distance"
    assert len(short_name("x" * 500)) == 24 and short_name("x" * 500).endswith("…")


def test_agreement_shows_each_pair_with_its_interval():
    found = agreement({"a": measured(range(5)), "b": measured([4, 3, 2, 1, 0])})
    ax = Figure().subplots()
    plot_agreement(ax, found)
    assert cell_texts(ax) == ["", "-1.00\n[-1.00,\n-1.00]", "-1.00\n[-1.00,\n-1.00]", ""]
    assert "95% interval over batches" in ax.get_xlabel() and "Spearman" in ax.get_xlabel()
    plot_agreement(ax, found, of="kendall")
    assert "Kendall" in ax.get_xlabel()


def checkpoints():
    orders = ([4, 3, 2, 1, 0], [0, 1, 3, 2, 4], [0, 1, 2, 3, 4])
    return stability([measured(o, iteration=100 * i, seed=i) for i, o in enumerate(orders)])


def test_stability_draws_a_line_a_layer_with_the_first_three_standing_out():
    ax = Figure().subplots()
    plot_stability(ax, checkpoints())
    lines = ax.get_lines()
    assert len(lines) == 5
    assert list(lines[0].get_ydata()) == [1, 5, 5] and list(lines[0].get_xdata()) == [0, 100, 200]
    assert len({line.get_color() for line in lines}) == 4, "three of their own, the rest grey"
    assert ax.yaxis_inverted() and "training step" in ax.get_xlabel()
    assert cell_texts(ax) == [" 0", " 1", " 2", " 3", " 4"]


def test_rank_correlation_has_both_lines_and_a_band():
    ax = Figure().subplots()
    found = checkpoints()
    plot_rank_correlation(ax, found)
    with_last, with_previous, _ = ax.get_lines()
    assert tuple(with_last.get_ydata()) == found.with_last
    assert tuple(with_previous.get_ydata()) == found.with_previous[1:]
    assert len(ax.collections) == 1 and len(ax.get_legend().get_texts()) == 2
