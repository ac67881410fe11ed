"""Ranks and rank correlations in numpy alone, for many resamples at once.

Legend: R resamples, L layers, N batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..records import SensitivityData


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1..L of the last axis, the smallest first; equal values share their mean rank."""
    below = (values[..., :, None] > values[..., None, :]).sum(axis=-1)
    equal = (values[..., :, None] == values[..., None, :]).sum(axis=-1)
    return below + (equal + 1) / 2


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation over the last axis; NaN where one side has one value alone."""
    centred = [average_ranks(values) for values in (first, second)]
    centred = [ranks - ranks.mean(axis=-1, keepdims=True) for ranks in centred]
    return _cosine(*centred)


def kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Kendall's rank correlation (tau-b) over the last axis; NaN as for `spearman`.

    Source: Kendall 1945, "The treatment of ties in ranking problems".
    """
    signs = [np.sign(values[..., :, None] - values[..., None, :]) for values in (first, second)]
    return _cosine(*(sign.reshape(*sign.shape[:-2], -1) for sign in signs))


def _cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    scale = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip((first * second).sum(axis=-1) / scale, -1, 1)


def resampled_values(
    measured: Sequence[SensitivityData], *, num_resamples: int, seed: int
) -> list[np.ndarray]:
    """Values [R, L] of each over batches drawn with replacement.

    Data over equally many batches are taken for paired, and are resampled alike.

    Raises:
        ValueError: data without samples.
    """
    for data in measured:
        if not data.samples:
            raise ValueError(
                f"samples=() of {data.method!r}: an interval needs what each batch gave; measure "
                "it with calculate_sensitivities"
            )
    counts = {
        num_batches: _draw_counts(num_batches, num_resamples, seed)
        for num_batches in {data.num_batches for data in measured}
    }
    return [counts[data.num_batches] @ np.asarray(data.samples).T for data in measured]


def _draw_counts(num_batches: int, num_resamples: int, seed: int) -> np.ndarray:
    """Weights [R, N] of the batches: how often each was drawn, over N."""
    generator = np.random.default_rng([seed, num_batches])
    even = np.full(num_batches, 1 / num_batches)
    return generator.multinomial(num_batches, even, size=num_resamples) / num_batches


def interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Percentile interval of resampled values; those that are not defined are left out."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
