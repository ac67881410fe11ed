import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from sbldlib.dropping.pwegd import PWEGD
from sbldlib.dropping.pwegd_fit import fit_amplitude, fit_pwegd, fit_rivals

PROGRESS = np.linspace(0, 1, 120)
EXAMPLES = [((1.0,), 2.5, 0.3), ((1.0, 2.0, 3.0), 1.0, 0.2), ((0.0, 0.0, 4.0), 0.7, 1.5)]
parameters = st.tuples(
    st.lists(st.floats(0, 10), min_size=1, max_size=4).filter(lambda a: max(a) > 1e-3),
    st.floats(0.3, 30),
    st.floats(0.01, 5),
)
few = settings(deadline=None, max_examples=30, derandomize=True)


def noise(seed, num_points=120, half=0):
    """Squared gaussian gaps around a constant, through a running mean of 2 half + 1 points."""
    squares = np.random.default_rng(seed).standard_normal((3, num_points + 2 * half)) ** 2
    return np.convolve(squares.mean(axis=0), np.ones(2 * half + 1) / (2 * half + 1), "valid")


@few
@given(parameters)
def test_density_integrates_to_its_cdf_and_to_one(given_parameters):
    density = PWEGD(*given_parameters)
    cuts = [0.0, *density.ppf([0.2, 0.5, 0.9]), float(density.isf(1e-12))]
    pieces = [integrate.quad(density.pdf, a, b)[0] for a, b in itertools.pairwise(cuts)]
    assert sum(pieces) == pytest.approx(1, abs=1e-6)
    assert np.cumsum(pieces) == pytest.approx(density.cdf(cuts[1:]), abs=1e-6)
    assert density.cdf(cuts) + density.sf(cuts) == pytest.approx(1, abs=1e-12)


@few
@given(parameters)
def test_moments_agree_with_numerical_integration(given_parameters):
    density = PWEGD(*given_parameters)
    end = float(density.isf(1e-14))
    middle = density.median()

    def moment(power):
        def weighted(x):
            return x**power * density.pdf(x)

        return integrate.quad(weighted, 0, middle)[0] + integrate.quad(weighted, middle, end)[0]

    mean, variance, skewness = (float(m) for m in density.stats(moments="mvs"))
    assert mean == pytest.approx(moment(1), rel=1e-5)
    assert variance == pytest.approx(moment(2) - moment(1) ** 2, rel=1e-4)
    central = moment(3) - 3 * mean * moment(2) + 2 * mean**3
    assert skewness == pytest.approx(central / variance**1.5, rel=1e-2, abs=1e-3)


@few
@given(parameters)
def test_the_density_is_the_stated_formula_and_the_stated_mixture(given_parameters):
    coefficients, shape, scale = given_parameters
    density = PWEGD(coefficients, shape, scale)
    x = np.linspace(0.1, 3, 15) * scale * shape
    kernel = np.polyval(coefficients[::-1], x) * (x / x[0]) ** (shape - 1) * np.exp(-x / scale)
    kept = kernel > 1e-200
    ratio = density.pdf(x[kept]) / kernel[kept]
    assert ratio == pytest.approx(np.full(len(ratio), ratio[0]), rel=1e-8)
    mixture = sum(
        weight * stats.gamma.pdf(x, shape + j, scale=scale)
        for j, weight in enumerate(density.weights)
    )
    assert density.pdf(x) == pytest.approx(mixture, rel=1e-8)
    parts = sum(w * density.component(j).pdf(x) for j, w in enumerate(density.weights))
    assert density.pdf(x) == pytest.approx(parts, rel=1e-8)
    assert sum(density.weights) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("shape", "scale"), [(0.5, 0.3), (1.0, 2.0), (40.0, 0.01)])
def test_degree_zero_is_scipys_gamma(shape, scale):
    ours, theirs = PWEGD((3.0,), shape, scale), stats.gamma(shape, scale=scale)
    x = np.linspace(0, 3 * shape * scale, 30)
    assert ours.pdf(x) == pytest.approx(theirs.pdf(x), rel=1e-10)
    assert ours.logpdf(x[1:]) == pytest.approx(theirs.logpdf(x[1:]), rel=1e-10)
    assert ours.cdf(x) == pytest.approx(theirs.cdf(x), rel=1e-10)
    assert ours.ppf([0.1, 0.9]) == pytest.approx(theirs.ppf([0.1, 0.9]), rel=1e-8)
    assert [*ours.stats(moments="mvsk")] == pytest.approx([*theirs.stats(moments="mvsk")], rel=1e-6)


@few
@given(parameters, st.floats(0.2, 5))
def test_a_common_factor_changes_nothing_and_the_scale_is_the_unit(given_parameters, factor):
    coefficients, shape, scale = given_parameters
    density = PWEGD(coefficients, shape, scale)
    x = density.ppf([0.1, 0.5, 0.9])
    times = PWEGD([factor * a for a in coefficients], shape, scale)
    assert times.cdf(x) == pytest.approx(density.cdf(x), abs=1e-12)
    # the same weights in another unit of x
    units = PWEGD([a / factor**j for j, a in enumerate(coefficients)], shape, factor * scale)
    assert units.weights == pytest.approx(density.weights, abs=1e-12)
    assert units.mean() == pytest.approx(factor * density.mean())
    assert units.cdf(factor * x) == pytest.approx(density.cdf(x), abs=1e-12)


@few
@given(st.floats(0.3, 50), st.floats(0.01, 5), st.integers(1, 3))
def test_the_last_coefficient_alone_is_scipys_gamma_of_a_raised_shape(shape, scale, degree):
    ours = PWEGD((0.0,) * degree + (2.0,), shape, scale)
    theirs = stats.gamma(shape + degree, scale=scale)
    x = theirs.ppf([0.01, 0.3, 0.7, 0.99])
    assert ours.pdf(x) == pytest.approx(theirs.pdf(x), rel=1e-9)
    assert ours.cdf(x) == pytest.approx(theirs.cdf(x), rel=1e-9)
    assert ours.mean() == pytest.approx(theirs.mean())
    drawn = ours.rvs(size=2000, random_state=1)
    assert drawn.mean() == pytest.approx(theirs.mean(), abs=5 * theirs.std() / math.sqrt(2000))


@pytest.mark.parametrize("example", EXAMPLES)
def test_samples_follow_the_cdf(example):
    density = PWEGD(*example)
    samples = density.rvs(size=4000, random_state=3)
    assert stats.kstest(samples, density.cdf).pvalue > 0.01
    wrong = PWEGD(example[0], example[1] * 1.2, example[2])
    assert stats.kstest(samples, wrong.cdf).pvalue < 1e-6


def test_sampling_is_seeded_and_leaves_global_state_alone():
    density = PWEGD(*EXAMPLES[1])
    before = np.random.get_state()[1].copy()
    first = density.rvs(size=(2, 3), random_state=7)
    assert first.shape == (2, 3)
    assert (first == density.rvs(size=(2, 3), random_state=np.random.RandomState(7))).all()
    assert (np.random.get_state()[1] == before).all()
    assert density.random_state is not np.random.mtrand._rand  # scipy's own default
    with pytest.raises(ValueError, match="random_state=None"):
        density.rvs(size=2)


def test_freezing_with_a_location_keeps_the_parameters():
    density = PWEGD(*EXAMPLES[1])
    frozen = density(loc=2.0)
    assert frozen.mean() == pytest.approx(density.mean() + 2)
    assert frozen.pdf(2.5) == pytest.approx(density.pdf(0.5))


def test_the_edge_at_zero():
    assert PWEGD((1.0,), 0.5, 1.0).pdf(0) == math.inf
    assert PWEGD((0.0, 1.0), 0.5, 1.0).pdf(0) == 0
    assert PWEGD((1.0, 5.0), 1.0, 1.0).pdf(0) == pytest.approx(1 / 6)
    assert PWEGD((1.0,), 2.0, 1.0).pdf([-1, 0]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1.0, -0.5), 1, 1), r"coefficients\[1\]=-0.5 must be >= 0"),
        (((0.0, 0.0), 1, 1), r"coefficients=\(0.0, 0.0\) must hold"),
        (((), 1, 1), r"coefficients=\(\)"),
        (((1.0, math.nan), 1, 1), r"coefficients\[1\]=nan must be finite"),
        (((1.0,), 0, 1), r"shape=0 is outside"),
        (((1.0,), math.inf, 1), r"shape=inf is outside"),
        (((1.0,), 1, -2), r"scale=-2 is outside"),
        (((1.0,), 1, math.nan), r"scale=nan is outside"),
    ],
)
def test_bad_parameters_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        PWEGD(*arguments)


@pytest.mark.parametrize(
    ("coefficients", "shape", "scale", "shift"),
    [
        ((1, 0, 0), 1.0, 0.2, 0.05),
        ((1, 0, 2), 0.7, 0.3, 0.05),
        ((1, 1, 1), 2.0, 0.2, 0.0),
        ((1, 0, 3), 1.5, 5.0, 0.0),
        ((1, 0, 0), 60.0, 0.01, 0.0),
        ((1, 0, 100), 1.0, 0.08, 0.05),
    ],
)
def test_the_fit_recovers_known_curves(coefficients, shape, scale, shift):
    density = PWEGD(coefficients, shape, scale)
    variance = 0.03 * density.pdf(PROGRESS + shift)
    fit = fit_pwegd(PROGRESS, variance, window=shift, num_starts=4)
    assert fit.quality.r2 > 0.9999
    assert fit.shift == shift
    assert fit(PROGRESS) == pytest.approx(variance, abs=1e-3 * variance.max())
    assert fit.amplitude == pytest.approx(variance.max(), rel=1e-3)
    assert fit.peak == PROGRESS[variance.argmax()]
    assert fit.carries_signal
    # the fitted density is the same curve up to one factor
    ratio = fit.distribution.pdf(PROGRESS[1:] + shift) / density.pdf(PROGRESS[1:] + shift)
    kept = variance[1:] > 0.05 * variance.max()
    assert ratio[kept] == pytest.approx(np.full(kept.sum(), ratio[kept][0]), rel=1e-2)


def test_noise_on_a_known_curve_leaves_its_shape():
    clean = PWEGD((1,), 4.0, 0.1).pdf(PROGRESS)
    noisy = clean * np.random.default_rng(0).gamma(20, 1 / 20, size=len(clean))
    fit = fit_pwegd(PROGRESS, noisy, num_starts=4)
    assert fit.carries_signal
    assert np.abs(fit(PROGRESS) - clean).max() < 0.15 * clean.max()


def rival_forms():
    """Each rival as a plain function of x with starting parameters, for scipy's curve_fit."""
    return {
        "gamma": (lambda x, a, q, b: a * stats.gamma.pdf(x, q, scale=b), (0.5, 2.0, 0.3)),
        "log_normal": (lambda x, a, s, m: a * stats.lognorm.pdf(x, s, scale=m), (0.5, 0.7, 0.4)),
        "exponential": (lambda x, a, b: a * np.exp(-x / b), (1.0, 1.0)),
        "polynomial": (lambda x, *c: np.polyval(c, x), (0.0,) * 5),
        "constant": (lambda x, a: np.full_like(x, a), (1.0,)),
    }


@pytest.mark.parametrize("name", ["gamma", "log_normal", "exponential", "polynomial", "constant"])
def test_each_rival_is_as_good_as_a_direct_scipy_fit(name):
    rng = np.random.default_rng(1)
    variance = stats.gamma.pdf(PROGRESS + 0.05, 2.2, scale=0.2) * rng.gamma(9, 1 / 9, 120)
    fit = fit_pwegd(PROGRESS, variance, window=0.05, num_starts=4)
    form, start = rival_forms()[name]
    x = PROGRESS + fit.shift
    values, _ = optimize.curve_fit(form, x, variance, p0=start, maxfev=20000)
    residual = variance - form(x, *values)
    mean_square = np.mean(residual**2)
    rival = fit.rivals[name]
    assert rival.num_parameters == len(start)
    assert rival.rmse == pytest.approx(math.sqrt(mean_square), rel=1e-4)
    assert rival.r2 == pytest.approx(1 - mean_square / variance.var(), abs=1e-4)
    assert fit.num_independent == pytest.approx(20)
    assert rival.aic == pytest.approx(20 * math.log(mean_square) + 2 * len(start), abs=1e-2)
    assert fit.quality.r2 >= fit.rivals["gamma"].r2 - 1e-9  # the gamma is nested in it


@pytest.mark.parametrize("seed", [1, 5])
def test_the_rivals_curves_are_those_whose_quality_was_told(seed):
    rng = np.random.default_rng(seed)
    variance = 0.04 * stats.gamma.pdf(PROGRESS + 0.05, 2.2, scale=0.2) * rng.gamma(9, 1 / 9, 120)
    fit = fit_pwegd(PROGRESS, variance, window=0.05, num_starts=3, seed=seed)
    rivals = fit_rivals(PROGRESS, variance, window=0.05, num_starts=3, seed=seed)
    assert rivals.keys() == fit.rivals.keys()
    for name, values in rivals.items():
        rmse = math.sqrt(np.mean((variance - values) ** 2))
        assert rmse == pytest.approx(fit.rivals[name].rmse, rel=1e-9)
    ours = math.sqrt(np.mean((variance - fit(PROGRESS)) ** 2))
    assert ours == pytest.approx(fit.quality.rmse, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_pwegd_is_as_good_as_a_direct_scipy_fit(seed):
    rng = np.random.default_rng(seed)
    truth = PWEGD((1, 0, rng.uniform(1, 60)), rng.uniform(0.8, 3), rng.uniform(0.05, 0.3))
    variance = truth.pdf(PROGRESS + 0.05) * rng.gamma(25, 1 / 25, 120)
    fit = fit_pwegd(PROGRESS, variance, window=0.05)
    x = PROGRESS + 0.05

    def form(x, a0, a1, a2, q, b):
        return (a0 + a1 * x + a2 * x**2) * x ** (q - 1) * np.exp(-x / b)

    best = math.inf
    for start in ((1, 1, 1, 1.0, 0.2), (1, 0, 20, 1.5, 0.1), (5, 5, 50, 3.0, 0.1)):
        bounds = ([0, 0, 0, 0.1, 1e-3], [1e6, 1e6, 1e6, 200, 10])
        values, _ = optimize.curve_fit(form, x, variance, p0=start, bounds=bounds, max_nfev=5000)
        best = min(best, np.mean((variance - form(x, *values)) ** 2))
    assert fit.quality.rmse <= math.sqrt(best) * (1 + 1e-4)


def test_given_parameters_get_the_best_height_and_no_other_change():
    variance = noise(3, half=4) * PROGRESS
    fit = fit_amplitude(
        PROGRESS, variance, coefficients=(2.0, 0.0, 6.0), shape=1.5, scale=0.3, window=0.05
    )
    assert (fit.coefficients, fit.shape, fit.scale) == ((0.25, 0.0, 0.75), 1.5, 0.3)
    assert fit.quality.num_parameters == 5 and set(fit.rivals) == {"constant"}
    x = PROGRESS + fit.shift
    kernel = (2 + 6 * x**2) * np.sqrt(x) * np.exp(-x / 0.3)
    (height,), *_ = np.linalg.lstsq(kernel[:, None], variance, rcond=None)
    assert fit(PROGRESS) == pytest.approx(height * kernel, rel=1e-9)
    assert fit.quality.rmse == pytest.approx(np.sqrt(np.mean((variance - height * kernel) ** 2)))
    found = fit_pwegd(PROGRESS, variance, window=0.05)
    again = fit_amplitude(
        PROGRESS, variance, coefficients=found.coefficients, shape=found.shape, scale=found.scale,
        window=0.05,
    )  # fmt: skip
    assert again.quality.rmse == pytest.approx(found.quality.rmse, rel=1e-6)
    assert found.quality.rmse <= fit.quality.rmse


def test_parameters_with_a_pole_on_the_curve_are_refused():
    from_zero = PROGRESS**2  # so that nothing is shifted
    with pytest.raises(ValueError, match=r"shape=0.5 must be at least 1"):
        fit_amplitude(PROGRESS, from_zero, coefficients=(1.0,), shape=0.5, scale=1.0)
    fit = fit_amplitude(PROGRESS, from_zero, coefficients=(0.0, 1.0), shape=0.5, scale=1.0)
    assert fit(0.0) == 0.0 and fit.shift == 0.0


def test_degree_zero_and_its_gamma_rival_are_the_same_fit():
    variance = noise(0, half=4) * PROGRESS
    fit = fit_pwegd(PROGRESS, variance, degree=0)
    assert fit.quality.num_parameters == fit.rivals["polynomial"].num_parameters == 3
    assert fit.quality.rmse == pytest.approx(fit.rivals["gamma"].rmse, rel=1e-6)


@pytest.mark.parametrize("half", [0, 4])
def test_noise_around_a_constant_carries_no_signal(half):
    window = (2 * half + 1) / 120 if half else 0.0
    fits = [
        fit_pwegd(PROGRESS, noise(seed, half=half), window=window, num_starts=2)
        for seed in range(20)
    ]
    assert sum(fit.carries_signal for fit in fits) <= 1


@pytest.mark.parametrize("level", [0.0, 0.3, 1e-12])
def test_a_constant_curve_is_no_error_and_carries_no_signal(level):
    fit = fit_pwegd(PROGRESS, np.full(120, level), num_starts=2)
    assert not fit.carries_signal
    assert fit.quality.r2 == fit.rivals["constant"].r2 == 0
    assert fit(PROGRESS) == pytest.approx(np.full(120, level), rel=1e-2, abs=1e-300)
    assert "no better than a constant" in fit.summary()
    json.dumps(fit.to_dict(), allow_nan=False)


@pytest.mark.parametrize("factor", [1e-200, 1e100])
def test_the_unit_of_the_variance_does_not_matter(factor):
    variance = PWEGD((1,), 4.0, 0.1).pdf(PROGRESS) + 0.1
    one, other = (fit_pwegd(PROGRESS, f * variance, num_starts=2) for f in (1.0, factor))
    assert other.quality.r2 == pytest.approx(one.quality.r2, abs=1e-6)
    assert other.amplitude == pytest.approx(factor * one.amplitude, rel=1e-4)
    gap = one.rivals["constant"].aic - one.quality.aic
    assert other.rivals["constant"].aic - other.quality.aic == pytest.approx(gap, abs=0.1)


def test_the_fit_is_reproducible_and_says_what_it_found():
    variance = PWEGD((1, 0, 5), 2.0, 0.1).pdf(PROGRESS)
    fit = fit_pwegd(PROGRESS, variance, seed=5, num_starts=3)
    assert fit == fit_pwegd(PROGRESS, variance, seed=5, num_starts=3)
    as_json = json.loads(json.dumps(fit.to_dict(), allow_nan=False))
    assert as_json["carries_signal"] is True
    assert as_json["rivals"]["exponential"]["num_parameters"] == 2
    assert math.fsum(as_json["coefficients"]) == pytest.approx(1)
    for word in ("log_normal", "polynomial", "carries signal", f"at {fit.peak:.2f} of the run"):
        assert word in fit.summary()
    assert isinstance(fit(0.5), float)


def changed(index, value):
    values = np.linspace(0, 1, 20)
    values[index] = value
    return values


GOOD = np.linspace(0, 1, 20)


@pytest.mark.parametrize(
    ("progress", "variance", "message"),
    [
        (GOOD, changed(3, math.nan), r"variance\[3\]=nan must be finite"),
        (changed(3, math.inf), GOOD, r"progress\[3\]=inf must be finite"),
        (GOOD, changed(4, -0.25), r"variance\[4\]=-0.25 must be >= 0"),
        (GOOD, GOOD[:-1], "variance has 19 points, progress has 20"),
        (GOOD[:6], GOOD[:6], "variance has 6 points; at least 7 are needed"),
        (GOOD[[0, -1]], GOOD[:2], "variance has 2 points; at least 7 are needed"),
        (changed(-1, 1.5), GOOD, r"progress\[19\]=1.5 must be in \[0, 1\]"),
        (changed(0, -0.5), GOOD, r"progress\[0\]=-0.5 must be in \[0, 1\]"),
        (changed(5, GOOD[4]), GOOD, r"progress\[5\]=0.210526 must be above"),
    ],
)
def test_degenerate_curves_are_named(progress, variance, message):
    with pytest.raises(ValueError, match=message):
        fit_pwegd(progress, variance)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"degree": -1}, "degree=-1 must be at least 0"),
        ({"degree": 1.5}, "degree=1.5 must be a whole number"),
        ({"window": 1.5}, r"window=1.5 is outside \[0, 1\]"),
        ({"num_starts": 0}, "num_starts=0 must be at least 1"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
    ],
)
def test_bad_options_are_named(keywords, message):
    with pytest.raises(ValueError, match=message):
        fit_pwegd(GOOD, GOOD, **keywords)
