"""What an output sees, drawn."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from sbldlib.measure.routes import route_of
from sbldlib.models.conv_gpt import PRESETS
from sbldlib.plots.routes import MOST_SHOWN, plot_route
from sbldlib.plots.theme import BLUE, ORANGE, PINK

TINY = PRESETS["tiny"]


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
