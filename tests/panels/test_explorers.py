"""The explorers of sensitivities and lists, driven without a browser."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sbldlib.dropping.allocation import update_keep_probability
from sbldlib.dropping.lists import RULES, create_block_allow_lists
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
