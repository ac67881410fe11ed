"""Estimators side by side, driven without a browser."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sbldlib.panels.estimators_explorer import EstimatorsExplorer
from sbldlib.records import SensitivityData
from sbldlib.sensitivity import agreement, data_from_samples


def measured(values, seed: int = 0) -> SensitivityData:
    generator = np.random.default_rng(seed)
    samples = np.asarray(values)[:, None] + 0.3 * generator.standard_normal((len(values), 9))
    return data_from_samples(samples.tolist(), method="of a test", unit="points")


MEASURED = {
    "one": measured([9.0, 5, 7, 3, 1]),
    "same": measured([90.0, 50, 70, 30, 10], seed=1),
    "other": measured([9.0, 1, 7, 3, 5], seed=2),
}


@pytest.fixture
def explorer() -> EstimatorsExplorer:
    return EstimatorsExplorer(MEASURED)


def pixels(explorer: EstimatorsExplorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.picture().data)).convert("RGB")).astype(int)


def test_the_correlation_and_its_interval_are_the_agreements(explorer):
    assert explorer.agreement == agreement(MEASURED)
    explorer.second.value = "other"
    rho, low, high = explorer.agreement.pair("one", "other")
    tau = explorer.agreement.pair("one", "other", of="kendall")[0]
    assert f"A one, B other: Spearman's ρ {rho:.2f} [{low:.2f}, {high:.2f}]" in explorer.text
    assert f"Kendall's τ {tau:.2f}" in explorer.text and "over 5 layers" in explorer.text
    holds = "holds 0" if low <= 0 <= high else "does not hold 0"
    assert f"(95%, over batches) {holds}." in explorer.text
    assert "Spearman&#x27;s ρ" in explorer.line.value and 'role="status"' in explorer.line.value


def test_the_layers_that_two_rank_most_unlike_are_named(explorer):
    assert explorer.text.endswith("Both give one order.")
    explorer.second.value = "other"
    assert explorer.text.endswith("farthest apart for layer 1 (A 3, B 5), layer 4 (A 5, B 3).")
    explorer.first.value, explorer.second.value = "other", "one"
    assert explorer.text.endswith("farthest apart for layer 1 (A 5, B 3), layer 4 (A 3, B 5).")


def test_every_control_draws_another_picture(explorer):
    for control, value in ((explorer.shown, "value"), (explorer.second, "other")):
        before = pixels(explorer)
        control.value = value
        assert (pixels(explorer) != before).any()
    before = pixels(explorer)
    explorer.first.value = "same"
    assert (pixels(explorer) != before).any()


def test_one_against_itself_is_refused_and_the_picture_stays(explorer):
    before = explorer.picture().data
    explorer.second.value = "one"
    assert explorer.text == "Not drawn: A and B are both one; choose two."
    assert explorer.picture().data == before
    explorer.first.value = "other"
    assert explorer.text.startswith("A other, B one")


@pytest.mark.parametrize("given", [{}, {"one": MEASURED["one"]}])
def test_less_than_two_are_refused(given):
    with pytest.raises(ValueError, match=r"must hold two estimators or more"):
        EstimatorsExplorer(given)


def test_long_names_and_many_layers_leave_room_for_the_picture():
    deep = {name: measured(range(24), seed) for seed, name in enumerate(("x" * 500, "y" * 500))}
    image = pixels(EstimatorsExplorer(deep))
    assert image.shape[1] == 720 and image.shape[0] > 700
