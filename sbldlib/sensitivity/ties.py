"""Which layers cannot be told apart: paired differences over the same batches."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from ..errors import check_range
from ..records import Record, SensitivityData


@dataclass(frozen=True, kw_only=True)
class Ties(Record):
    """The pairs of layers whose order these batches do not settle.

    Attributes:
        pairs: the pairs that cannot be told apart, each with the smaller layer first.
        groups: runs of the ranking in which no two layers can be told apart, longest possible, of
            two layers or more; they may overlap, for "not told apart" does not carry over.
        num_pairs: pairs that were compared.
        num_batches: batches that the differences were taken over.
        confidence: chance that no pair is wrongly told apart, all pairs together.
    """

    pairs: tuple[tuple[int, int], ...]
    groups: tuple[tuple[int, ...], ...]
    num_pairs: int
    num_batches: int
    confidence: float

    def are_tied(self, first: int, second: int) -> bool:
        """Whether the order of these two layers is not known."""
        return (min(first, second), max(first, second)) in self.pairs

    def summary(self) -> str:
        """The groups whose order is not known, in a sentence."""
        test = f"paired t over {self.num_batches} batches, Holm at {self.confidence:.0%}"
        if not self.pairs:
            return f"All {self.num_pairs} pairs of layers can be told apart ({test})."
        groups = "; ".join(", ".join(map(str, group)) for group in self.groups)
        within = f" The order within these is not known: layers {groups}." if groups else ""
        return (
            f"{len(self.pairs)} of {self.num_pairs} pairs of layers cannot be told apart ({test})."
            f"{within}"
        )


def tied_pairs(data: SensitivityData, *, confidence: float = 0.95) -> Ties:
    """Compare all pairs of layers on the batches they were both measured on.

    A pair is told apart by a paired t test of its differences, corrected for the number of pairs by
    Holm's method. Two error bars that overlap say less: layers move together from batch to batch.
    The batches are taken for independent draws.

    Args:
        data: with samples.
        confidence: chance that no pair is wrongly told apart, in (0, 1).

    Raises:
        ValueError: data without samples, or of one layer.

    Source: Student 1908; Holm 1979.
    """
    check_range("confidence", confidence, 0, 1, low_open=True, high_open=True)
    if not data.samples or data.num_layers < 2:
        raise ValueError(
            f"samples is {len(data.samples)} x {data.num_batches}; pairs of layers need what each "
            "batch gave, of two layers at least"
        )
    samples = np.asarray(data.samples)
    pairs = list(itertools.combinations(range(data.num_layers), 2))
    p_values = [paired_p_value(samples[first] - samples[second]) for first, second in pairs]
    is_apart = _holm(np.asarray(p_values), 1 - confidence)
    tied = tuple(pair for pair, apart in zip(pairs, is_apart, strict=True) if not apart)
    return Ties(
        pairs=tied,
        groups=_runs(data.ranking(), set(tied)),
        num_pairs=len(pairs),
        num_batches=data.num_batches,
        confidence=confidence,
    )


def paired_p_value(differences: np.ndarray) -> float:
    """Two-sided p value of Student's t test that the differences' mean is 0."""
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread == 0:
        return float(mean == 0)
    return _t_tails(mean / spread * math.sqrt(len(differences)), len(differences) - 1)


def _t_tails(t: float, freedom: int) -> float:
    """Both tails of Student's t, by its finite series.

    Source: Abramowitz & Stegun 1964, 26.7.3 and 26.7.4.
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    cosine, is_odd = math.cos(angle), freedom % 2
    term = total = 1.0 if not is_odd else cosine
    for k in range(1 + is_odd, freedom - 2 + is_odd, 2):
        term *= k / (k + 1) * cosine**2
        total += term
    inside = math.sin(angle) * total
    if is_odd:
        inside = 2 / math.pi * (angle + (inside if freedom > 1 else 0.0))
    return min(1.0, max(0.0, 1 - inside))


def _holm(p_values: np.ndarray, level: float) -> np.ndarray:
    """Which are below the level when all are tested together."""
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] <= level / np.arange(len(order), 0, -1)
    below = np.zeros(len(order), dtype=bool)
    below[order] = np.logical_and.accumulate(steps)
    return below


def _runs(ranking: tuple[int, ...], tied: set[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """The longest runs of the ranking in which every pair is tied."""
    runs: list[tuple[int, ...]] = []
    end = 0
    for start in range(len(ranking)):
        reach = start + 1
        while reach < len(ranking) and all(
            (min(a, ranking[reach]), max(a, ranking[reach])) in tied for a in ranking[start:reach]
        ):
            reach += 1
        if reach > end and reach - start > 1:
            runs.append(tuple(ranking[start:reach]))
        end = max(end, reach)
    return tuple(runs)
