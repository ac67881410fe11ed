from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from sbldlib.plots.filling import plot_guesses, plot_influence, plot_shares


def test_what_is_exactly_zero_is_blank():
    ax = plot_influence(Figure().subplots(), np.tril(np.ones((4, 4))))
    assert np.array_equal(ax.images[0].get_array().mask, np.triu(np.ones((4, 4)), 1) > 0)
    tiny = plot_influence(Figure().subplots(), np.array([[1.0, 1e-9], [1.0, 1.0]]))
    assert not np.ma.getmaskarray(tiny.images[0].get_array()).any()


def test_guesses_are_bars_with_the_likeliest_on_top():
    ax = plot_guesses(Figure().subplots(), [(" self", 0.5), ("$x", 0.2)], name="BERT", right="$x")
    assert [bar.get_width() for bar in ax.patches] == [0.5, 0.2]
    assert ax.patches[0].get_y() > ax.patches[1].get_y()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["' self'", "→ '\\$x'"]
    assert not plot_guesses(Figure().subplots(), [], name="GPT").patches


def test_shares_have_their_intervals():
    ax = plot_shares(
        Figure().subplots(), {"a": (0.5, 0.4, 0.7), "b": (0.2, 0.1, 0.3)}, baselines={"chance": 0.1}
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    spans = [line.get_segments()[0][:, 0] for line in ax.collections]
    assert spans[0] == pytest.approx([0.4, 0.7]) and spans[1] == pytest.approx([0.1, 0.3])
