from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from sbldlib.measure.footprint import PARTS, predict_footprint
from sbldlib.measure.profile import KINDS, PHASES, REST, StepProfile
from sbldlib.models.gpt_config import PRESETS
from sbldlib.plots.footprint import (
    draw_profile,
    draw_recipe,
    plot_footprints,
    plot_parts,
    plot_shares,
)

PLAIN = predict_footprint(PRESETS["gpt2-124m"], batch_size=8)
AGAIN = predict_footprint(PRESETS["gpt2-124m"], batch_size=8, activation_recomputation=True)


def axes():
    return Figure().subplots()


def test_a_part_has_one_filling_and_begins_where_the_one_before_ended():
    ax = axes()
    plot_parts(ax, {"one": {"a": 2.0, "b": 1.0}, "two": {"b": 3.0}})
    of_a, of_b = ax.containers
    assert [bar.get_width() for bar in of_a] == [2, 0]
    assert [(bar.get_x(), bar.get_width()) for bar in of_b] == [(2, 1), (0, 3)]
    assert of_a[0].get_facecolor() != of_b[0].get_facecolor()
    assert of_a[0].get_hatch() != of_b[0].get_hatch()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["one", "two"]
    assert ax.yaxis_inverted()


def test_memory_is_told_in_a_unit_that_fits_and_what_is_zero_has_no_name():
    ax = axes()
    plot_footprints(ax, {"kept": PLAIN}, capacity=16 * 2**30)
    assert "(GiB)" in ax.get_xlabel()
    ends = [bar.get_x() + bar.get_width() for bars in ax.containers for bar in bars]
    assert max(ends) == pytest.approx(PLAIN.total / 2**30)
    assert ax.get_lines()[0].get_xdata()[0] == 16
    _, names = ax.get_legend_handles_labels()
    assert PARTS["recomputed"] not in names and "activations" in names
    small = axes()
    plot_footprints(small, {"kept": predict_footprint(PRESETS["tiny"], batch_size=1)})
    assert "(MiB)" in small.get_xlabel() and not small.get_lines()


def test_shares_are_in_percent():
    ax = axes()
    plot_shares(ax, {"one": 0.25, "other": 0.75})
    assert [bar.get_width() for bar in ax.containers[0]] == [25, 75]
    assert {t.get_text() for t in ax.texts} == {"25 %", "75 %"}


def test_a_profile_is_drawn_by_phase_and_by_kind():
    profile = StepProfile(
        phases=dict.fromkeys(PHASES, 1.0), operators={"aten::mm": 3.0, "x": 1.0}, num_steps=1
    )
    left, right = draw_profile(Figure(), profile)
    assert [t.get_text() for t in left.get_yticklabels()] == list(PHASES)
    assert [t.get_text() for t in right.get_yticklabels()] == [*KINDS, REST]
    assert [bar.get_width() for bar in right.containers[0]] == [75, 0, 0, 0, 0, 0, 25]


def test_the_chosen_way_is_marked_and_all_ways_stand_in_one_scale():
    figure = Figure(layout="constrained")
    draw_recipe(figure, "other", {"one": PLAIN, "other": AGAIN}, 8 * 2**30)
    (ax,) = figure.axes
    marked = {t.get_text(): t.get_fontweight() for t in ax.get_yticklabels()}
    assert marked == {"one": "normal", "▸ other": "bold"}
    assert len(figure.legends) == 1
    assert {t.get_text() for t in figure.legends[0].get_texts()} == {*PARTS.values(), "the device"}
