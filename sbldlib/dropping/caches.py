"""What a KV cache of transformers cannot survive: its layers must stay as they were.

Its length is read from one layer, mostly 0. Where that one is skipped, every later position would
be silently wrong; so would a layer that joins or leaves while the cache fills.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_LAST_USE = "_sbld_last_use"  # on a cache: (layers off, tokens held) when it was last handed over


def check_cache(off: frozenset[int], inputs: Iterable[Any]) -> None:
    """Note the layers that are off on the cache among a block's inputs, if there is one.

    To be called once a forward, before the first block of a list.

    Raises:
        ValueError: the cache was filled with other layers off, or shows no length because the layer
            that it is read from is off.
    """
    cache = next((value for value in inputs if hasattr(value, "get_seq_length")), None)
    if cache is None:
        return
    length = int(cache.get_seq_length())
    # What was filled unseen was filled at full depth.
    before, held = getattr(cache, _LAST_USE, (frozenset(), -1))
    is_new = length == 0 != held
    if not is_new and off != before:
        _refuse(f"the skipped layers changed from {sorted(before)} to {sorted(off)}")
    if not is_new and off and length == 0:
        _refuse(f"the layer that its length is read from is one of the skipped {sorted(off)}")
    setattr(cache, _LAST_USE, (off, length))


def _refuse(reason: str) -> None:
    raise ValueError(
        f"{reason} while a KV cache is in use; keep the layers fixed for a whole generation and "
        "run layer 0, or pass use_cache=False"
    )
