"""Draw which layers run, as a pure function of (seed, iteration, micro-batch, layer).

The plan is known before the forward pass: every rank, a resumed run, a replay and activation
recomputation see the same one, and no random state outside is read or moved [O].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import check_positive_int, check_range, unknown_name

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
    keep = check_keep_probability(keep_probability)
    counters = {"seed": seed, "iteration": iteration, "micro_batch": micro_batch}
    numbers = [check_positive_int(name, value, minimum=0) for name, value in counters.items()]
    uniforms = counter_uniforms(len(keep) + 1, *numbers)
    if mode == "bernoulli":
        active = uniforms[:-1] < keep
    elif mode == "fixed_count":
        active = ~_systematic(1 - keep, order=uniforms[:-1], start=uniforms[-1])
    else:
        raise unknown_name("mode", mode, MODES)
    return tuple(int(layer) for layer in np.flatnonzero(active))


def check_keep_probability(keep_probability: Sequence[float]) -> np.ndarray:
    """The list as an array, or ValueError naming the first layer outside (0, 1]."""
    for layer, keep in enumerate(keep_probability):
        check_range(f"keep_probability[{layer}]", keep, 0, 1, low_open=True)
    return np.asarray(keep_probability, dtype=np.float64)


def counter_uniforms(num: int, seed: int, *counters: int) -> np.ndarray:
    """`num` numbers in [0, 1), each a function of the seed, the counters and its place alone.

    Up to three counters. Raw Philox output, whose stream numpy promises to keep.
    """
    key = np.array([seed % 2**64, 0], dtype=np.uint64)
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
