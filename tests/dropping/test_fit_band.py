import numpy as np
import pytest

from sbldlib.dropping.fit_band import FitBand, fit_band
from sbldlib.dropping.variance import create_variance_based_scheduler
from sbldlib.records import PilotData

PROGRESS = np.linspace(0, 1, 80)


def pilot(peaks, *, noise=0.0):
    """Pairs whose squared gap is a hump around each of these places."""
    rng = np.random.default_rng(0)
    places = np.array(peaks)[:, None]
    squares = 0.02 * np.exp(-((PROGRESS - places) ** 2) / 0.05) + 0.002
    squares = squares * rng.gamma(1 / noise**2, noise**2, squares.shape) if noise else squares
    baseline = np.tile(4 - 2 * PROGRESS, (len(peaks), 1))
    return PilotData(
        baseline_losses=tuple(map(tuple, baseline)),
        dropping_losses=tuple(map(tuple, baseline + np.sqrt(squares))),
        seeds=tuple(range(len(peaks))),
        mean_keep=0.8,
        seconds=1.0,
    )


def test_pairs_that_agree_have_a_band_without_width():
    data = pilot([0.4] * 6)
    found = fit_band(data, num_bootstrap=20)
    fit = create_variance_based_scheduler(data).fit
    assert found.low == pytest.approx(found.high, abs=1e-5 * fit.amplitude)
    assert found.low == pytest.approx(fit(PROGRESS), abs=1e-4 * fit.amplitude)
    assert set(found.peaks) == {fit.peak} and found.peak_range == (fit.peak, fit.peak)
    assert found.signal_share == 1 and not found.is_too_narrow
    assert "too narrow" not in found.summary() and "6 pairs" in found.summary()


def test_the_spread_of_the_peak_is_that_of_the_pairs():
    near, far = fit_band(pilot([0.4, 0.45, 0.35])), fit_band(pilot([0.1, 0.5, 0.9]))
    widths = [high - low for low, high in (near.peak_range, far.peak_range)]
    assert widths[0] < 0.15 < 0.5 < widths[1]
    assert (np.array(far.low) <= far.high).all()
    # of three pairs, 27 equally likely resamples: every one of the pairs alone is among 200
    assert min(far.peaks) < 0.2 and max(far.peaks) > 0.8


def test_the_band_holds_the_fit_of_all_pairs_nearly_everywhere():
    data = pilot([0.35, 0.4, 0.45, 0.5, 0.4, 0.3], noise=0.4)
    found = fit_band(data, num_bootstrap=40, num_starts=2)
    values = create_variance_based_scheduler(data).fit(PROGRESS)
    inside = (np.array(found.low) <= values) & (values <= np.array(found.high))
    assert inside.mean() > 0.9
    assert len(found.peaks) == 40 and found.progress == pytest.approx(PROGRESS)


def test_it_is_seeded_and_survives_json():
    data = pilot([0.2, 0.5, 0.6], noise=0.3)
    found = fit_band(data, num_bootstrap=15, seed=4)
    assert found == fit_band(data, num_bootstrap=15, seed=4)
    assert found.peaks != fit_band(data, num_bootstrap=15, seed=5).peaks
    assert FitBand.from_json(found.to_json()) == found


@pytest.mark.parametrize(("num_pairs", "said"), [(2, "50% at most"), (3, "75% at most")])
def test_too_few_pairs_are_told(num_pairs, said):
    found = fit_band(pilot([0.3, 0.5, 0.6][:num_pairs]), num_bootstrap=20, num_starts=2)
    assert found.is_too_narrow and f"too narrow: {num_pairs} pair(s) can cover {said}" in (
        found.summary()
    )


def test_one_pair_has_no_band_and_says_so():
    found = fit_band(pilot([0.3]), num_bootstrap=5, num_starts=2)
    assert found.low is None and found.high is None and found.is_too_narrow
    assert "no band" in found.summary() and "one pair has no spread" in found.summary()


def test_noise_carries_no_signal_in_most_resamples():
    gaps = np.random.default_rng(1).normal(0, 0.1, size=(4, 80))
    losses = np.tile(np.full(80, 3.0), (4, 1))
    data = PilotData(
        baseline_losses=tuple(map(tuple, losses)), dropping_losses=tuple(map(tuple, losses + gaps)),
        seeds=(0, 1, 2, 3), mean_keep=0.8, seconds=1.0,
    )  # fmt: skip
    assert fit_band(data, num_bootstrap=30, num_starts=2).signal_share < 0.5


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"num_bootstrap": 0}, "num_bootstrap=0 must be at least 1"),
        ({"confidence": 1}, "confidence=1 is outside"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"window": 2}, "window=2 is outside"),
        ({"degree": -1}, "degree=-1 must be at least 0"),
    ],
)
def test_bad_options_are_named(keywords, message):
    with pytest.raises(ValueError, match=message):
        fit_band(pilot([0.3, 0.5]), **keywords)
