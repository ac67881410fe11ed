"""The pictures of a growing model: what stands where, named and to scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from sbldlib.measure.stages import count_stages
from sbldlib.models.diverging_gpt import PRESETS
from sbldlib.plots.divergence import (
    FROZEN,
    draw_growth,
    mark_switches,
    plot_layer_pairs,
    plot_low_rank,
    plot_neighbours,
    plot_sharing,
    plot_stage_costs,
    stage_bounds,
)

SMALL, AT = PRESETS["small"], (0.25, 0.5)


def axes():
    return Figure().subplots()


def fields(ax) -> list[tuple[float, float, float, float, str]]:
    return [
        (p.get_x(), p.get_y() + 0.5, p.get_width(), p.get_height(), p.get_hatch() or "")
        for p in ax.patches
    ]


def test_each_stage_has_a_field_a_block_as_long_as_its_places():
    ax = plot_sharing(axes(), SMALL, AT)
    found = fields(ax)
    assert found[:3] == [(0, 0, 0.25, 4, ""), (0, 4, 0.25, 4, ""), (0, 8, 0.25, 4, "")]
    assert found[3:9] == [(0.25, 2 * place, 0.25, 2, FROZEN) for place in range(6)]
    assert found[9:] == [(0.5, place, 0.5, 1, "") for place in range(12)]
    names = [text.get_text() for text in ax.texts]
    assert names[:4] == ["block 0 × 4", "block 4 × 4", "block 8 × 4", "block 0 × 2"]
    assert names[-1] == "block 11"


def test_a_block_keeps_its_colour_and_no_two_of_a_stage_share_one():
    patches = plot_sharing(axes(), SMALL, AT).patches
    assert patches[1].get_facecolor() == patches[5].get_facecolor() == patches[13].get_facecolor()
    assert len({patch.get_facecolor() for patch in patches[9:]}) == 12


def test_places_of_a_stack_that_do_not_run_are_marked():
    config = replace(SMALL, growth="stack", rank=0, freeze_attention=False)
    ax = plot_sharing(axes(), config, AT)
    assert [text.get_text() for text in ax.texts].count("not yet") == 2
    assert (0, 3, 0.25, 9, "") in fields(ax) and (0.25, 6, 0.25, 6, "") in fields(ax)
    assert all(hatch == "" for *_, hatch in fields(ax))


def test_fields_that_are_too_low_or_too_narrow_for_a_name_have_none():
    many = replace(SMALL, num_layers=24, stages=(3, 6, 24))
    named = [text.get_text() for text in plot_sharing(axes(), many, (0.05, 0.5)).texts]
    assert named == [f"block {4 * place} × 4" for place in range(6)]


def test_costs_are_in_percent_of_the_last_stage_s():
    stages = count_stages(SMALL)
    ax = plot_stage_costs(axes(), stages, AT)
    learning, flops = ax.get_lines()
    assert list(learning.get_xdata()) == [0, 0.25, 0.5, 1]
    assert learning.get_ydata()[0] == pytest.approx(100 * stages[0].learning / stages[2].learning)
    assert flops.get_ydata()[0] == flops.get_ydata()[2] == 100
    assert learning.get_linestyle() != flops.get_linestyle()


@pytest.mark.parametrize(("freeze", "num_legends"), [(True, 1), (False, 0)])
def test_both_stand_one_above_the_other_and_hatching_is_explained(freeze, num_legends):
    config = replace(SMALL, freeze_attention=freeze)
    figure = Figure(layout="constrained")
    upper, lower = draw_growth(figure, config, count_stages(config), AT)
    figure.draw_without_rendering()
    assert (upper.get_legend() is not None) == bool(num_legends)
    assert upper.get_xlabel() == "" and lower.get_xlabel() == "share of the run"


def test_bounds_are_from_stage_to_stage():
    assert stage_bounds((0.2, 0.6)) == ((0, 0.2), (0.2, 0.6), (0.6, 1)) and stage_bounds(()) == (
        (0, 1),
    )


def test_the_low_rank_change_is_drawn_to_scale():
    ax = plot_low_rank(axes(), 576, 192, 8)
    sizes = [(patch.get_height(), patch.get_width()) for patch in ax.patches]
    assert sizes == [(576, 192), (576, 8), (8, 192)]
    assert ax.get_aspect() == 1
    said = " ".join(text.get_text() for text in ax.texts)
    assert "576 × 192" in said and "8 × 192" in said and "stands still" in said


def test_the_heat_map_has_a_row_a_pair_and_a_column_a_measurement():
    rows = np.arange(9.0).reshape(3, 3) / 10
    ax = plot_neighbours(axes(), [0, 10, 20], rows, switches=(10,))
    (mesh,) = ax.collections
    np.testing.assert_array_equal(mesh.get_array(), rows.T)
    assert mesh.get_coordinates()[0, :, 0].tolist() == [0, 5, 15, 20]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0–1", "1–2", "2–3"]
    assert mesh.get_clim() == (0, 1)


def test_pairs_have_their_numbers_and_what_is_missing_has_none():
    values = np.array([[0.0, 0.26, np.nan], [0.26, 0.0, np.nan], [np.nan] * 3])
    ax = plot_layer_pairs(axes(), values, label="how far")
    assert sorted(text.get_text() for text in ax.texts) == ["0.00", "0.00", "0.26", "0.26"]
    assert ax.figure.axes[1].get_ylabel() == "how far"


def test_small_distances_are_told_apart_and_many_layers_have_short_numbers():
    ax = plot_layer_pairs(axes(), np.full((12, 12), 0.26))
    assert {text.get_text() for text in ax.texts} == {"0.3"}
    norm = ax.images[0].norm
    assert norm(0.0) == 0 and norm(0.01) > 0.15 and norm(1.0) == 1 and norm(1.3) == 1
    near, far = (plot_layer_pairs(axes(), np.full((2, 2), at)).texts[0] for at in (0.01, 1.0))
    assert near.get_color() == "white" != far.get_color()
    assert not plot_layer_pairs(axes(), np.ones((13, 13))).texts


def test_no_number_stands_as_minus_nothing():
    ax = plot_layer_pairs(axes(), np.array([[1.0, -0.001], [-0.001, 1.0]]), limits=(-1, 1))
    assert {text.get_text() for text in ax.texts} == {"1.00", "0.00"}


def test_switches_are_named_once():
    ax = mark_switches(axes(), (3, 6))
    assert [line.get_xdata()[0] for line in ax.get_lines()] == [3, 3, 6, 6]
    assert ax.get_legend_handles_labels()[1] == ["a stage begins"]
