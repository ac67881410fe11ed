from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from plotted import made_summary

from sbldlib.panels.comparison_explorer import ComparisonExplorer


@pytest.fixture
def explorer() -> ComparisonExplorer:
    return ComparisonExplorer(made_summary())


def pixels(explorer: ComparisonExplorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.picture().data)).convert("RGB")).astype(int)


def values(control) -> list[str]:
    return [value for _, value in control.options]


def test_the_choices_are_what_the_summary_holds(explorer):
    assert values(explorer.table) == ["steps", "flops"]
    assert values(explorer.metric) == ["validation_loss", "accuracy"]
    assert values(explorer.reference) == ["full depth", "shallower", "uniform", "sbld"]
    assert explorer.reference.value == "full depth"


def test_the_text_sorts_the_arms_by_verdict(explorer):
    assert explorer.text == (
        "Equal steps, loss on new text, against full depth, 3 seed(s). "
        "Resolved lower: sbld; higher: uniform; unresolved: shallower."
    )
    assert explorer.text in explorer.line.value


def test_another_reference_turns_the_differences(explorer):
    before = explorer.differences["sbld"]
    explorer.reference.value = "sbld"
    turned = explorer.differences["full depth"]
    assert turned.mean == pytest.approx(-before.mean)
    assert (turned.low, turned.high) == pytest.approx((-before.high, -before.low))
    assert "sbld" not in explorer.differences


def test_a_choice_stays_where_the_next_table_has_it_and_falls_back_where_not(explorer):
    explorer.metric.value, explorer.reference.value = "accuracy", "shallower"
    explorer.table.value = "flops"
    assert (explorer.metric.value, explorer.reference.value) == ("accuracy", "shallower")
    explorer.table.value = "steps"
    explorer.reference.value = "uniform"  # the other table has no such arm
    explorer.table.value = "flops"
    assert explorer.reference.value == "full depth"
    assert set(explorer.differences) == {"shallower", "sbld"}


def test_an_arm_that_its_pre_analysis_used_up_is_neither_shown_nor_offered(explorer):
    explorer.table.value = "flops"
    assert "sbld, PWEGD" not in values(explorer.reference)
    assert "sbld, PWEGD" not in explorer.differences


@pytest.mark.parametrize(
    ("control", "value"), [("table", "flops"), ("metric", "accuracy"), ("reference", "sbld")]
)
def test_every_control_draws_another_picture_and_draws_it_once(
    explorer, monkeypatch, control, value
):
    before, drawn, draw = pixels(explorer), [], explorer._draw
    monkeypatch.setattr(explorer, "_draw", lambda figure: drawn.append(1) or draw(figure))
    getattr(explorer, control).value = value
    assert len(drawn) == 1
    assert (pixels(explorer) != before).any()


def test_the_picture_is_legible_and_small(explorer):
    assert pixels(explorer).shape[1] == 720 and len(explorer.picture().data) < 200_000
