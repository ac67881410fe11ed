"""Fits the PWEGD to a variance curve and holds it against simpler curves.

Legend: N points, K terms that enter linearly, x progress plus shift.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from ..errors import check_positive_int, check_range, check_seed
from .curves import check_curve
from .fits import FitQuality, PWEGDFit, quality_of
from .pwegd import PWEGD, log_kernel

SHAPE_RANGE = (0.1, 200.0)  # of q and b, in which is searched
SCALE_RANGE = (1e-3, 10.0)
MAX_DEGREE, MAX_STARTS = 16, 10_000  # beyond them powers overflow, and no search ends
_SIGMA_RANGE = (0.02, 10.0)


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
    curves = _curves(progress, variance, degree, window, num_starts, seed)
    pwegd, rivals = curves.fit_all(degree)
    return curves.fit_of(
        special.softmax(pwegd.log_coefficients),
        math.exp(pwegd.theta[0]),
        math.exp(pwegd.theta[1]),
        pwegd.values,
        rivals,
    )


def fit_rivals(
    progress: Iterable[float],
    variance: Iterable[float],
    *,
    degree: int = 2,
    window: float = 0.0,
    num_starts: int = 8,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The curves behind `PWEGDFit.rivals`, by name, each at the N points; arguments are the same.

    Raises:
        ValueError: as in `fit_pwegd`.
    """
    curves = _curves(progress, variance, degree, window, num_starts, seed)
    _, rivals = curves.fit_all(degree)
    return {name: values * curves.top for name, (values, _) in rivals.items()}


def fit_amplitude(
    progress: Iterable[float],
    variance: Iterable[float],
    *,
    coefficients: Iterable[float],
    shape: float,
    scale: float,
    window: float = 0.0,
) -> PWEGDFit:
    """A PWEGD with parameters that were given: only its height is fitted, by least squares.

    Args:
        progress, variance, window: the curve, as in `fit_pwegd`.
        coefficients, shape, scale: a_0..a_m, q and b, as in `PWEGD`.

    Returns:
        The curve as a fit; of the rivals it names the constant alone, and its AIC counts every
        parameter as fitted, for a hand has done it.

    Raises:
        ValueError: a parameter is outside its range, the curve is degenerate, or the parameters
            have a pole at a point of it.
    """
    density = PWEGD(coefficients, shape, scale)
    degree = len(density.coefficients) - 1
    curves = _curves(progress, variance, degree, window, 1, 0)
    if curves.x[0] == 0 and density.pdf(0) == math.inf:
        raise ValueError(f"shape={shape!r} must be at least 1: the curve has a point at x = 0")
    log_values = log_kernel(curves.x, density.coefficients, density.shape, density.scale)
    values = np.exp(log_values - log_values.max())
    values *= (values @ curves.y) / (values @ values)
    shares = np.array(density.coefficients) / sum(density.coefficients)
    constant = {"constant": (np.full(len(curves.y), curves.y.mean()), 1)}
    return curves.fit_of(shares, density.shape, density.scale, values, constant)


class _Solution(NamedTuple):
    theta: np.ndarray
    log_coefficients: np.ndarray
    values: np.ndarray


_Rivals = dict[str, tuple[np.ndarray, int]]  # name -> values and number of parameters


def _curves(
    progress: Iterable[float],
    variance: Iterable[float],
    degree: int,
    window: float,
    num_starts: int,
    seed: int,
) -> _Curves:
    """The checked curve, its height divided out, ready for every family to be fitted to it."""
    degree = check_positive_int("degree", degree, minimum=0, maximum=MAX_DEGREE)
    check_range("window", window, 0, 1)
    num_starts = check_positive_int("num_starts", num_starts, maximum=MAX_STARTS)
    generator = np.random.default_rng(check_seed("seed", seed))
    progress, variance = check_curve(progress, variance, min_points=degree + 5)
    top = float(variance.max())
    num_windows = (progress[-1] - progress[0]) / window if window > 0 else math.inf
    shift = max(window, progress[1] - progress[0]) if variance[0] != 0 else 0.0
    return _Curves(
        progress=progress,
        shift=float(shift),
        y=variance / top if top > 0 else np.ones_like(variance),  # zeros: any shape, amplitude 0
        top=top,
        num_independent=float(min(len(progress), num_windows)),
        generator=generator,
        num_starts=num_starts,
    )


@dataclass(frozen=True, kw_only=True)
class _Curves:
    """The families of curves, each a non-negative sum of terms with few searched parameters."""

    progress: np.ndarray
    shift: float
    y: np.ndarray
    top: float
    num_independent: float
    generator: np.random.Generator
    num_starts: int

    @property
    def x(self) -> np.ndarray:
        return self.progress + self.shift

    def fit_all(self, degree: int) -> tuple[_Solution, _Rivals]:
        """The PWEGD, and its rivals."""
        gamma = self.fit_gamma(degree=0)
        pwegd = self.fit_gamma(degree=degree, extra_starts=[gamma.theta])
        return pwegd, {
            "gamma": (gamma.values, 3),
            "log_normal": (self.fit_log_normal().values, 3),
            "exponential": (self.fit_exponential().values, 2),
            "polynomial": (self.fit_polynomial(degree + 2), degree + 3),
            "constant": (np.full(len(self.y), self.y.mean()), 1),
        }

    def fit_of(
        self,
        shares: np.ndarray,
        shape: float,
        scale: float,
        values: np.ndarray,
        rivals: _Rivals,
    ) -> PWEGDFit:
        """The record of a PWEGD with these values, coefficients scaled to sum to 1."""
        highest = int(values.argmax())
        return PWEGDFit(
            amplitude=float(values[highest]) * self.top,
            coefficients=tuple(float(share) for share in shares),
            shape=float(shape),
            scale=float(scale),
            shift=self.shift,
            peak=float(self.progress[highest]),
            num_independent=self.num_independent,
            quality=self._quality(values, len(shares) + 2),
            rivals={name: self._quality(*rival) for name, rival in rivals.items()},
        )

    def _quality(self, values: np.ndarray, num_parameters: int) -> FitQuality:
        return quality_of(self.y, values, self.top, num_parameters, self.num_independent)

    def fit_gamma(self, *, degree: int, extra_starts: Iterable[np.ndarray] = ()) -> _Solution:
        def log_terms(theta: np.ndarray) -> np.ndarray:
            powers_K = math.exp(theta[0]) - 1 + np.arange(degree + 1)
            return special.xlogy(powers_K, self.x[:, None]) - self.x[:, None] / math.exp(theta[1])

        mean, variance = self._moments
        shapes = SHAPE_RANGE if self.x[0] > 0 else (1.0, SHAPE_RANGE[1])  # no pole at x = 0
        guess = np.log([mean**2 / variance, variance / mean])
        return self._search(log_terms, guess, np.log([shapes, SCALE_RANGE]), extra_starts)

    def fit_log_normal(self) -> _Solution:
        log_x = np.log(np.maximum(self.x, np.finfo(float).tiny))

        def log_terms(theta: np.ndarray) -> np.ndarray:
            return (-(((log_x - theta[0]) / math.exp(theta[1])) ** 2) / 2 - log_x)[:, None]

        mean, variance = self._moments
        sigma2 = math.log1p(variance / mean**2)
        guess = np.array([math.log(mean) - sigma2 / 2, math.log(sigma2) / 2])
        return self._search(log_terms, guess, np.log([SCALE_RANGE, _SIGMA_RANGE]))

    def fit_exponential(self) -> _Solution:
        def log_terms(theta: np.ndarray) -> np.ndarray:
            return (-self.x / math.exp(theta[0]))[:, None]

        return self._search(log_terms, np.log([self._moments[0]]), np.log([SCALE_RANGE]))

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
