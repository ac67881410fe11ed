"""What an output sees, by rule, is what is measured."""

from __future__ import annotations

import pytest
import torch

from sbldlib.measure import measure_causality
from sbldlib.measure.routes import route_of
from sbldlib.models.conv_gpt import PRESETS, ConvGPT, ConvGPTConfig

TINY = PRESETS["tiny"]


@pytest.mark.parametrize(("merge", "shift"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
@pytest.mark.parametrize("skip", [True, False])
def test_the_rule_is_what_is_measured(merge, skip, shift):
    config = ConvGPTConfig(
        vocabulary_size=8, context_length=2 * merge**2, widths=(8, 16, 32), num_heads=2,
        merge=merge, skip_connections=skip, init_std=0.3,
    )  # fmt: skip
    model = ConvGPT(config)
    for compressor in model.compressors:
        compressor.shift = shift
    T = config.context_length
    found = measure_causality(model, torch.zeros(1, T, dtype=torch.int64))
    for position, row in enumerate(found.influence):
        route = route_of(config, position, shift=shift, offset=1)
        seen = max(j for j, value in enumerate(row) if value)
        assert min(route.last_seen, T - 1) == seen, route
        assert route.is_honest == (route.last_seen <= position)


def test_a_route_by_hand():
    route = route_of(TINY, 21, shift=3, offset=1)
    assert (route.places, route.known) == ((21, 5, 1), (21, 20, 16))
    assert (route.last_seen, route.target, route.is_honest) == (21, 22, True)
    leak = route_of(TINY, 21, shift=0, offset=1)
    assert (leak.known, leak.last_seen, leak.is_honest) == ((21, 23, 31), 31, False)
    last = route_of(TINY, 31, shift=0, offset=1)
    assert last.is_honest, "the last of its group sees no further than itself"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"position": -1}, "position=-1"), ({"shift": 4}, "shift=4"), ({"offset": 0}, "offset=0")],
)
def test_what_is_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        asked = {"position": 0, "shift": 3, "offset": 1, **changes}
        route_of(TINY, asked.pop("position"), **asked)
