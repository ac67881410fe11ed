"""How far the estimators agree on the order of the layers, and whether it lasts over training."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import check_positive_int, check_range, unknown_name
from ..records import Record, SensitivityData
from .ranks import average_ranks, interval, kendall, resampled_values, spearman

Matrix = tuple[tuple[float, ...], ...]
CORRELATIONS = {"spearman": spearman, "kendall": kendall}


@dataclass(frozen=True, kw_only=True)
class Agreement(Record):
    """Rank correlations of each pair of measurements, with bootstrap intervals over batches.

    The intervals say what other batches would have changed, not other weights or seeds.

    Attributes:
        names: of what is compared, the order of rows and columns.
        spearman, kendall: [names][names], in [-1, 1].
        spearman_low, spearman_high, kendall_low, kendall_high: ends of the intervals.
        confidence: of the intervals.
        num_layers: layers that are ranked.
        num_resamples: bootstrap resamples behind an interval.
    """

    names: tuple[str, ...]
    spearman: Matrix
    spearman_low: Matrix
    spearman_high: Matrix
    kendall: Matrix
    kendall_low: Matrix
    kendall_high: Matrix
    confidence: float
    num_layers: int
    num_resamples: int

    def pair(self, first: str, second: str, *, of: str = "spearman") -> tuple[float, float, float]:
        """A pair's correlation, and the low and the high end of its interval."""
        if of not in CORRELATIONS:
            raise unknown_name("of", of, CORRELATIONS)
        for name in (first, second):
            if name not in self.names:
                raise unknown_name("name", name, self.names)
        row, column = self.names.index(first), self.names.index(second)
        found, low, high = (
            getattr(self, f"{of}{end}")[row][column] for end in ("", "_low", "_high")
        )
        return found, low, high

    def summary(self) -> str:
        """Which pair agrees most, which least, and how many pairs may not agree at all."""
        pairs = {pair: self.pair(*pair) for pair in itertools.combinations(self.names, 2)}
        if not pairs:
            return f"Only {self.names[0]} was measured; there is nothing to compare."
        most, least = max(pairs, key=lambda p: pairs[p][0]), min(pairs, key=lambda p: pairs[p][0])
        open_pairs = sum(low <= 0 <= high for _, low, high in pairs.values())
        if most == least:
            verdict = "holds" if open_pairs else "does not hold"
            return f"Over {self.num_layers} layers, {_said(most, pairs[most])}; it {verdict} 0."
        kind = "interval holds" if open_pairs == 1 else "intervals hold"
        return (
            f"Over {self.num_layers} layers, {_said(most, pairs[most])} agree most, "
            f"{_said(least, pairs[least])} least; {open_pairs} of {len(pairs)} pairs' {kind} 0."
        )


@dataclass(frozen=True, kw_only=True)
class Stability(Record):
    """How the order of the layers at each checkpoint stands to the order at the last one.

    Attributes:
        iterations: one a checkpoint, rising.
        ranks: [checkpoint][layer], 1 the most sensitive; equal values share their mean rank.
        with_last, with_last_low, with_last_high: Spearman's correlation of each checkpoint with
            the last, with bootstrap intervals over batches.
        with_previous: the same with the checkpoint before it; 1 for the first.
        confidence: of the intervals.
    """

    iterations: tuple[int, ...]
    ranks: Matrix
    with_last: tuple[float, ...]
    with_last_low: tuple[float, ...]
    with_last_high: tuple[float, ...]
    with_previous: tuple[float, ...]
    confidence: float

    def summary(self, *, enough: float = 0.8) -> str:
        """From which checkpoint on the order stays close to the last one's."""
        settled = len(self.iterations) - 1
        while settled and self.with_last[settled - 1] >= enough:
            settled -= 1
        if settled == len(self.iterations) - 1:
            return f"No earlier checkpoint ranks the layers as the last does (rho >= {enough:g})."
        first = self.iterations[settled]
        return (
            f"From iteration {first} on, every checkpoint ranks the layers much as the last one "
            f"does (rho >= {enough:g}); at {first} it is {self.with_last[settled]:.2f} "
            f"[{self.with_last_low[settled]:.2f}, {self.with_last_high[settled]:.2f}]."
        )


def agreement(
    measured: Mapping[str, SensitivityData],
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Compare the orders that several measurements give the same layers.

    Args:
        measured: name -> data with samples. Where two were measured on equally many batches these
            are taken for the same ones, and resampled together.
        num_resamples: bootstrap resamples, >= 1.
        confidence: of the percentile intervals, in (0, 1).
        seed: of the resampling.

    Raises:
        ValueError: none measured, different numbers of layers, data without samples, or data with
            one value for all layers, which give no order.

    Source: Spearman 1904; Kendall 1945 (tau-b); Efron 1979 for the bootstrap. Comparing estimators
        so is METHOD section 1.
    """
    data = list(measured.values())
    resampled = _checked_resamples(dict(measured), num_resamples, confidence, seed)
    tables: dict[str, np.ndarray] = {}
    for kind, correlate in CORRELATIONS.items():
        found = np.ones((3, len(data), len(data)))
        for row, column in itertools.combinations(range(len(data)), 2):
            whole = correlate(np.asarray(data[row].values), np.asarray(data[column].values))
            ends = interval(correlate(resampled[row], resampled[column]), confidence)
            found[:, row, column] = found[:, column, row] = (float(whole), *ends)
        for place, end in enumerate(("", "_low", "_high")):
            tables[kind + end] = found[place]
    return Agreement(
        names=tuple(measured),
        confidence=confidence,
        num_layers=data[0].num_layers,
        num_resamples=num_resamples,
        **{name: _matrix(table) for name, table in tables.items()},
    )


def stability(
    checkpoints: Sequence[SensitivityData],
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Stability:
    """Compare the layers' order at several checkpoints of one training run with the last one's.

    Args:
        checkpoints: data with samples and iteration, in the order of training.
        num_resamples, confidence, seed: as for `agreement`.

    Raises:
        ValueError: as `agreement`; iterations that are missing or do not rise.
    """
    iterations = tuple(-1 if data.iteration is None else data.iteration for data in checkpoints)
    if min(iterations, default=-1) < 0 or list(iterations) != sorted(set(iterations)):
        given = [data.iteration for data in checkpoints]
        raise ValueError(f"iteration={given} of the checkpoints must be whole numbers that rise")
    named = {f"iteration {data.iteration}": data for data in checkpoints}
    resampled = _checked_resamples(named, num_resamples, confidence, seed)
    values = [np.asarray(data.values) for data in checkpoints]
    with_last = [float(spearman(found, values[-1])) for found in values]
    ends = [interval(spearman(found, resampled[-1]), confidence) for found in resampled[:-1]]
    ends.append((1.0, 1.0))
    return Stability(
        iterations=iterations,
        ranks=_matrix(np.stack([average_ranks(-found) for found in values])),
        with_last=tuple(with_last),
        with_last_low=tuple(low for low, _ in ends),
        with_last_high=tuple(high for _, high in ends),
        with_previous=(1.0, *(float(spearman(a, b)) for a, b in itertools.pairwise(values))),
        confidence=confidence,
    )


def _checked_resamples(
    measured: dict[str, SensitivityData], num_resamples: int, confidence: float, seed: int
) -> list[np.ndarray]:
    if not measured:
        raise ValueError("measured={} holds nothing to compare")
    check_positive_int("num_resamples", num_resamples)
    check_range("confidence", confidence, 0, 1, low_open=True, high_open=True)
    sizes = {name: data.num_layers for name, data in measured.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"measured: all must have one number of layers, not {sizes}")
    for name, data in measured.items():
        if len(set(data.values)) == 1:
            raise ValueError(f"measured[{name!r}] has one value for all layers: it gives no order")
    return resampled_values(list(measured.values()), num_resamples=num_resamples, seed=seed)


def _matrix(table: np.ndarray) -> Matrix:
    return tuple(tuple(float(value) for value in row) for row in table)


def _said(pair: tuple[str, str], found: tuple[float, float, float]) -> str:
    return f"{pair[0]} and {pair[1]} (rho {found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}])"
