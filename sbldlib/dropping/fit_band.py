"""How far a fitted variance curve can be trusted: the fit made again over resampled pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import check_positive_int, check_range, check_seed
from ..records import PilotData, Record
from .curves import band_of, coverage_limit, describe_band, resample, squared_gaps
from .pwegd_fit import fit_pwegd
from .schedules import progress_grid


@dataclass(frozen=True, kw_only=True)
class FitBand(Record):
    """The band of a PWEGD fit, by bootstrap over the pilot's pairs.

    Attributes:
        progress: T increasing values in [0, 1].
        low, high: between which values the resampled fits lie, (nats per token)^2; None where
            there is one pair, which has no spread.
        peaks: where in the run each resampled fit has its highest value, in [0, 1].
        signal_share: share of the resampled fits that carry signal, in [0, 1].
        num_pairs: pilot pairs.
        confidence: coverage asked of the band, in (0, 1).
    """

    progress: tuple[float, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None
    peaks: tuple[float, ...]
    signal_share: float
    num_pairs: int
    confidence: float = 0.95

    @property
    def peak_range(self) -> tuple[float, float]:
        """Between which places of the run the peak lies, with the band's confidence."""
        (low,), (high,) = band_of(np.array(self.peaks)[:, None], self.confidence)
        return low, high

    @property
    def is_too_narrow(self) -> bool:
        """Whether there are too few pairs for the asked confidence."""
        return coverage_limit(self.num_pairs) < self.confidence

    def summary(self) -> str:
        """The band and the spread of the peak, in one line, with what is wrong with them."""
        if self.low is None:
            return "fit of 1 pair: no band, and its peak is one run's: one pair has no spread"
        low, high = self.peak_range
        return (
            f"fit over {self.num_pairs} pairs, {describe_band(self.num_pairs, self.confidence)}; "
            f"peak between {low:.2f} and {high:.2f} of the run; "
            f"signal in {self.signal_share:.0%} of the resampled fits"
        )


def fit_band(
    pilot: PilotData,
    *,
    degree: int = 2,
    window: float = 0.05,
    num_bootstrap: int = 200,
    num_starts: int = 3,
    seed: int = 0,
    confidence: float = 0.95,
) -> FitBand:
    """Resample the pairs, fit each resampled variance curve, and say how far the fits scatter.

    Args:
        pilot: paired losses, nats per token.
        degree, window: as in `create_variance_based_scheduler`.
        num_bootstrap: resamplings, >= 1; equal ones, of which few pairs give many, are fitted once.
        num_starts: starts of each fit, >= 1.
        seed: of the resampling and of the starts, >= 0.
        confidence: coverage asked of the band, in (0, 1).

    Raises:
        ValueError: an argument is outside its range, or the curve is degenerate.

    Source: reconstruction [O]; the bootstrap: Efron 1979, doi 10.1214/aos/1176344552 [S].
    """
    generator = np.random.default_rng(check_seed("seed", seed))
    check_positive_int("num_bootstrap", num_bootstrap)
    check_range("confidence", confidence, 0, 1, low_open=True, high_open=True)
    smooth_PT, applied = squared_gaps(pilot, window)
    num_pairs, progress = len(smooth_PT), progress_grid(pilot.num_iterations)
    draws_BP = resample(num_pairs, num_bootstrap, generator)
    different_UP, which_B = np.unique(draws_BP, axis=0, return_inverse=True)
    fits = [
        fit_pwegd(
            progress,
            draw_P @ smooth_PT / num_pairs,
            degree=degree,
            window=applied,
            num_starts=num_starts,
            seed=seed,
        )
        for draw_P in different_UP
    ]
    curves_UT = np.array([fit(progress) for fit in fits])
    which_B = which_B.ravel()  # numpy 2.0 gave it another shape
    low, high = band_of(curves_UT[which_B], confidence) if num_pairs > 1 else (None, None)
    return FitBand(
        progress=tuple(progress.tolist()),
        low=low,
        high=high,
        peaks=tuple(fits[which].peak for which in which_B),
        signal_share=float(np.mean([fits[which].carries_signal for which in which_B])),
        num_pairs=num_pairs,
        confidence=confidence,
    )
