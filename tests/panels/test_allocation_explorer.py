"""The explorer of keep-probability lists, driven without a browser."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from small import gpt

from sbldlib.dropping.allocation import lowest_mean_keep, update_keep_probability
from sbldlib.dropping.lists import create_block_allow_lists
from sbldlib.methods import METHODS, adjust_probability, make_method
from sbldlib.panels.allocation_explorer import AllocationExplorer, largest_saving
from sbldlib.records import SensitivityData

DATA = SensitivityData(
    values=(0.9, 0.4, 0.1, 0.3, 0.2, 0.15, 0.25, 0.05), standard_errors=(0.01,) * 8
)


@pytest.fixture
def explorer() -> AllocationExplorer:
    return AllocationExplorer(8, DATA)


def pixels(explorer: AllocationExplorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.picture().data)).convert("RGB")).astype(int)


def names(explorer: AllocationExplorer) -> set[str]:
    return {value for _, value in explorer.method.options}


def test_the_list_is_the_allocations_and_its_mean_is_the_asked_one(explorer):
    for weight in ("rank", "value", "equal"):
        explorer.weight.value = weight
        assert explorer.keep_probability == update_keep_probability(DATA, 0.75, weight=weight)
        assert np.mean(explorer.keep_probability) == pytest.approx(0.75, abs=1e-12)
        assert f"weight by {weight}" in explorer.text
        assert "mean 0.75 (asked 0.75)" in explorer.text
    assert explorer.text in explorer.line.value


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_every_method_that_allocates_is_drawn_as_it_would_train(explorer, name):
    explorer.method.value, explorer.saving.value, explorer.progress.value = name, 0.2, 0.3
    method = make_method(name, gpt(8), saving=0.2, sensitivity_data=DATA)
    assert explorer.keep_probability == pytest.approx(method.keep_probability(0.3))
    assert explorer.text.startswith(name) and "Not drawn" not in explorer.text
    assert ("Every layer runs forward" in explorer.text) == (name in ("dropbp", "freezing"))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_the_largest_saving_is_held_and_what_is_above_it_refused(explorer, name):
    explorer.method.value = name
    most, model = explorer.largest_saving, gpt(8)
    make_method(name, model, saving=most, sensitivity_data=DATA)
    with pytest.raises(ValueError, match=r"saving|hold|mean_keep"):
        make_method(name, model, saving=most + 1e-4, sensitivity_data=DATA)
    assert f"{name} can save up to {most:.3f} on 8 layers" in explorer.text


def test_sbld_holds_what_its_lists_hold(explorer):
    lists = create_block_allow_lists(DATA)
    assert explorer.largest_saving == pytest.approx(1 - lowest_mean_keep(lists), abs=1e-5)


def test_a_saving_that_cannot_be_held_is_said_and_the_picture_stays(explorer):
    before = explorer.picture().data
    explorer.saving.value = 0.7
    assert explorer.text == (
        "Not drawn: mean_keep=0.3 asks for 5.6 dropped layers an iteration; the 6 layers that may "
        "be dropped hold 5.4 at drop_max=0.9. Raise mean_keep to 0.325 or more, or block fewer "
        "layers; sbld can save up to 0.675 on 8 layers."
    )
    assert (
        explorer.line.value.startswith('<div role="status"') and ">Not drawn" in explorer.line.value
    )
    assert explorer.picture().data == before
    explorer.saving.value = 0.6
    assert explorer.text.startswith("sbld") and explorer.picture().data != before


def test_controls_of_no_use_are_hidden(explorer):
    moving = {"pld", "dont_drop_dropout", "raptr", "freezing"}
    for name in names(explorer):
        explorer.method.value = name
        assert (explorer.weight.layout.display == "") == (name == "sbld")
        assert (explorer.progress.layout.display == "") == (name in moving)
    explorer.method.value, explorer.saving.value = "uniform", 0.85
    explorer.method.value = "pld"  # a method that refuses shows its own controls all the same
    assert "Not drawn" in explorer.text and explorer.progress.layout.display == ""


def test_progress_moves_what_moves(explorer):
    explorer.method.value = "dont_drop_dropout"
    explorer.progress.value = 0.0
    start, before = explorer.keep_probability, pixels(explorer)
    explorer.progress.value = 1.0
    assert set(explorer.keep_probability) == {1.0} and min(start) < 0.5
    assert (pixels(explorer) != before).any()


def test_without_sensitivities_sbld_is_not_offered():
    bare = AllocationExplorer(5)
    assert names(bare) == set(METHODS) - {"none", "sbld"} and bare.method.value == "uniform"
    assert bare.keep_probability == pytest.approx((0.75,) * 5)
    assert bare.weight.layout.display == "none"


def test_a_model_gives_its_number_of_layers_and_stays_as_it_was():
    model = gpt(6)
    method = make_method("uniform", model, saving=0.1)
    explorer = AllocationExplorer(model)
    assert len(explorer.keep_probability) == 6
    adjust_probability(model, 0.5)
    assert method.schedule(0.0) == 0.5, "the method that was at work there still is"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"subject": 1}, r"subject=1 must be at least 2"),
        ({"subject": 1000}, r"subject=1000 must be at most 100"),
        ({"subject": 7, "sensitivity_data": DATA}, r"sensitivity_data.*8.*7"),
        ({"subject": 8, "method": "sbld"}, r"method='sbld' is not known"),
        ({"subject": 8, "method": "none"}, r"method='none' is not known"),
        ({"subject": 8, "saving": 0.95}, r"saving=0.95 is outside \[0, 0.9\]"),
        ({"subject": 8, "progress": 2}, r"progress=2 is outside \[0, 1\]"),
        ({"subject": 8, "sensitivity_data": DATA, "saving": 0.8}, r"up to 0.675 on 8 layers"),
    ],
)
def test_what_is_wrong_is_said_at_the_door(given, message):
    with pytest.raises(ValueError, match=message):
        AllocationExplorer(**given)


def test_the_search_ends_just_below_what_is_refused():
    def make(saving):
        if saving > 0.3:
            raise ValueError("too much")
        return None

    assert largest_saving(make) == pytest.approx(0.3, abs=2e-6)
    assert largest_saving(make) <= 0.3


def test_the_picture_is_small_and_as_wide_as_it_is_shown():
    explorer = AllocationExplorer(100)
    assert pixels(explorer).shape[1] == 720 and len(explorer.picture().data) < 100_000
