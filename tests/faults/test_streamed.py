"""A short stream of text in flat memory; `make faults` streams more than this machine's memory."""

from __future__ import annotations

import sys

import pytest
from faults import streamed


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_memory_does_not_grow_with_the_text(tmp_path):
    found = streamed.run(64, seed=0, folder=tmp_path)
    assert found.failures == ()
    assert found.kept == found.tried == len(streamed.STREAMS)
    assert found.figures["bytes"]["mib"] == 64
    assert list(tmp_path.glob("*.tokens")) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [({"growth_mib": 99.0}, "memory grew by 99.0 MiB"), ({"is_whole": False}, "is not what was")],
)
def test_a_stream_that_breaks_the_promise_is_seen(change, words):
    good = {"growth_mib": 1.0, "is_whole": True}
    assert streamed.judge(good) is None
    assert words in str(streamed.judge({**good, **change}))


def test_a_stream_that_ends_in_an_error_is_seen(tmp_path):
    found = streamed.in_a_process("bytes", 0, 0, tmp_path / "t.tokens")
    assert "holds no text" in found["failure"]


def test_the_text_is_a_function_of_the_seed():
    one, same, other = (streamed.Blocks(seed, 3) for seed in (1, 1, 2))
    assert list(one) == list(same) != list(other)
    assert one.given_bytes == sum(map(len, same)) > 3 * streamed.MIB - 100
