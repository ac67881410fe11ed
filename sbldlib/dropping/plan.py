"""Draw which layers run, as a pure function of (seed, iteration, micro-batch, layer).

The plan is known before the forward pass: every rank, a resumed run, a replay and activation
recomputation see the same one, and no random state outside is read or moved [O].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..errors import check_choice, check_positive_int, check_range, check_seed, items

MODES = ("bernoulli", "fixed_count")


def draw_active_layers(
    keep_probability: Sequence[float],
    *,
    seed: int,
    iteration: int,
    micro_batch: int = 0,
    mode: str = "bernoulli",
) -> tuple[int, ...]:
    """The layers that run, in order.

    Args:
        keep_probability: P(layer runs), one a layer, in (0, 1].
        seed, iteration, micro_batch: what the draw is a function of; whole numbers >= 0.
        mode: "bernoulli" draws each layer by itself. "fixed_count" drops a fixed number of layers
            with the same probabilities: the sum of the drop probabilities where it is whole, else
            one of its two neighbours, so that each layer's probability holds exactly.

    Raises:
        ValueError: a probability outside (0, 1], a number below 0, or an unknown mode.

    Source: reconstruction, METHOD section 5 [O]; "fixed_count" is systematic sampling in random
        order (Madow 1949) [S].
    """
    keep_L = check_keep_probability(keep_probability)
    counters = _check_counters(mode, seed=seed, iteration=iteration, micro_batch=micro_batch)
    uniforms = counter_uniforms(len(keep_L) + 1, *counters)
    if mode == "bernoulli":
        active = uniforms[:-1] < keep_L
    else:
        active = ~_systematic(1 - keep_L, order=uniforms[:-1], start=uniforms[-1])
    return tuple(np.flatnonzero(active).tolist())


def draw_active_rows(
    keep_probability: Sequence[float],
    num_rows: int,
    *,
    seed: int,
    iteration: int,
    micro_batch: int = 0,
    mode: str = "bernoulli",
) -> tuple[tuple[int, ...], ...]:
    """For each layer the rows of the batch that run it, in order: each row has its own mask.

    Args:
        keep_probability: P(layer runs for a row), one a layer, in (0, 1].
        num_rows: B, rows of the batch, >= 1.
        seed, iteration, micro_batch: as for `draw_active_layers`; the draws are others.
        mode: "bernoulli" draws each row and layer by itself. "fixed_count" drops a layer for
            floor or ceil of (1 - keep) * B rows, and gives each row floor or ceil of its share of
            all that is dropped, by dealing rows out around and around; each row's probability
            holds exactly.

    Raises:
        ValueError: as for `draw_active_layers`.

    Source: reconstruction [O]; "fixed_count" is systematic sampling (Madow 1949) [S].
    """
    keep_L = check_keep_probability(keep_probability)
    num_rows = check_positive_int("num_rows", num_rows)
    counters = _check_counters(mode, seed=seed, iteration=iteration, micro_batch=micro_batch)
    num_layers = len(keep_L)
    if mode == "bernoulli":
        uniforms = counter_uniforms(num_layers * num_rows, *counters, stream=1)
        active_LB = uniforms.reshape(num_layers, num_rows) < keep_L[:, None]
    else:
        uniforms = counter_uniforms(num_layers + num_rows + 1, *counters, stream=1)
        active_LB = ~_dealt_out(
            1 - keep_L,
            layers=np.argsort(uniforms[:num_layers], kind="stable"),
            rows=np.argsort(uniforms[num_layers:-1], kind="stable"),
            start=uniforms[-1],
        )
    rows = np.nonzero(active_LB)[1].tolist()
    ends = active_LB.sum(axis=1).cumsum().tolist()
    return tuple(tuple(rows[begin:end]) for begin, end in pairwise([0, *ends]))


def check_keep_probability(keep_probability: Sequence[float]) -> np.ndarray:
    """The list as an array, or ValueError naming the first layer outside (0, 1]."""
    try:
        keep_L = np.asarray(keep_probability, dtype=np.float64)
        is_right = bool(((keep_L > 0) & (keep_L <= 1)).all())
    except (TypeError, ValueError):
        keep_L, is_right = np.empty(0), False
    if not is_right:
        for layer, keep in enumerate(items("keep_probability", keep_probability)):
            check_range(f"keep_probability[{layer}]", keep, 0, 1, low_open=True)
    return keep_L


def _check_counters(mode: str, **counters: int) -> list[int]:
    numbers = [check_seed(name, value) for name, value in counters.items()]
    check_choice("mode", mode, MODES)
    return numbers


def counter_uniforms(num: int, seed: int, *counters: int, stream: int = 0) -> np.ndarray:
    """`num` numbers in [0, 1), each a function of the seed, the counters and its place alone.

    Up to three counters; different streams have nothing in common. Raw Philox output, whose stream
    numpy promises to keep.
    """
    key = np.array([seed % 2**64, stream], dtype=np.uint64)
    words = np.array((0, *counters, 0, 0)[:4], dtype=np.uint64)  # word 0 counts within this draw
    raw = np.random.Philox(key=key, counter=words).random_raw(num)
    return (raw >> np.uint64(11)) * 2.0**-53


def _systematic(inclusion: np.ndarray, *, order: np.ndarray, start: float) -> np.ndarray:
    """Include each item with its own probability, the count fixed: equal steps along the sum."""
    places = np.argsort(order, kind="stable")
    places = places[inclusion[places] > 0]
    ends = np.cumsum(inclusion[places])
    ends[-1:] = np.round(ends[-1:], 9)  # a whole sum must not miss its last step by rounding
    crossed = np.floor(ends - start) - np.floor(np.concatenate([[0.0], ends[:-1]]) - start)
    included = np.zeros(len(inclusion), dtype=bool)
    included[places] = crossed > 0
    return included


_UNITS = 2**40  # of a row: whole numbers, so that no sum is off by rounding


def _dealt_out(
    drop_L: np.ndarray, *, layers: np.ndarray, rows: np.ndarray, start: float
) -> np.ndarray:
    """Which rows each layer is dropped for, [L, B]: dealt out around and around, as cards are.

    One layer after the other takes its (1 - keep) * B rows from where the one before it stopped.
    The first place is drawn, so that broken numbers are rounded up as often as they should be.
    """
    num_rows = len(rows)
    taken = np.rint(drop_L[layers] * num_rows * _UNITS).astype(np.int64)
    ends = (taken.cumsum() + int(start * _UNITS)) // _UNITS
    begins = np.concatenate([[0], ends[:-1]])
    # place b of the circle is between begin and end, counted from begin
    is_taken = (np.arange(num_rows) - begins[:, None]) % num_rows < (ends - begins)[:, None]
    dropped_LB = np.zeros((len(drop_L), num_rows), dtype=bool)
    dropped_LB[layers[:, None], rows] = is_taken
    return dropped_LB
