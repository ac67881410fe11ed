"""The Poly-Weighted Exponential Gamma Distribution, a scipy.stats distribution.

Legend: q shape, b scale, a_j coefficients, j = 0..m.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import special
from scipy.stats import rv_continuous

from ..errors import check_finite, check_range


def log_kernel(x: Any, coefficients: tuple[float, ...], shape: float, scale: float) -> np.ndarray:
    """log of (sum_j a_j x^j) x^(q-1) exp(-x/b), the density before it is normalised; x >= 0."""
    x = np.asarray(x, dtype=float)
    # terms without weight are left out: at x = 0 they would give -inf + inf
    terms = [
        math.log(a) + special.xlogy(shape + j - 1, x) for j, a in enumerate(coefficients) if a > 0
    ]
    return special.logsumexp(np.stack(terms), axis=0) - x / scale


class PWEGD(rv_continuous):
    """f(x) = c (sum_{j=0..m} a_j x^j) x^(q-1) exp(-x/b) on x >= 0, in closed form throughout.

    x^j times a Gamma(q, b) density is proportional to a Gamma(q+j, b) density, so f is exactly a
    mixture of gamma densities with shapes q+j and one scale b, whose weights are proportional to
    a_j b^(q+j) Gamma(q+j). With m = 0 it is scipy.stats.gamma(q, scale=b).

    Args:
        coefficients: a_0..a_m, each finite and >= 0, at least one above 0; a common factor
            changes nothing.
        shape: q, finite and > 0.
        scale: b, finite and > 0, in the unit of x.

    Raises:
        ValueError: a coefficient, the shape or the scale is outside its range.

    Source: the name and its use [P]: Zeng et al., AAAI 2023, doi 10.1609/aaai.v37i9.26321; this
        density is a reconstruction [O], since the paper's own equation could not be read.
    """

    def __init__(self, coefficients: Iterable[float], shape: float, scale: float) -> None:
        self.coefficients = _check_coefficients(coefficients)
        self.shape = check_range("shape", shape, 0, math.inf, low_open=True, high_open=True)
        self.scale = check_range("scale", scale, 0, math.inf, low_open=True, high_open=True)
        # a fixed seed, because scipy's default is the global random state; rvs never uses it
        super().__init__(a=0.0, name="pwegd", seed=0)
        j = np.flatnonzero(self.coefficients)
        self._shapes_J = self.shape + j
        log_masses_J = (
            np.log(np.take(self.coefficients, j))
            + self._shapes_J * math.log(self.scale)
            + special.gammaln(self._shapes_J)
        )
        self._log_mass = float(np.logaddexp.reduce(log_masses_J))
        self._weights_J = np.exp(log_masses_J - self._log_mass)

    @property
    def weights(self) -> tuple[float, ...]:
        """Share of each gamma component j = 0..m; they sum to 1."""
        weights = np.zeros(len(self.coefficients))
        weights[np.flatnonzero(self.coefficients)] = self._weights_J
        return tuple(weights.tolist())

    def component(self, j: int) -> PWEGD:
        """The gamma density of shape q+j that weighs `weights[j]` in the mixture."""
        only = [float(j == other) for other in range(len(self.coefficients))]
        return PWEGD(only, self.shape, self.scale)

    def rvs(self, *args: Any, random_state: Any = None, **kwargs: Any) -> Any:
        """Draw samples as scipy does; `random_state` (a seed or a Generator) is required."""
        if random_state is None:
            raise ValueError("random_state=None would draw from global state; pass a seed")
        return super().rvs(*args, random_state=random_state, **kwargs)

    def _updated_ctor_param(self) -> dict[str, Any]:
        # scipy rebuilds a distribution from these when it freezes it
        return {"coefficients": self.coefficients, "shape": self.shape, "scale": self.scale}

    def _logpdf(self, x: np.ndarray) -> np.ndarray:
        return log_kernel(x, self.coefficients, self.shape, self.scale) - self._log_mass

    def _pdf(self, x: np.ndarray) -> np.ndarray:
        return np.exp(self._logpdf(x))

    def _cdf(self, x: np.ndarray) -> np.ndarray:
        return special.gammainc(self._shapes_J, x[..., None] / self.scale) @ self._weights_J

    def _sf(self, x: np.ndarray) -> np.ndarray:
        return special.gammaincc(self._shapes_J, x[..., None] / self.scale) @ self._weights_J

    def _munp(self, n: int) -> float:
        return float(self._weights_J @ special.poch(self._shapes_J, n)) * self.scale**n

    def _stats(self) -> tuple[float, float, None, None]:
        mean_shape = float(self._weights_J @ self._shapes_J)
        within_plus_between = self._shapes_J + (self._shapes_J - mean_shape) ** 2
        variance = float(self._weights_J @ within_plus_between) * self.scale**2
        return mean_shape * self.scale, variance, None, None

    def _rvs(self, *, size: Any = None, random_state: Any = None) -> np.ndarray:
        shapes = random_state.choice(self._shapes_J, p=self._weights_J, size=size)
        return self.scale * random_state.standard_gamma(shapes, size=size)


def _check_coefficients(coefficients: Iterable[float]) -> tuple[float, ...]:
    numbers = check_finite("coefficients", coefficients)
    for index, number in enumerate(numbers):
        if number < 0:
            raise ValueError(f"coefficients[{index}]={number!r} must be >= 0")
    if not any(numbers):
        raise ValueError(f"coefficients={numbers!r} must hold at least one value above 0")
    return numbers
