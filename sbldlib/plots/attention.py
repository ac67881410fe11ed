"""Pictures of attention: one map, every map of a model, and lines from token to token.

Legend: L layers, H heads, T tokens that look (queries), S tokens looked at (keys).

Source: [S] head view and model view as in Vig, "A Multiscale Visualization of Attention in the
Transformer Model", 2019, arXiv 1906.05714.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from ..measure.attention import AttentionMaps
from .theme import BLUE, GREEN, GREY, INK, ORANGE, PINK, PROBABILITY, SKY, literal

MAX_NAMED, MAX_DRAWN = 40, 512  # tokens along an axis: with their names, and without
MAX_HEADS = 6  # in one head view: as many colours can be told apart
FAINTEST = 0.02  # a link that is weaker is not drawn
STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, ":"), (PINK, "-."))
STYLES += ((SKY, (0, (5, 1))), (INK, (0, (1, 1))))
_TOKEN_CHARACTERS = 14
_LETTER_INCHES = 0.1  # width of a letter of 11 points, about
_ALONE = {" ": "␣", "\n": "⏎", "\t": "⇥", "": "∅"}  # tokens that would be seen as nothing


def plot_attention_map(
    ax: Axes,
    weights_TS: Any,
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    with_numbers: bool = False,
    with_bar: bool = True,
    highest: float = 1.0,
) -> Axes:
    """One head as a raster: a row a token that looks, a column a token looked at.

    Args:
        weights_TS: shares in [0, 1].
        queries, keys: at most 40 tokens each.
        with_numbers: whether each share of at least 0.005 is written in its place.
        with_bar: whether a colour bar stands beside it.
        highest: the share at the bright end of the colours, in (0, 1].

    Raises:
        ValueError: more tokens than can be named, or weights of another shape.
    """
    shares_TS = np.asarray(weights_TS, dtype=float)
    for field, names in (("queries", queries), ("keys", keys)):
        _check_num_tokens(field, names, MAX_NAMED, "the model view shows more")
    if shares_TS.shape != (len(queries), len(keys)):
        raise ValueError(
            f"weights of shape {shares_TS.shape} must be [{len(queries)}, {len(keys)}]: "
            "a row a query, a column a key"
        )
    image = ax.imshow(shares_TS, cmap=PROBABILITY, vmin=0, vmax=highest, aspect="auto")
    ax.set_yticks(range(len(queries)), labels=list(map(token_name, queries)))
    ax.set_xticks(range(len(keys)), labels=list(map(token_name, keys)))
    ax.tick_params(length=0, labelsize=letter_size(max(len(queries), len(keys))))
    ax.tick_params(axis="x", rotation=90 if _need_turning(ax, keys) else 0)
    ax.set(xlabel="looked at (key)", ylabel="looks (query)")
    ax.spines[:].set_visible(False)
    if with_numbers:
        for (row, column), share in np.ndenumerate(shares_TS):
            colour = INK if share > 0.6 * highest else "white"
            text = f"{share:.2f}".lstrip("0") if 0.005 <= share < 0.995 else f"{share:.0f}"
            ax.text(column, row, text if share >= 0.005 else "", color=colour, fontsize=9,
                    ha="center", va="center")  # fmt: skip
    if with_bar:
        _add_bar(ax, image)
    return ax


def plot_model_view(ax: Axes, maps: AttentionMaps) -> Axes:
    """Every head of every layer as a small raster: a row a layer, a column a head.

    Raises:
        ValueError: more tokens than can be drawn.
    """
    for field, names in (("queries", maps.queries), ("keys", maps.keys)):
        _check_num_tokens(field, names, MAX_DRAWN, "no finer raster is to be seen")
    L, H, T, S = maps.weights_LHTS.shape
    gap_rows, gap_columns = max(1, round(0.12 * T)), max(1, round(0.12 * S))
    tiles = np.full((L * (T + gap_rows), H * (S + gap_columns)), np.nan)
    for layer, head in np.ndindex(L, H):
        top, left = layer * (T + gap_rows), head * (S + gap_columns)
        tiles[top : top + T, left : left + S] = maps.weights_LHTS[layer, head].numpy()
    tiles = tiles[:-gap_rows, :-gap_columns]
    image = ax.imshow(tiles, cmap=PROBABILITY, vmin=0, vmax=1, aspect="auto")
    middles = np.arange(L) * (T + gap_rows) + (T - 1) / 2, np.arange(H) * (S + gap_columns)
    ax.set_yticks(middles[0], labels=[str(layer) for layer in range(L)])
    ax.set_xticks(middles[1] + (S - 1) / 2, labels=[str(head) for head in range(H)])
    ax.tick_params(length=0)
    ax.set(xlabel="head", ylabel="layer")
    ax.spines[:].set_visible(False)
    _add_bar(ax, image)
    return ax


def plot_head_view(
    ax: Axes,
    maps: AttentionMaps,
    *,
    layer: int = 0,
    heads: Sequence[int] | None = None,
    query: int | None = None,
) -> Axes:
    """Lines from the tokens that look, left, to those looked at, right: the bolder, the more.

    Args:
        maps: of one sentence; at most 40 tokens on a side.
        layer: whose heads are shown.
        heads: which of them, one colour and line style each, at most 6; None is the first 6.
        query: the place of the one token whose lines are drawn; None is all.

    Raises:
        ValueError: a layer, head or query that there is not, or more than can be shown.
    """
    for field, names in (("queries", maps.queries), ("keys", maps.keys)):
        _check_num_tokens(field, names, MAX_NAMED, "the model view shows more")
    heads = range(maps.num_heads)[:MAX_HEADS] if heads is None else heads
    if not 1 <= len(heads) <= MAX_HEADS:
        raise ValueError(f"heads={tuple(heads)} must be 1 to {MAX_HEADS} of them, one colour each")
    rows = range(len(maps.queries)) if query is None else [maps.place("query", query)]
    styles = _head_styles(heads)
    for place, head in enumerate(heads):
        weights_TS = maps.map(layer, head).numpy()
        shift = 0.3 * ((place + 0.5) / len(heads) - 0.5)  # heads that agree lie side by side
        colour, line = styles[place]
        for t in rows:
            for s in np.flatnonzero(weights_TS[t] >= FAINTEST):
                share = float(weights_TS[t, s])
                ax.plot(
                    [0, 1], [t + shift, s + shift], color=to_rgba(colour, share**0.7),
                    linestyle=line, linewidth=0.6 + 2.6 * share, solid_capstyle="butt",
                )  # fmt: skip
    _name_columns(ax, maps, query)
    named = [
        Line2D([], [], color=colour, linestyle=line, label=f"head {head}")
        for head, (colour, line) in zip(heads, styles, strict=True)
    ]
    ax.legend(handles=named, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3)
    return ax


def token_name(token: str) -> str:
    """A token as a label: short, and seen even where it is a space."""
    name = literal(_ALONE.get(token, token).strip(" "))
    return name if len(name) <= _TOKEN_CHARACTERS else f"{name[: _TOKEN_CHARACTERS - 1]}…"


def _add_bar(ax: Axes, image: AxesImage) -> None:
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02)
    bar.set_label("share of the attention")
    bar.outline.set_visible(False)


def _name_columns(ax: Axes, maps: AttentionMaps, query: int | None) -> None:
    """The tokens on both sides, the chosen one bold, and what the sides are."""
    size = letter_size(max(len(maps.queries), len(maps.keys)))
    for x, names, side in ((0, maps.queries, "right"), (1, maps.keys, "left")):
        for place, name in enumerate(names):
            is_chosen = x == 0 and place == query
            is_dim = x == 0 and query is not None and not is_chosen
            ax.annotate(
                token_name(name), (x, place), xytext=(-5 if x == 0 else 5, 0), ha=side,
                va="center", textcoords="offset points", fontsize=size,
                color=GREY if is_dim else INK, weight="bold" if is_chosen else "normal",
                annotation_clip=False,
            )  # fmt: skip
        ax.annotate(
            ("looks", "looked at")[x], (x, -1), xytext=(-5 if x == 0 else 5, 0), ha=side,
            va="center", textcoords="offset points", color=GREY, annotation_clip=False,
        )  # fmt: skip
    longest = max(len(maps.queries), len(maps.keys))
    ax.set(xlim=(0, 1), ylim=(longest - 0.4, -1.5))
    ax.axis("off")


def _need_turning(ax: Axes, names: Sequence[str]) -> bool:
    """Whether names side by side below an axis would run into each other."""
    inches_each = ax.get_window_extent().width / ax.figure.dpi / len(names)
    return max(len(token_name(name)) for name in names) * _LETTER_INCHES > inches_each


def _head_styles(heads: Sequence[int]) -> list[tuple[str, Any]]:
    """Colour and line of each head: the head's own, where no two of these share one."""
    places = [head % MAX_HEADS for head in heads]
    if len(set(places)) < len(places):
        places = list(range(len(heads)))
    return [STYLES[place] for place in places]


def letter_size(num_tokens: int) -> float:
    """Points of the names of this many tokens along one axis."""
    return 11.0 if num_tokens <= 16 else 9.0 if num_tokens <= 26 else 7.0


def _check_num_tokens(field: str, names: Sequence[str], most: int, instead: str) -> None:
    if len(names) > most:
        raise ValueError(
            f"{field} of {len(names)} tokens are more than the {most} that this picture can show; "
            f"shorten the sentence ({instead})"
        )
