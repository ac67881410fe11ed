"""KV caches by their bookkeeping alone; tests/peers has transformers' own."""

from __future__ import annotations

import pytest

from sbldlib.dropping.caches import check_cache

NONE, SOME, OTHERS = frozenset(), frozenset({1}), frozenset({2, 3})


class Cache:
    """As transformers': it says how many tokens it holds."""

    def __init__(self, length: int = 0) -> None:
        self.length = length

    def get_seq_length(self) -> int:
        return self.length


def read_on(cache: Cache, off: frozenset[int], *, tokens: int = 2) -> None:
    """One forward with these layers off; the length grows where its layer runs."""
    check_cache(off, ("mask", None, cache))
    cache.length += tokens


@pytest.mark.parametrize("off", [NONE, SOME])
def test_the_same_layers_may_read_on(off):
    cache = Cache()
    for _ in range(4):
        read_on(cache, off)
    assert cache.length == 8


@pytest.mark.parametrize("first, then", [(NONE, SOME), (SOME, NONE), (SOME, OTHERS)])
def test_other_layers_may_not(first, then):
    cache = Cache()
    read_on(cache, first)
    with pytest.raises(ValueError) as error:
        read_on(cache, then)
    expected = f"the skipped layers changed from {sorted(first)} to {sorted(then)} while a KV cache"
    assert str(error.value).startswith(expected)
    assert str(error.value).endswith("use_cache=False")
    read_on(cache, first)  # a refusal leaves it usable


def test_a_length_that_does_not_grow_is_refused_where_layers_are_off():
    cache = Cache()
    read_on(cache, SOME, tokens=0)
    with pytest.raises(ValueError, match=r"its length is read from is one of the skipped \[1\]"):
        read_on(cache, SOME)
    full = Cache()
    read_on(full, NONE, tokens=0)
    read_on(full, NONE)


def test_an_emptied_cache_is_a_new_one():
    cache = Cache()
    for off in (SOME, OTHERS, NONE):
        read_on(cache, off)
        read_on(cache, off)
        cache.length = 0


def test_what_was_filled_unseen_was_filled_at_full_depth():
    read_on(Cache(3), NONE)
    with pytest.raises(ValueError, match=r"changed from \[\] to \[1\]"):
        read_on(Cache(3), SOME)


def test_inputs_without_a_cache_are_no_matter():
    check_cache(SOME, ())
    check_cache(SOME, (None, 3, "mask"))
