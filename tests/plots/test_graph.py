"""Graphs: the longest path along the bottom, and beside it what could run at once."""

from __future__ import annotations

import matplotlib.colors as mcolors
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from sbldlib.measure import AutogradGraph, trace_graph
from sbldlib.plots.graph import plot_graph


@pytest.fixture
def ax():
    return Figure().subplots()


def test_a_graph_has_its_longest_path_along_the_bottom(ax):
    x = torch.ones(2, requires_grad=True)
    graph = trace_graph((x.exp().sin() * x.cos()).sum())
    plot_graph(ax, graph)
    places = np.array([dots.get_offsets()[0] for dots in ax.collections[2:]])
    colours = [mcolors.to_hex(dots.get_facecolor()[0]) for dots in ax.collections[2:]]
    on_path = places[:, 1] == 0
    assert sorted(places[on_path, 0]) == [1, 2, 3, 4, 5] and graph.longest_path == 5
    assert places[~on_path].tolist() == [[2, 1]]  # the cosine could run beside the exponential
    assert len({colour for colour, at in zip(colours, on_path, strict=True) if at}) == 1
    assert [text.get_text() for text in ax.texts] == ["exp", "sin", "mul", "sum"]


def test_nodes_that_compute_nothing_are_left_out_but_what_they_join_is_not(ax):
    graph = AutogradGraph(
        names=("AccumulateGrad", "ExpBackward0", "ViewBackward0", "SinBackward0", "CosBackward0",
               "AddBackward0"),
        needs=((), (0,), (1,), (1,), (3,), (2, 4)),
        depths=(1, 2, 3, 3, 4, 5),
    )  # fmt: skip
    plot_graph(ax, graph)
    assert len(ax.collections) == 2 + 5  # edges of two kinds, and all nodes but the view
    (arc,) = ax.collections[0].get_segments()  # over the view, from the exponential to the sum
    assert arc[0].tolist() == [2, 0] and arc[-1].tolist() == [5, 0] and arc[10][1] > 1


def test_of_one_column_what_is_used_first_lies_lowest(ax):
    graph = AutogradGraph(
        names=("AccumulateGrad", "ExpBackward0", "SinBackward0", "CosBackward0", "AddBackward0",
               "ExpBackward0", "MulBackward0"),
        needs=((), (0,), (0,), (0,), (1, 3), (4,), (5, 2)),
        depths=(1, 2, 2, 2, 3, 4, 5),
    )  # fmt: skip
    plot_graph(ax, graph)
    others = [segment.tolist() for segment in ax.collections[0].get_segments()]
    assert [[2, 1], [3, 0]] in others and [[2, 2], [5, 0]] in others
