from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from plotted import made_summary

from sbldlib.comparison.tables import study_differences
from sbldlib.plots.comparison import (
    arm_style,
    differences,
    plot_differences,
    plot_field,
    plot_study,
)
from sbldlib.plots.theme import BLUE, INK, ORANGE


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def markers(ax) -> dict[float, object]:
    """Height -> the marker drawn there."""
    marked = [line for line in ax.get_lines() if line.get_marker() not in ("", "None", None)]
    return {float(np.ravel(line.get_ydata())[0]): line for line in marked}


def rows(ax) -> dict[str, object]:
    """Label -> the marker of its row."""
    found = markers(ax)
    places = zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
    return {label.get_text(): found[float(place)] for place, label in places}


def intervals(ax) -> list[tuple[float, float]]:
    lines = (line.get_xdata() for line in ax.get_lines() if line.get_marker() in ("", "None", None))
    return [tuple(x) for x in lines if len(x) == 2 and x[0] != x[1]]


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_differences_are_those_of_the_summary_lowest_first():
    summary = made_summary()
    found = differences(summary, "steps")
    assert list(found) == ["sbld", "shallower", "uniform"]
    assert found["sbld"] == summary.difference("steps", "sbld", "full depth")
    turned = differences(summary, "steps", reference="sbld")
    assert turned["full depth"].mean == pytest.approx(-found["sbld"].mean)


def test_an_arm_without_a_result_is_left_out():
    assert set(differences(made_summary(), "flops")) == {"shallower", "sbld"}


def test_a_row_an_arm_the_lowest_on_top_with_its_interval(ax):
    summary = made_summary()
    plot_differences(ax, summary, "steps")
    marks = rows(ax)
    assert list(marks) == ["uniform", "shallower", "sbld"]  # from the bottom up
    for arm, gap in differences(summary, "steps").items():
        assert marks[arm].get_xdata() == pytest.approx([gap.mean])
        assert any(pair == pytest.approx((gap.low, gap.high)) for pair in intervals(ax))
    assert "nats/token" in ax.get_xlabel() and "less full depth's" in ax.get_xlabel()


def test_unresolved_is_hollow_and_families_differ_in_colour_and_marker(ax):
    marks = rows(plot_differences(ax, made_summary(), "steps"))
    assert same_color(marks["shallower"].get_markerfacecolor(), "white")
    for arm, colour in (("sbld", BLUE), ("uniform", ORANGE)):
        assert same_color(marks[arm].get_markerfacecolor(), colour)
    assert len({mark.get_marker() for mark in marks.values()}) == 3
    assert legend(ax) == ["control", "SBLD", "the field", "unresolved"]


def test_one_seed_has_no_interval_and_is_hollow(ax):
    marks = rows(plot_differences(ax, made_summary(num_seeds=1), "steps"))
    assert not intervals(ax)
    assert all(same_color(mark.get_markerfacecolor(), "white") for mark in marks.values())


def test_another_metric_and_reference_are_named(ax):
    plot_differences(ax, made_summary(), "steps", metric="accuracy", reference="shallower")
    assert "exact answers" in ax.get_xlabel() and "less shallower's" in ax.get_xlabel()
    assert "full depth" in rows(ax)


def test_every_family_has_its_look():
    looks = [arm_style(name) for name in ("pruned", "sbld, front", "pld, index 1")]
    assert [look["color"] for look in looks] == [INK, BLUE, ORANGE]
    assert len({look["marker"] for look in looks}) == 3
    assert arm_style("full depth, rate 1.4") == looks[0]
    assert arm_style("front, lists 1/8") == looks[1]  # a search's name for a variant of SBLD


def test_a_study_has_one_row_a_setting_and_one_marker_a_control(ax):
    summary = made_summary()
    found = study_differences({"small": summary, "large": summary}, "sbld", ("full depth", "none"))
    found["small"]["shallower"] = summary.difference("flops", "shallower", "sbld").to_dict()
    plot_study(ax, found)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["large", "small"]
    assert len(markers(ax)) == 3
    assert legend(ax) == ["full depth", "shallower", "unresolved"]
    assert {line.get_marker() for line in markers(ax).values()} == {"s", "D"}


def test_the_field_is_one_heat_map_a_method_on_one_scale():
    front = np.ones((4, 3))
    front[:2, 1:] = 0.25
    tables = {"front": front, "even": np.full((4, 3), 0.75), "third": np.zeros((4, 3))}
    figure = plot_field(Figure(layout="constrained"), tables, num_columns=2)
    shown = [ax for ax in figure.axes if ax.images and ax.get_title()]
    assert [ax.get_title() for ax in shown] == list(tables)
    assert np.array_equal(shown[0].images[0].get_array(), front.T)
    assert {ax.images[0].get_clim() for ax in shown} == {(0, 1)}
    assert shown[0].get_ylabel() == shown[2].get_ylabel() == "layer"
    assert [ax.get_xlabel() for ax in shown] == ["", "progress", "progress"]
    assert figure.axes[-1].get_ylabel() == "keep probability"
