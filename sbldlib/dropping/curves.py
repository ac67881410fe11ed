"""The variance between baseline and layer dropping over training, and what it must be held against.

Legend: P pairs, T iterations, B bootstrap samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import check_finite, check_positive_int, check_range, check_seed
from ..records import PilotData, Record
from .schedules import progress_grid


@dataclass(frozen=True, kw_only=True)
class VarianceCurve(Record):
    """Variance between baseline and layer dropping over training.

    Attributes:
        progress: T increasing values in [0, 1].
        variance: T values >= 0, the mean over pairs of the squared loss gap, (nats per token)^2.
        low, high: bootstrap band over pairs; None where there is none, as with one pair.
        window: width of the smoothing that was applied, as a share of the run.
        num_pairs: pilot pairs.
        confidence: coverage of the band.
    """

    progress: tuple[float, ...]
    variance: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    window: float = 0.0
    num_pairs: int = 1
    confidence: float = 0.95

    def __post_init__(self) -> None:
        progress, variance = check_curve(self.progress, self.variance)
        object.__setattr__(self, "progress", tuple(progress.tolist()))
        object.__setattr__(self, "variance", tuple(variance.tolist()))
        check_range("window", self.window, 0, 1)

    def summary(self) -> str:
        """What the curve is made of, in one line."""
        band = "no band"
        if self.low is not None:
            band = describe_band(self.num_pairs, self.confidence)
        elif self.num_pairs == 1:
            band = "no band: one pair has no spread"
        return (
            f"variance of {self.num_pairs} pair(s) at {len(self.variance)} points, "
            f"smoothed over {self.window:.1%} of the run; {band}"
        )


def variance_curve(
    pilot: PilotData,
    *,
    window: float = 0.05,
    num_bootstrap: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
) -> VarianceCurve:
    """Mean over pairs of (loss_drop - loss_base)^2 at every iteration, smoothed.

    Args:
        pilot: paired losses, nats per token, at least two iterations.
        window: width of the centred running mean as a share of the run, in [0, 1]; the largest
            odd number of iterations within it is applied, near the ends those that exist.
        num_bootstrap: B, resamplings of the pairs behind the band, >= 1. With few pairs the band
            is too narrow, see `coverage_limit`.
        seed: of the resampling, >= 0.
        confidence: coverage of the band, in (0, 1).

    Raises:
        ValueError: an argument is outside its range, or the pilot has one iteration.

    Source: reconstruction [O].
    """
    generator = np.random.default_rng(check_seed("seed", seed))
    check_positive_int("num_bootstrap", num_bootstrap)
    check_range("confidence", confidence, 0, 1, low_open=True, high_open=True)
    smooth_PT, applied = squared_gaps(pilot, window)
    low, high = None, None
    if len(smooth_PT) > 1:
        draws_BP = resample(len(smooth_PT), num_bootstrap, generator)
        low, high = band_of(draws_BP @ smooth_PT / len(smooth_PT), confidence)
    return VarianceCurve(
        progress=tuple(progress_grid(pilot.num_iterations).tolist()),
        variance=tuple(smooth_PT.mean(axis=0).tolist()),
        low=low,
        high=high,
        window=applied,
        num_pairs=len(smooth_PT),
        confidence=confidence,
    )


def null_curve(pilot: PilotData, *, window: float = 0.05) -> VarianceCurve:
    """The same for runs that are no pairs: two full-depth runs of different seeds.

    Nothing was dropped in any of them, so that this is how far two trainings lie apart for no
    reason but their seeds: other weights, and other batches at the same iteration. It has no band,
    for each run is in several of its pairs.

    Args:
        pilot: its baseline runs are read; two or more.
        window: as in `variance_curve`.

    Raises:
        ValueError: one seed, or what `variance_curve` refuses.

    Source: reconstruction [O].
    """
    if len(pilot.seeds) < 2:
        raise ValueError(f"seeds={pilot.seeds} hold one run; the null needs two or more")
    first, second = zip(*itertools.combinations(pilot.baseline_losses, 2), strict=True)
    unpaired = PilotData(
        baseline_losses=first,
        dropping_losses=second,
        seeds=tuple(range(len(first))),
        mean_keep=1.0,
        seconds=0.0,
    )
    smooth_PT, applied = squared_gaps(unpaired, window)
    return VarianceCurve(
        progress=tuple(progress_grid(pilot.num_iterations).tolist()),
        variance=tuple(smooth_PT.mean(axis=0).tolist()),
        window=applied,
        num_pairs=len(smooth_PT),
    )


def squared_gaps(pilot: PilotData, window: float) -> tuple[np.ndarray, float]:
    """Each pair's (loss_drop - loss_base)^2, smoothed, [P, T]; and the window applied."""
    check_range("window", window, 0, 1)
    check_positive_int("training_data.num_iterations", pilot.num_iterations, minimum=2)
    gaps_PT = np.array(pilot.dropping_losses) - np.array(pilot.baseline_losses)
    return running_mean(gaps_PT**2, window)


def running_mean(values_PT: np.ndarray, window: float) -> tuple[np.ndarray, float]:
    """Centred running mean over the last axis, and the share of the run that it spans."""
    length = values_PT.shape[-1]
    half = max(0, int((window * length - 1) / 2 + 1e-9))

    def sums(values_T: np.ndarray) -> np.ndarray:
        return np.convolve(values_T, np.ones(2 * half + 1))[half : half + length]

    sums_PT = np.apply_along_axis(sums, -1, values_PT)
    return sums_PT / sums(np.ones(length)), (2 * half + 1) / length


def resample(num_pairs: int, num_bootstrap: int, generator: np.random.Generator) -> np.ndarray:
    """How often each pair is in each bootstrap sample, [B, P]; rows sum to P."""
    equal_P = np.full(num_pairs, 1 / num_pairs)
    return generator.multinomial(num_pairs, equal_P, size=num_bootstrap)


def band_of(
    curves_BT: np.ndarray, confidence: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Between which values this share of the curves lies, at every iteration."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(curves_BT, [tail, 1 - tail], axis=0)
    return tuple(low.tolist()), tuple(high.tolist())


def coverage_limit(num_pairs: int) -> float:
    """The most that a bootstrap band over so few pairs can cover, about: 1 - 2^(1 - P).

    No resampling leaves the range of the pairs, and that range misses the median of what they are
    drawn from whenever all lie on one side of it: half the time with two pairs.
    """
    return 1 - 2.0 ** (1 - num_pairs)


def describe_band(num_pairs: int, confidence: float) -> str:
    """What a bootstrap band over pairs is, and where there are too few of them for it."""
    band = f"{confidence:.0%} band by bootstrap over pairs"
    limit = coverage_limit(num_pairs)
    if limit >= confidence:
        return band
    return f"{band}, too narrow: {num_pairs} pair(s) can cover {limit:.0%} at most"


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
