"""Random numbers that are a pure function of a name, a seed and counters: no state to save."""

from __future__ import annotations

import hashlib

import numpy as np

from ..errors import check_seed


class Draws:
    """A stream of whole numbers; the same arguments give the same stream on every machine.

    Raw Philox output, whose stream numpy promises to keep from version to version.

    Args:
        stream: what the numbers are for; two names give unrelated streams.
        seed: a whole number in [0, 2**64).
        counters: up to three whole numbers in [0, 2**64), such as rank, micro-batch and step.

    Source: Salmon et al. 2011, doi 10.1145/2063384.2063405 (Philox) [S].
    """

    def __init__(self, stream: str, seed: int, *counters: int) -> None:
        assert len(counters) <= 3, "Philox counts within a stream in its fourth word"
        words = [0, *(check_seed("counter", counter) for counter in counters)]
        words += [0] * (4 - len(words))
        name = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "big")
        self._philox = np.random.Philox(
            key=np.array([check_seed("seed", seed), name], dtype=np.uint64),
            counter=np.array(words, dtype=np.uint64),
        )
        self._spare: list[int] = []

    def integers(self, bound: int, num: int) -> np.ndarray:
        """`num` numbers in [0, bound) as int64, uniform to within bound / 2**64."""
        return (self._philox.random_raw(num) % np.uint64(bound)).astype(np.int64)

    def below(self, bound: int) -> int:
        """One number in [0, bound)."""
        if not self._spare:
            self._spare = self._philox.random_raw(64).tolist()
        return self._spare.pop() % bound
