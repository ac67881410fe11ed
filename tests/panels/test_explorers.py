"""What all explorers share, and those of sensitivities and lists, without a browser."""

from __future__ import annotations

import io

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from sbldlib.dropping.allocation import update_keep_probability
from sbldlib.dropping.lists import RULES, create_block_allow_lists
from sbldlib.panels.explorer import Explorer, dropdown, offer, slider
from sbldlib.panels.lists_explorer import ListsExplorer
from sbldlib.panels.sensitivity_explorer import SensitivityExplorer
from sbldlib.records import SensitivityData
from sbldlib.sensitivity import data_from_samples, tied_pairs


def measured(spread: float = 1.0, seed: int = 0) -> SensitivityData:
    generator = np.random.default_rng(seed)
    samples = np.arange(6.0)[:, None] + spread * generator.standard_normal((6, 12))
    return data_from_samples(samples.tolist(), method="of a test", unit="points", iteration=7)


def pixels(explorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.picture().data)).convert("RGB")).astype(int)


@pytest.fixture
def lists() -> ListsExplorer:
    return ListsExplorer(measured())


@pytest.fixture
def sensitivities() -> SensitivityExplorer:
    return SensitivityExplorer({"one": measured(), "other": measured(0.01, seed=1)})


def test_fewer_batches_leave_more_layers_that_cannot_be_told_apart(sensitivities):
    whole = measured()
    assert sensitivities.data == whole
    assert sensitivities.text == tied_pairs(whole).summary()
    before, wide = pixels(sensitivities), len(sensitivities.ties.pairs)
    sensitivities.num_batches.value = 3
    assert sensitivities.data.samples == tuple(row[:3] for row in whole.samples)
    assert sensitivities.data.iteration == 7
    assert len(sensitivities.ties.pairs) > wide
    assert "over 3 batches" in sensitivities.line.value
    assert (pixels(sensitivities) != before).any()


def test_another_estimator_is_shown_at_the_same_number_of_batches(sensitivities):
    sensitivities.num_batches.value = 5
    sensitivities.method.value = "other"
    assert sensitivities.data.num_batches == 5
    assert sensitivities.ties.pairs == () and "can be told apart" in sensitivities.text


@pytest.mark.parametrize(
    "given", [{}, {"bare": SensitivityData(values=(1.0,), standard_errors=(0.0,))}]
)
def test_nothing_to_explore_is_refused(given):
    with pytest.raises(ValueError, match=r"(nothing|\['bare'\]) to explore; each needs samples"):
        SensitivityExplorer(given)


def test_the_lists_are_the_rules_and_the_keep_list_the_allocations(lists):
    data = measured()
    assert lists.lists == create_block_allow_lists(data, fraction=0.25)
    assert lists.keep_probability == update_keep_probability(data, 0.75)
    lists.rule.value, lists.values["count"].value = "count", 3
    lists.saving.value, lists.weight.value = 0.3, "equal"
    expected = create_block_allow_lists(data, count=3)
    assert lists.lists == expected
    assert lists.keep_probability == update_keep_probability(
        data, 0.7, lists=expected, weight="equal"
    )
    assert "count 3: layers [3, 4, 5] are never dropped" in lists.text
    assert "dropped 60% of the time" in lists.text and lists.text in lists.line.value


def test_the_chosen_rules_slider_is_shown_and_no_other(lists):
    for rule in RULES:
        lists.rule.value = rule
        shown = [name for name, control in lists.values.items() if control.layout.display == ""]
        assert shown == [rule] * (rule in lists.values)
        assert "Not drawn" not in lists.text


def test_what_the_lists_cannot_hold_is_said_above_the_last_picture(lists):
    lists.rule.value = "count"
    lists.values["count"].value = 4
    before = lists.picture().data
    lists.saving.value = 0.5
    assert lists.text.startswith("Not drawn: ") and "asks for 3 dropped layers" in lists.text
    assert lists.picture().data == before
    lists.saving.value = 0.2
    assert lists.text.startswith("count 4") and lists.picture().data != before


def test_every_refusal_is_legible_without_markup(lists):
    lists.rule.value = "top_group"
    lists.values["top_group"].value = 10.0
    assert "Not drawn" in lists.text
    assert lists.line.value.count("<") == 2, "the span alone"


class Line(Explorer):
    """One line: what every explorer is, and no more."""

    def __init__(self, **settings):
        self.height = slider(widgets.FloatSlider, "height", 0.5, 0.0, 1.0)
        self.twice = slider(widgets.FloatSlider, "twice", 1.0, 0.0, 2.0)
        self.drawn = 0
        super().__init__([self.height, self.twice], **settings)

    def _draw(self, figure):
        self.drawn += 1
        self.twice.value = 2 * self.height.value
        if self.height.value > 0.9:
            raise ValueError("height is above 0.9")
        figure.subplots().plot([0, self.height.value])
        return f"A line to {self.height.value:g}."


def test_a_change_draws_once_and_so_does_what_drawing_sets():
    line = Line()
    assert line.drawn == 1
    line.height.value = 0.25
    assert line.drawn == 2 and line.twice.value == 0.5 and line.text == "A line to 0.25."


def test_any_number_of_changes_in_a_hold_draw_one_picture():
    line = Line()
    with line.hold():
        line.height.value = 0.1
        with line.hold():
            line.height.value = 0.2
        line.twice.value = 0.0
        assert line.drawn == 1
    assert line.drawn == 2 and line.text == "A line to 0.2."
    with pytest.raises(RuntimeError), line.hold():
        line.height.value = 0.3
        raise RuntimeError
    assert line.text == "A line to 0.3.", "what was set before is seen"


def test_a_refusal_leaves_the_last_picture_and_the_next_change_is_drawn():
    line = Line()
    before = line.picture().data
    line.height.value = 1.0
    assert line.text == "Not drawn: height is above 0.9." and line.picture().data == before
    assert line.text in line.line.value
    line.height.value = 0.8
    assert line.text == "A line to 0.8." and line.picture().data != before


def test_a_first_setting_that_cannot_be_drawn_is_refused_at_the_door():
    class High(Line):
        def _draw(self, figure):
            raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        High()
    two = SensitivityData(values=(2.0, 1.0), standard_errors=(0.1, 0.1))
    with pytest.raises(ValueError, match="asks for 1 dropped layers"):
        ListsExplorer(two, saving=0.5)


@pytest.mark.parametrize("size", [(6.0, 3.0), (7.2, 5.4), (4.0, 4.0)])
def test_a_figure_of_any_size_is_as_wide_as_it_is_shown(size):
    image = pixels(Line(size_inches=size))
    assert image.shape[:2] == (round(720 * size[1] / size[0]), 720)


def test_buttons_stand_behind_the_controls_and_every_control_has_a_name():
    button = widgets.Button(description="do")
    line = Line(buttons=[button])
    _, controls, said, image = line.widget.children
    assert controls.children == (line.height, line.twice, button) and said is line.line
    assert all(child.description for child in controls.children)
    assert "sbld-picture" in image._dom_classes


def test_an_offer_keeps_the_choice_where_it_can():
    control = dropdown("of", ["a", "b"], value="b", labels={"a": "the first"})
    assert control.options == (("the first", "a"), ("b", "b")) and control.value == "b"
    offer(control, ["b", "c"])
    assert control.value == "b"
    offer(control, ["c", "d"])
    assert control.value == "c"
    assert dropdown("none yet").value is None
