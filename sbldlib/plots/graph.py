"""A small autograd graph drawn: what could run at once, and the longest path."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from ..measure import AutogradGraph
from .theme import BLUE, INK, ORANGE

# Nodes of autograd that change a tensor's shape, or name a weight, and compute nothing.
BOOKKEEPING = (
    "AccumulateGrad", "Expand", "View", "Reshape", "Transpose", "Permute", "TBackward", "Split",
    "UnsafeView", "Select", "Unsqueeze", "Squeeze", "Clone", "Alias", "Slice", "Unbind",
)  # fmt: skip
ARC = 1.2  # the height of an edge that skips nodes
SHORT = {"Addmm": "matrix", "Mm": "matrix", "Bmm": "products", "Div": "scale"}


def plot_graph(ax: Axes, graph: AutogradGraph) -> Axes:
    """A small autograd graph: each node right of all it needs, the longest path along the bottom.

    Nodes of one column could run at once. Small dots compute nothing: they name weights and change
    shapes; those that lie on no longest path are left out.

    Args:
        ax: to draw on.
        graph: of some dozens of nodes.
    """
    path = list(graph.critical_path())
    filled: dict[int, int] = {}
    places = {node: (graph.depths[node], 0) for node in path}
    for node in sorted(range(graph.num_nodes), key=_first_uses(graph).__getitem__):
        if node not in places and _computes(graph.names[node]):
            depth = graph.depths[node]
            filled[depth] = filled.get(depth, 0) + 1
            places[node] = (depth, filled[depth])
    chain = set(pairwise(path))
    edges = {edge for node in places for edge in _edges_into(graph, node, places)}
    for some, colour, width in ((edges - chain, "#c8c8c8", 0.9), (chain, ORANGE, 2.2)):
        lines = [_line(places[first], places[second]) for first, second in sorted(some)]
        ax.add_collection(LineCollection(lines, colors=colour, linewidths=width, zorder=1))
    for node, (x, y) in places.items():
        computes = _computes(graph.names[node])
        style = {"color": ORANGE if y == 0 else BLUE, "edgecolors": "white", "linewidths": 0.8}
        ax.scatter(x, y, s=70 if computes else 12, zorder=2, **style)
        if y == 0 and computes:
            name = graph.names[node].partition("Backward")[0]
            ax.annotate(
                SHORT.get(name, name.lower()), (x, y), xytext=(0, -8), va="top", ha="center",
                textcoords="offset points", rotation=90, fontsize=8, color=INK,
            )  # fmt: skip
    ax.set(xlabel="depth in the graph", yticks=[])
    top = max(2.0, *filled.values(), 0) + 0.8
    ax.set_ylim(-0.9 * top, top)
    ax.spines["left"].set_visible(False)
    return ax


def _computes(name: str) -> bool:
    return not name.startswith(BOOKKEEPING)


def _first_uses(graph: AutogradGraph) -> list[int]:
    """The depth of the first node that needs each one: lines to early ones lie below others."""
    uses = [graph.longest_path + 1] * graph.num_nodes
    for node, needed in enumerate(graph.needs):
        for other in needed:
            uses[other] = min(uses[other], graph.depths[node])
    return uses


def _line(first: tuple[int, int], second: tuple[int, int]) -> list[tuple[float, float]]:
    """A straight line; an arc between two nodes of the bottom that are not neighbours."""
    if first[1] or second[1] or second[0] - first[0] < 2:
        return [first, second]
    share = np.linspace(0, 1, 21)
    across = first[0] + share * (second[0] - first[0])
    return list(zip(across, 4 * ARC * share * (1 - share), strict=True))


def _edges_into(
    graph: AutogradGraph, node: int, places: Mapping[int, tuple[int, int]]
) -> set[tuple[int, int]]:
    """From each drawn node that this one needs, if only over nodes that are not drawn."""
    found, waiting = set(), list(graph.needs[node])
    while waiting:
        other = waiting.pop()
        if other in places:
            found.add((other, node))
        else:
            waiting += graph.needs[other]
    return found
