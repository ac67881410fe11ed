"""Time several arms in turn, within one process, and say what the rounds allow to be said."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What repeated measurements say.

    Attributes:
        median: of all rounds.
        p10, p90: percentiles over the rounds: how far one round lies from another.
        low, high: interval of the median, at least 95 % sure (from the sign test, whatever the
            distribution; all of the range where there are fewer than six rounds).
    """

    median: float
    p10: float
    p90: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median, percentiles and the median's interval of one value a round."""
    ordered = sorted(float(value) for value in values)
    if not ordered:
        raise ValueError("values=[] holds no round")
    p10, p90 = np.percentile(ordered, [10, 90])
    outside = _ranks_outside(len(ordered))
    return Spread(
        median=statistics.median(ordered),
        p10=float(p10),
        p90=float(p90),
        low=ordered[outside],
        high=ordered[-1 - outside],
    )


def interleave(
    arms: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warmup: int = 2,
    repeats: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    wait: Callable[[], object] = lambda: None,
    own_clock: bool = False,
) -> dict[str, list[float]]:
    """Seconds of one call of each arm, one value a round.

    Every round calls every arm, in an order of its own, so that a machine's drift and what one arm
    leaves in the caches meet all of them alike.

    Args:
        arms: name -> what is timed.
        rounds: that count; `warmup` more go before them and do not.
        repeats: calls of an arm in one round; their mean is the round's value.
        clock: seconds from any start.
        wait: returns when all work is done: `torch.cuda.synchronize` on a GPU.
        own_clock: the arms time themselves and return what they measured, name -> values.
    """
    seconds: dict[str, list[float]] = {}
    gc.collect()
    gc.freeze()  # a collection then looks at what the arms make, not at every imported module
    try:
        for number in range(-warmup, rounds):
            order = list(arms)
            random.Random(number).shuffle(order)
            measured: dict[str, list[float]] = {}
            for name in order:
                returned, elapsed = _time(arms[name], repeats, clock, wait)
                measured.update(returned if own_clock else {name: [elapsed]})
            for name, values in measured.items() if number >= 0 else ():
                seconds.setdefault(name, []).extend(round(value, 8) for value in values)
    finally:
        gc.unfreeze()
    return seconds


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """One ratio a round."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def differences(larger: Sequence[float], smaller: Sequence[float]) -> list[float]:
    """One difference a round."""
    return [a - b for a, b in zip(larger, smaller, strict=True)]


def _time(
    call: Callable[[], Any],
    repeats: int,
    clock: Callable[[], float],
    wait: Callable[[], object],
) -> tuple[Any, float]:
    """What the last call returned, and the mean seconds of a call."""
    wait()
    began, returned = clock(), None
    for _ in range(repeats):
        returned = call()
    wait()
    return returned, (clock() - began) / repeats


def _ranks_outside(num: int) -> int:
    """How many order statistics may be left out at each end of the median's interval."""
    tail, outside = 0.0, 0
    for rank in range(num // 2):
        tail += math.comb(num, rank) / 2**num
        if 2 * tail > 1 - CONFIDENCE:
            break
        outside = rank
    return outside
