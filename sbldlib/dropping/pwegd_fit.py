"""Fits the PWEGD to a variance curve and holds it against simpler curves.

Legend: N points, K terms that enter linearly, x progress plus shift.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special

from ..errors import check_finite, check_positive_int, check_range
from .pwegd import PWEGD, log_kernel

# This far behind, a model has considerably less support (Burnham & Anderson 2002, section 2.6);
# smoothed noise around a constant passes it in one or two curves of a hundred.
SIGNAL_MARGIN = 4.0
_SHAPE_RANGE = (0.1, 200.0)
_SCALE_RANGE = (1e-3, 10.0)
_SIGMA_RANGE = (0.02, 10.0)
_FLOOR = 1e-12  # residuals below this share of the peak are rounding


@dataclass(frozen=True, kw_only=True)
class FitQuality:
    """How well one curve fits.

    Attributes:
        r2: share of the curve's variation explained; 0 where the curve does not vary.
        rmse: root mean squared residual, in the curve's unit.
        aic: N' log(mean squared residual) + 2 num_parameters, lower is better; N' is
            `PWEGDFit.num_independent`, because smoothed points repeat one another.
        num_parameters: numbers fitted.
    """

    r2: float
    rmse: float
    aic: float
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class PWEGDFit:
    """A fitted curve: progress in [0, 1] to variance.

    Attributes:
        amplitude: the fit's highest value at the fitted points, in the curve's unit.
        coefficients: a_0..a_m of `PWEGD`, >= 0, scaled to sum to 1.
        shape: q of `PWEGD`.
        scale: b of `PWEGD`, in units of progress.
        shift: added to progress before the distribution is read.
        peak: progress of the fitted point with the highest value.
        num_independent: N', the points that do not overlap in the smoothing window.
        quality: of this fit.
        rivals: gamma, log_normal, exponential, polynomial (as many parameters), constant.
    """

    amplitude: float
    coefficients: tuple[float, ...]
    shape: float
    scale: float
    shift: float
    peak: float
    num_independent: float
    quality: FitQuality
    rivals: dict[str, FitQuality]

    def __call__(self, progress: Any) -> Any:
        """Fitted variance at `progress`, a number or an array, in the curve's unit."""
        values = self.amplitude * np.exp(self._log_kernel(progress) - self._log_kernel(self.peak))
        return float(values) if values.ndim == 0 else values

    @property
    def distribution(self) -> PWEGD:
        """The fitted density over x = progress + shift."""
        return PWEGD(self.coefficients, self.shape, self.scale)

    @property
    def carries_signal(self) -> bool:
        """Whether the fit's AIC is more than `SIGNAL_MARGIN` below a constant's [O]."""
        return self.quality.aic + SIGNAL_MARGIN < self.rivals["constant"].aic

    def summary(self) -> str:
        """The fit, its rivals and the verdict, in a few lines of text."""
        rows = {"PWEGD": self.quality, **self.rivals}
        table = "\n".join(
            f"  {name:<11} R2 {row.r2:7.3f}  RMSE {row.rmse:9.3g}  AIC {row.aic:8.1f}"
            f"  parameters {row.num_parameters}"
            for name, row in rows.items()
        )
        gap = self.rivals["constant"].aic - self.quality.aic
        verdict = "carries signal" if self.carries_signal else "no better than a constant"
        return (
            f"PWEGD: highest value {self.amplitude:.3g} at {self.peak:.2f} of the run, "
            f"q={self.shape:.3g}, b={self.scale:.3g}, shift={self.shift:.3g}\n{table}\n"
            f"A constant's AIC less the fit's: {gap:.1f}, more than {SIGNAL_MARGIN:g} needed: "
            f"{verdict}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The fit as plain JSON types, with its verdict."""
        return {**asdict(self), "carries_signal": self.carries_signal}

    def _log_kernel(self, progress: Any) -> np.ndarray:
        x = np.asarray(progress, dtype=float) + self.shift
        return log_kernel(x, self.coefficients, self.shape, self.scale)


def fit_pwegd(
    progress: Iterable[float],
    variance: Iterable[float],
    *,
    degree: int = 2,
    window: float = 0.0,
    num_starts: int = 8,
    seed: int = 0,
) -> PWEGDFit:
    """Fit the PWEGD to a variance curve by bounded least squares from several starts.

    For given shape and scale the coefficients are a non-negative least squares problem with one
    answer, so only (log q, log b) are searched. The rivals are fitted by the same means.

    Args:
        progress: N increasing values in [0, 1], N >= degree + 5.
        variance: N finite values >= 0.
        degree: m, the polynomial's degree, >= 0.
        window: the smoothing window that the curve went through, as a share of the run in [0, 1];
            0 where it was not. N' counts one point a window; where variance[0] is not 0, x is
            shifted by one window, at least one step.
        num_starts: starts of each search, >= 1.
        seed: of the starts, >= 0.

    Returns:
        The best fit with its rivals. A constant curve is no error: `carries_signal` is False.

    Raises:
        ValueError: an argument is outside its range, or the curve is degenerate.

    Source: a fitted PWEGD [P]; the density, the search and the signal rule [O].
    """
    degree = check_positive_int("degree", degree, minimum=0)
    check_range("window", window, 0, 1)
    num_starts = check_positive_int("num_starts", num_starts)
    generator = np.random.default_rng(check_positive_int("seed", seed, minimum=0))
    progress, variance = check_curve(progress, variance, min_points=degree + 5)
    top = float(variance.max())
    y = variance / top if top > 0 else np.ones_like(variance)  # zeros: any shape, amplitude 0
    num_windows = (progress[-1] - progress[0]) / window if window > 0 else math.inf
    num_independent = float(min(len(progress), num_windows))
    shift = max(window, progress[1] - progress[0]) if variance[0] != 0 else 0.0
    curves = _Curves(progress + shift, y, generator, num_starts)
    gamma = curves.fit_gamma(degree=0)
    pwegd = curves.fit_gamma(degree=degree, extra_starts=[gamma.theta])
    highest = int(pwegd.values.argmax())

    def quality(values: np.ndarray, num_parameters: int) -> FitQuality:
        return _quality(y, values, top, num_parameters, num_independent)

    return PWEGDFit(
        amplitude=float(pwegd.values[highest]) * top,
        coefficients=tuple(special.softmax(pwegd.log_coefficients).tolist()),
        shape=math.exp(pwegd.theta[0]),
        scale=math.exp(pwegd.theta[1]),
        shift=float(shift),
        peak=float(progress[highest]),
        num_independent=num_independent,
        quality=quality(pwegd.values, degree + 3),
        rivals={
            "gamma": quality(gamma.values, 3),
            "log_normal": quality(curves.fit_log_normal().values, 3),
            "exponential": quality(curves.fit_exponential().values, 2),
            "polynomial": quality(curves.fit_polynomial(degree + 2), degree + 3),
            "constant": quality(np.full(len(y), y.mean()), 1),
        },
    )


def check_curve(
    progress: Iterable[float], variance: Iterable[float], *, min_points: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The curve as two float arrays, or ValueError naming the field and value that is wrong."""
    progress = np.array(check_finite("progress", progress))
    variance = np.array(check_finite("variance", variance))
    if len(progress) != len(variance):
        raise ValueError(f"variance has {len(variance)} points, progress has {len(progress)}")
    if len(variance) < min_points:
        raise ValueError(f"variance has {len(variance)} points; at least {min_points} are needed")
    not_rising = np.insert(np.diff(progress) <= 0, 0, False)
    for name, values, wrong, right in (
        ("variance", variance, variance < 0, ">= 0"),
        ("progress", progress, (progress < 0) | (progress > 1), "in [0, 1]"),
        ("progress", progress, not_rising, "above the value before it"),
    ):
        for index in np.flatnonzero(wrong)[:1]:
            raise ValueError(f"{name}[{index}]={values[index]:g} must be {right}")
    return progress, variance


class _Solution(NamedTuple):
    theta: np.ndarray
    log_coefficients: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class _Curves:
    """The families of curves, each a non-negative sum of terms with few searched parameters."""

    x: np.ndarray
    y: np.ndarray
    generator: np.random.Generator
    num_starts: int

    def fit_gamma(self, *, degree: int, extra_starts: Iterable[np.ndarray] = ()) -> _Solution:
        def log_terms(theta: np.ndarray) -> np.ndarray:
            powers_K = math.exp(theta[0]) - 1 + np.arange(degree + 1)
            return special.xlogy(powers_K, self.x[:, None]) - self.x[:, None] / math.exp(theta[1])

        mean, variance = self._moments
        shapes = _SHAPE_RANGE if self.x[0] > 0 else (1.0, _SHAPE_RANGE[1])  # no pole at x = 0
        guess = np.log([mean**2 / variance, variance / mean])
        return self._search(log_terms, guess, np.log([shapes, _SCALE_RANGE]), extra_starts)

    def fit_log_normal(self) -> _Solution:
        log_x = np.log(np.maximum(self.x, np.finfo(float).tiny))

        def log_terms(theta: np.ndarray) -> np.ndarray:
            return (-(((log_x - theta[0]) / math.exp(theta[1])) ** 2) / 2 - log_x)[:, None]

        mean, variance = self._moments
        sigma2 = math.log1p(variance / mean**2)
        guess = np.array([math.log(mean) - sigma2 / 2, math.log(sigma2) / 2])
        return self._search(log_terms, guess, np.log([_SCALE_RANGE, _SIGMA_RANGE]))

    def fit_exponential(self) -> _Solution:
        def log_terms(theta: np.ndarray) -> np.ndarray:
            return (-self.x / math.exp(theta[0]))[:, None]

        return self._search(log_terms, np.log([self._moments[0]]), np.log([_SCALE_RANGE]))

    def fit_polynomial(self, degree: int) -> np.ndarray:
        return np.polynomial.Polynomial.fit(self.x, self.y, degree)(self.x)

    @property
    def _moments(self) -> tuple[float, float]:
        """Mean and variance of x with the curve as weights."""
        mean = float(np.average(self.x, weights=self.y))
        return mean, max(float(np.average((self.x - mean) ** 2, weights=self.y)), 1e-9)

    def _search(
        self,
        log_terms: Callable[[np.ndarray], np.ndarray],
        guess: np.ndarray,
        bounds: np.ndarray,
        extra_starts: Iterable[np.ndarray] = (),
    ) -> _Solution:
        low, high = bounds.T
        random = self.generator.uniform(low, high, size=(self.num_starts - 1, len(low)))
        starts = np.clip([guess, *random, *extra_starts], low + 1e-6, high - 1e-6)

        def residuals(theta: np.ndarray) -> np.ndarray:
            return self._solve(log_terms, theta).values - self.y

        found = [optimize.least_squares(residuals, start, bounds=(low, high)) for start in starts]
        return self._solve(log_terms, min(found, key=lambda one: one.cost).x)

    def _solve(self, log_terms: Callable, theta: np.ndarray) -> _Solution:
        """The best non-negative coefficients for the searched parameters."""
        log_NK = log_terms(theta)
        tops_K = log_NK.max(axis=0)
        design_NK = np.exp(log_NK - tops_K)
        coefficients_K, _ = optimize.nnls(design_NK, self.y)
        with np.errstate(divide="ignore"):  # a coefficient of 0 is a log of -inf
            log_coefficients_K = np.log(coefficients_K) - tops_K
        return _Solution(theta, log_coefficients_K, design_NK @ coefficients_K)


def _quality(
    y: np.ndarray, values: np.ndarray, top: float, num_parameters: int, num_independent: float
) -> FitQuality:
    residual = max(float(np.mean((y - values) ** 2)), _FLOOR**2)
    total = float(np.mean((y - y.mean()) ** 2))
    log_residual = math.log(residual) + 2 * math.log(top or 1.0)
    return FitQuality(
        r2=1 - residual / total if total > _FLOOR**2 else 0.0,
        rmse=math.sqrt(residual) * top,
        aic=num_independent * log_residual + 2 * num_parameters,
        num_parameters=num_parameters,
    )
