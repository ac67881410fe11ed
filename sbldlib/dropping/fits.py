"""A PWEGD fitted to a variance curve: its parameters, its quality, and what it was held against."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .pwegd import PWEGD, log_kernel

# This far behind, a model has considerably less support (Burnham & Anderson 2002, section 2.6);
# smoothed noise around a constant passes it in one or two curves of a hundred.
SIGNAL_MARGIN = 4.0
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


def quality_of(
    relative: np.ndarray,
    values: np.ndarray,
    top: float,
    num_parameters: int,
    num_independent: float,
) -> FitQuality:
    """How well `values` fit a curve whose highest value was divided out, and is `top`."""
    residual = max(float(np.mean((relative - values) ** 2)), _FLOOR**2)
    total = float(np.mean((relative - relative.mean()) ** 2))
    log_residual = math.log(residual) + 2 * math.log(top or 1.0)
    return FitQuality(
        r2=1 - residual / total if total > _FLOOR**2 else 0.0,
        rmse=math.sqrt(residual) * top,
        aic=num_independent * log_residual + 2 * num_parameters,
        num_parameters=num_parameters,
    )
