from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sbldlib.dropping.curves import VarianceCurve
from sbldlib.dropping.pwegd import PWEGD
from sbldlib.dropping.variance import CONSTANT, FITTED, LEAST_WHERE_HIGH, MOST_WHERE_HIGH
from sbldlib.panels.pwegd_explorer import PWEGDExplorer

PROGRESS = np.linspace(0, 1, 60)
WINDOW = 3 / 60


def measured(noise: float = 0.1) -> VarianceCurve:
    rng = np.random.default_rng(0)
    variance = 0.01 * PWEGD((1.0, 0.0, 8.0), 2.5, 0.12).pdf(PROGRESS + WINDOW)
    variance = variance * rng.gamma(1 / noise**2, noise**2, 60)
    return VarianceCurve(progress=tuple(PROGRESS), variance=tuple(variance), window=WINDOW)


@pytest.fixture
def explorer() -> PWEGDExplorer:
    return PWEGDExplorer(measured(), saving=0.3)


def pixels(explorer: PWEGDExplorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.picture().data)).convert("RGB")).astype(int)


def test_the_sliders_are_the_parameters_and_the_height_is_fitted(explorer):
    explorer.shape.value, explorer.scale.value = 1.7, 0.25
    explorer.coefficients[0].value, explorer.coefficients[2].value = 0.25, 0.75
    hand = explorer.by_hand
    assert (hand.shape, hand.scale, hand.coefficients) == (1.7, 0.25, (0.25, 0.0, 0.75))
    residual = np.array(measured().variance) - hand(PROGRESS)
    assert residual @ hand(PROGRESS) == pytest.approx(0, abs=1e-12)  # no other height is better
    assert hand.quality.r2 < explorer.least_squares.quality.r2


def test_the_text_names_both_qualities_and_what_the_schedule_is(explorer):
    explorer.set_to_fit()
    best = explorer.least_squares.quality
    assert explorer.by_hand.quality.rmse == pytest.approx(best.rmse, rel=1e-6)
    assert explorer.text.count(f"R² {best.r2:.2f}, RMSE {best.rmse:.3g}") == 2
    assert "mean 0.70" in explorer.text and "constant" not in explorer.text
    assert explorer.text.split(".")[0] in explorer.line.value


def test_a_curve_no_better_than_a_constant_makes_a_constant(explorer):
    explorer.shape.value, explorer.scale.value = 150.0, 0.05  # its peak is far beyond the run
    assert explorer.scheduler.reason == CONSTANT
    assert set(explorer.scheduler.tabulate(9)) == {0.7}
    assert "no better than a constant, so it is one" in explorer.text
    explorer.take_fit.click()
    assert explorer.scheduler.reason == FITTED


@pytest.mark.parametrize("saving", [0.0, 0.1, 0.5])
def test_the_schedule_follows_saving_and_direction_with_its_mean_exact(explorer, saving):
    explorer.set_to_fit()
    explorer.saving.value = saving
    least = explorer.scheduler.tabulate(200)
    explorer.direction.value = MOST_WHERE_HIGH
    most = explorer.scheduler.tabulate(200)
    assert least.mean() == pytest.approx(1 - saving) and most.mean() == pytest.approx(1 - saving)
    assert saving == 0 or np.corrcoef(least, most)[0, 1] < -0.5


@pytest.mark.parametrize("name", ["shape", "scale", "saving", "direction"])
def test_every_control_draws_another_picture(explorer, name):
    explorer.set_to_fit()
    before = pixels(explorer)
    control = getattr(explorer, name)
    control.value = MOST_WHERE_HIGH if name == "direction" else control.value * 0.7
    assert (pixels(explorer) != before).any()


def test_taking_the_fit_draws_once(explorer, monkeypatch):
    drawn = []
    draw = explorer._draw
    monkeypatch.setattr(explorer, "_draw", lambda figure: drawn.append(1) or draw(figure))
    explorer.set_to_fit()
    assert len(drawn) == 1


def test_no_coefficient_at_all_is_said_and_the_picture_stays(explorer):
    before = explorer.picture().data
    explorer.coefficients[0].value = 0.0
    assert "must hold at least one value above 0" in explorer.line.value
    assert explorer.picture().data == before
    explorer.coefficients[1].value = 0.5
    assert "By hand" in explorer.line.value and explorer.picture().data != before


def test_a_curve_that_begins_at_zero_allows_no_pole():
    curve = VarianceCurve(progress=tuple(PROGRESS), variance=tuple(PROGRESS**2))
    explorer = PWEGDExplorer(curve, degree=1)
    assert explorer.shape.min == 0.0 and len(explorer.coefficients) == 2  # 10^0
    explorer.set_to_fit()
    assert explorer.by_hand.quality.r2 > 0.99


def test_the_lists_bound_the_saving():
    explorer = PWEGDExplorer(measured(), saving=0.2, mean_keep_min=0.75)
    assert explorer.saving.max == 0.25
    explorer.saving.value = 0.25
    assert explorer.scheduler.tabulate(5).tolist() == pytest.approx([0.75] * 5)
    with pytest.raises(ValueError, match=r"saving=0.3 is outside \[0, 0.25\]"):
        PWEGDExplorer(measured(), saving=0.3, mean_keep_min=0.75)
    assert explorer.direction.value == LEAST_WHERE_HIGH


def test_the_picture_is_legible_and_small(explorer):
    image = pixels(explorer)
    assert image.shape[1] == 720 and len(explorer.picture().data) < 200_000
