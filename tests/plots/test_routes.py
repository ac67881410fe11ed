"""What an output sees, by rule and drawn."""

from __future__ import annotations

import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from sbldlib.measure import measure_causality
from sbldlib.models.conv_gpt import PRESETS, ConvGPT, ConvGPTConfig
from sbldlib.plots.routes import MOST_SHOWN, plot_route, route_of
from sbldlib.plots.theme import BLUE, ORANGE, PINK

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


def drawn(name: str, position: int, shift: int, offset: int):
    ax = Figure(figsize=(7.2, 3.4), layout="constrained").subplots()
    route = route_of(PRESETS[name], position, shift=shift, offset=offset)
    plot_route(ax, PRESETS[name], route, shift=shift, num_tokens=48)
    return ax, route


def in_row(ax, row: int) -> list:
    return [box for box in ax.patches if box.get_y() == pytest.approx(row - 0.34)]


def coloured(boxes, colour: str) -> list[int]:
    return [n for n, box in enumerate(boxes) if box.get_facecolor() == to_rgba(colour)]


def test_what_is_seen_and_what_is_predicted_are_marked():
    ax, route = drawn("tiny", 21, 3, 1)
    assert coloured(in_row(ax, 0), BLUE) == list(range(22))
    assert coloured(in_row(ax, 6), ORANGE) == [22]
    for level in range(3):
        assert coloured(in_row(ax, level + 1), BLUE) == [route.places[level]]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "it sees", "in, level 0", "in, level 1", "level 2", "out, level 1", "out, level 0",
        "it predicts",
    ]  # fmt: skip


def test_a_leak_is_hatched():
    ax, _ = drawn("tiny", 21, 0, 1)
    seen = in_row(ax, 0)
    assert coloured(seen, PINK) == list(range(22, 32))
    assert all(seen[n].get_hatch() for n in range(22, 32)) and not seen[21].get_hatch()


def test_without_skip_connections_the_innermost_level_alone_is_read():
    ax, _ = drawn("tiny-ahead", 21, 0, 16)
    assert coloured(in_row(ax, 1), BLUE) == [] and coloured(in_row(ax, 3), BLUE) == [1]
    assert coloured(in_row(ax, 0), BLUE) == list(range(32))
    assert coloured(in_row(ax, 6), ORANGE) == [37]


def test_more_tokens_than_can_be_told_apart_are_refused():
    route = route_of(TINY, 0, shift=3, offset=1)
    with pytest.raises(ValueError, match=f"num_tokens={MOST_SHOWN + 1}"):
        plot_route(Figure().subplots(), TINY, route, shift=3, num_tokens=MOST_SHOWN + 1)
