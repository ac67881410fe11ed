"""Attention pictures show the weights they are given, and refuse what cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from sbldlib.measure.attention import AttentionMaps
from sbldlib.plots.attention import (
    MAX_DRAWN,
    MAX_HEADS,
    MAX_NAMED,
    STYLES,
    plot_attention_map,
    plot_head_view,
    plot_model_view,
    token_name,
)


def maps(num_layers=2, num_heads=3, queries=("p", "q"), keys=("r", "s", " ")) -> AttentionMaps:
    generator = torch.Generator().manual_seed(0)
    shape = (num_layers, num_heads, len(queries), len(keys))
    weights = (3 * torch.randn(shape, generator=generator)).softmax(-1)
    return AttentionMaps(weights_LHTS=weights, queries=queries, keys=keys)


def drawn(plot, *given, **settings):
    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = plot(figure.subplots(), *given, **settings)
    figure.draw_without_rendering()
    return ax


def test_one_map_is_the_weights_with_both_sides_named():
    found = maps()
    ax = drawn(plot_attention_map, found.map(1, 2), found.queries, found.keys, with_numbers=True)
    assert np.allclose(ax.images[0].get_array(), found.map(1, 2))
    assert ax.images[0].get_clim() == (0, 1), "the same colours in every picture"
    assert [t.get_text() for t in ax.get_yticklabels()] == ["p", "q"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["r", "s", "␣"]
    shares = [float(t.get_text() or 0) for t in ax.texts]
    assert shares == pytest.approx(found.map(1, 2).flatten().tolist(), abs=0.0051)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("looks (query)", "looked at (key)")


def test_long_names_are_turned_and_short_ones_are_not():
    weights = torch.full((2, 4), 0.25)
    short = drawn(plot_attention_map, weights, ("p", "q"), ("r",) * 4)
    long = drawn(plot_attention_map, weights, ("p", "q"), ("quatre-vingt-dix",) * 4)
    turned = [ax.get_xticklabels()[0].get_rotation() for ax in (short, long)]
    assert turned == [0, 90]


def test_a_map_stands_with_its_bar_or_without():
    weights = torch.full((1, 2), 0.5)
    for with_bar in (True, False):
        ax = drawn(plot_attention_map, weights, ("p",), ("r", "s"), with_bar=with_bar)
        assert len(ax.figure.axes) == 1 + with_bar
    ax = drawn(plot_attention_map, weights, ("p",), ("r", "s"), highest=0.5)
    assert ax.images[0].get_clim() == (0, 0.5)


def test_the_model_view_holds_every_map_in_its_row_and_column():
    found = maps()
    ax = drawn(plot_model_view, found)
    tiles = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert tiles.shape == (2 * 3 - 1, 3 * 4 - 1)
    for layer, head in np.ndindex(2, 3):
        tile = tiles[3 * layer : 3 * layer + 2, 4 * head : 4 * head + 3]
        assert np.allclose(tile, found.map(layer, head))
    assert np.isnan(tiles[2]).all() and np.isnan(tiles[:, 3]).all()
    assert list(ax.get_yticks()) == [0.5, 3.5] and list(ax.get_xticks()) == [1, 5, 9]


def test_lines_lead_from_who_looks_to_what_is_looked_at_the_bolder_the_more():
    weights = torch.tensor([[[[0.99, 0.01], [0.3, 0.7]]]])
    found = AttentionMaps(weights_LHTS=weights, queries=("p", "q"), keys=("r", "s"))
    lines = drawn(plot_head_view, found).get_lines()
    ends = [tuple(np.round(line.get_ydata(), 6)) for line in lines]
    assert ends == [(0, 0), (1, 0), (1, 1)], "a link below the faintest is not drawn"
    strong, weak, middle = lines
    assert strong.get_linewidth() > middle.get_linewidth() > weak.get_linewidth()
    assert strong.get_color()[3] > middle.get_color()[3] > weak.get_color()[3]


def test_chosen_heads_keep_their_colour_and_line_and_lie_side_by_side():
    found = maps()
    ax = drawn(plot_head_view, found, layer=1, heads=[2, 0])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["head 2", "head 0"]
    colours = {tuple(line.get_color()[:3]) for line in ax.get_lines()}
    assert colours == {to_rgb(STYLES[2][0]), to_rgb(STYLES[0][0])}
    assert len({round(line.get_ydata()[0] % 1, 6) for line in ax.get_lines()}) == 2
    many = maps(num_heads=8)
    assert (
        len({line.get_color()[:3] for line in drawn(plot_head_view, many, heads=[1, 7]).lines}) == 2
    )


def test_one_tokens_lines_are_drawn_alone_and_its_name_stands_out():
    ax = drawn(plot_head_view, maps(), heads=[0], query=1)
    assert {line.get_ydata()[0] for line in ax.get_lines()} == {1}
    weights = {t.get_text(): t.get_weight() for t in ax.texts if t.get_text() in ("p", "q")}
    assert weights == {"p": "normal", "q": "bold"}


@pytest.mark.parametrize(
    ("plot", "most"),
    [
        (plot_head_view, MAX_NAMED),
        (plot_model_view, MAX_DRAWN),
        (lambda ax, m: plot_attention_map(ax, m.map(0, 0), m.queries, m.keys), MAX_NAMED),
    ],
)
def test_as_many_tokens_as_can_be_read_are_drawn_and_no_more(plot, most):
    drawn(plot, maps(1, 1, ("token",) * 2, ("a long token",) * most))
    for queries, keys, field in ((2, most + 1, "keys"), (most + 1, 2, "queries")):
        said = f"{field} of {most + 1} tokens are more than the {most} that"
        with pytest.raises(ValueError, match=said):
            drawn(plot, maps(1, 1, ("p",) * queries, ("r",) * keys))


def test_what_there_is_not_is_refused():
    for heads in ([], range(MAX_HEADS + 1)):
        with pytest.raises(ValueError, match="must be 1 to 6"):
            drawn(plot_head_view, maps(num_heads=9), heads=heads)
    for wrong in ({"layer": 2}, {"heads": [3]}, {"query": 2}):
        with pytest.raises(ValueError, match=r"(layer|head|query)="):
            drawn(plot_head_view, maps(), **wrong)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) must be \[3, 2\]"):
        drawn(plot_attention_map, maps().map(0, 0), ("p", "q", "x"), ("r", "s"))


@pytest.mark.parametrize(
    ("token", "name"),
    [(" ", "␣"), ("", "∅"), (" the", "the"), ("a" * 30, "a" * 13 + "…"), ("\n", "⏎")],
)
def test_every_token_is_seen(token, name):
    assert token_name(token) == name


def test_tokens_are_shown_as_they_are():
    keys = ("$x^2$", "_under", "<end>")
    ax = drawn(plot_head_view, maps(keys=keys))
    assert {r"\$x^2\$", " _under", "<end>"} <= {t.get_text() for t in ax.texts}
