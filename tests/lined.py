"""Files of made-up sentences as tokens, for what draws spans from files."""

from __future__ import annotations

import numpy as np

from sbldlib.data.pairs import LineFile, Symbols

SYMBOLS = Symbols.after(256)


def made_files(num: int = 4, lines: int = 60) -> tuple[LineFile, ...]:
    """Files of lines of 1 to 9 tokens; every token of file f is in 60 f .. 60 f + 59."""
    rng = np.random.default_rng(0)
    found = []
    for file in range(num):
        lengths = rng.integers(1, 10, size=lines)
        tokens = rng.integers(60 * file, 60 * (file + 1), size=lengths.sum())
        starts = np.cumsum(lengths) - lengths
        found.append(LineFile(path=f"{file}.py", tokens=tokens.astype(np.int32), starts=starts))
    return tuple(found)
