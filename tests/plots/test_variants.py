"""The variants' figures show the numbers of the cells: marks, means, intervals, suspects."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from variant_cells import RAW, everything, trained

from sbldlib.comparison.cells import arms_of, mean_over_seeds
from sbldlib.plots.variant_styles import arm_style, suspects
from sbldlib.plots.variants import (
    REPORTED,
    draw_lengths,
    draw_suspects,
    draw_variants,
    plot_curves,
    plot_lengths,
    plot_scores,
    plot_suspects,
)

CELLS = everything()


def an_axes():
    return Figure().subplots()


def test_styles_tell_arms_apart_and_name_the_context_and_the_offset():
    arms = ("gpt", "gpt-64", "gpt-ahead", "conv", "conv-ahead", "conv-leak")
    arms += ("gpt-shallow", "gpt-outer", "diverging", "diverging-plain", "stack")
    styles = [arm_style(arm, CELLS) for arm in arms]
    assert len({(s["color"], s["linestyle"]) for s in styles}) == len(arms)
    assert len({s["label"] for s in styles}) == len(arms)
    assert arm_style("gpt-256")["label"] == "GPT, 256 tokens of context"
    assert arm_style("conv-ahead", CELLS)["label"] == "convolution, 16 ahead"
    assert arm_style("conv-ahead")["label"] == "convolution, further ahead"
    assert arm_style("gru")["label"] == "GRU"
    assert arm_style("mine")["label"] == "mine"


def test_scores_are_a_mark_a_seed_and_a_mean_with_its_interval():
    ax = plot_scores(an_axes(), CELLS, "raw", ["gpt", "conv"])
    marks, interval, mean, *_ = ax.lines
    assert marks.get_xdata().tolist() == list(RAW["gpt"]) and set(marks.get_ydata()) == {0}
    found = mean_over_seeds(CELLS, "raw", "gpt")
    assert interval.get_xdata() == pytest.approx([found.low, found.high])
    assert mean.get_xdata() == pytest.approx([2.4])
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["GPT", "convolution, next token"]
    low, high = ax.get_ylim()
    assert low > high, "the first arm is on top"
    assert ax.get_title(loc="left") or ax.get_title() == "equal tokens"
    longer = plot_scores(an_axes(), CELLS, "longer")
    assert longer.get_title() == "3 times the tokens"
    assert [label.get_text() for label in longer.get_yticklabels()][-1] == "GRU"


def test_one_seed_has_no_interval():
    cells = {name: cell for name, cell in trained().items() if name == "raw/gpt/0"}
    ax = plot_scores(an_axes(), cells, "raw")
    assert [len(line.get_xdata()) for line in ax.lines] == [1, 1]


def test_curves_are_means_over_seeds_against_operations():
    ax = plot_curves(an_axes(), CELLS)
    assert [line.get_label() for line in ax.lines] == [
        arm_style(arm, CELLS)["label"] for arm in arms_of(CELLS, "compute")
    ]
    gpt = ax.lines[0]
    assert gpt.get_xdata() == pytest.approx([1.5, 3.0])
    assert gpt.get_ydata() == pytest.approx([3.4, 2.4])
    assert len(ax.collections) == 4, "a band each"


def test_suspects_are_reported_and_on_text_alone():
    rows = {label: (kind, reported, alone) for label, kind, reported, alone in suspects(CELLS)}
    assert rows["GPT"] == ("reference", pytest.approx(2.4), None)
    assert rows["convolution, 16 ahead"] == ("target", pytest.approx(3.4), None)
    assert rows["GPT, 16 ahead"] == ("target", pytest.approx(3.3), None)
    assert rows["guess by frequency"] == ("reference", 3.6, None)
    kind, reported, alone = rows["padding counted, 50% of targets"]
    assert (kind, reported, alone) == ("padding", pytest.approx(2.0), pytest.approx(4.0))
    assert rows["convolution, planted leak"][:2] == ("leak", pytest.approx(0.5))


def test_the_suspects_figure_has_the_sources_ratio_to_the_baseline():
    ax = plot_suspects(an_axes(), CELLS)
    dashed = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed == pytest.approx([share * 2.4 for share in REPORTED])
    assert pytest.approx((0.401, 0.376), abs=1e-3) == REPORTED
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata()[0] for line in hollow if len(line.get_xdata())] == pytest.approx(
        [4.0, 3.0]
    )
    assert len(ax.get_yticklabels()) == len(suspects(CELLS))
    assert not plot_suspects(an_axes(), {}).lines


def test_lengths_are_medians_a_token_shortest_first():
    ax = plot_lengths(an_axes(), CELLS)
    gpt, conv = (container[0] for container in ax.containers)
    assert gpt.get_xdata().tolist() == [64, 256]
    assert gpt.get_ydata() == pytest.approx([8e-3 * n * 1e6 / 4096 for n in (64, 256)])
    assert conv.get_ydata() == pytest.approx(gpt.get_ydata() / 4)
    assert "µs a token" in ax.get_ylabel()
    kept = plot_lengths(an_axes(), CELLS, "saved_bytes").containers[0][0]
    assert kept.get_ydata() == pytest.approx([1.0, 1.0])
    assert not plot_lengths(an_axes(), {}).containers


def test_one_row_a_budget_one_column_a_length_and_an_arm_at_the_same_height_in_both():
    figure = Figure(figsize=(7.2, 6), layout="constrained")
    draw_variants(figure, CELLS)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["equal tokens", "3 times the tokens", "equal FLOPs", "3 times the FLOPs"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["GPT", "convolution, next token", "diverging"], "no GRU, no leak"
    seeds = [line for line in figure.axes[1].lines if len(line.get_xdata()) == 3]
    marks = {line.get_ydata()[0]: list(line.get_xdata()) for line in seeds}
    assert marks == {0: [1.8, 2.1, 2.4], 2: [1.9, 2.3, 2.5]}, "nothing where nothing was measured"
    short = {name: cell for name, cell in CELLS.items() if "longer" not in name}
    figure = Figure(figsize=(7.2, 6), layout="constrained")
    draw_variants(figure, short)
    assert [ax.get_title() for ax in figure.axes] == ["equal tokens", "equal FLOPs"]


@pytest.mark.parametrize("draw", [draw_variants, draw_lengths, draw_suspects])
def test_whole_figures_can_be_drawn(draw, tmp_path):
    figure = Figure(figsize=(7.2, 4), layout="constrained")
    draw(figure, CELLS)
    figure.savefig(tmp_path / "figure.png", dpi=40)
    for ax in figure.axes:  # its own words, or those of the axes below that it shares them with
        shared = ax.get_shared_x_axes().get_siblings(ax)
        assert any(other.get_xlabel() for other in shared)
