from __future__ import annotations

from matplotlib.figure import Figure

from sbldlib.models.family import FAMILY, count_parameters, member
from sbldlib.plots.family import STYLE, line_of, plot_compute, plot_sizes


def test_every_member_has_a_line():
    assert {line_of(one) for one in FAMILY} == set(STYLE)


def test_compute_shows_what_was_published():
    ax = plot_compute(Figure().subplots())
    assert ax.get_xscale() == ax.get_yscale() == "log"
    points = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in ax.get_lines()}
    largest = member("GPT-3 175B")
    assert (count_parameters(largest), 3640.0) in points
    labels = ax.get_legend_handles_labels()[1]
    assert len(labels) == len(set(labels)) == 5  # four lines and the reckoned crosses
    assert "petaflop/s-days" in ax.get_ylabel()


def test_an_order_alone_is_a_bar():
    ax = plot_compute(Figure().subplots(), [member("GPT-2 XL")])
    (line,) = ax.get_lines()
    assert list(line.get_ydata()) == [10.0, 100.0]


def test_sizes_are_in_order_with_published_numbers():
    ax = plot_sizes(Figure().subplots())
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == sorted(widths) and len(widths) == len(FAMILY)
    assert ax.texts[-1].get_text() == "175 G" and ax.texts[0].get_text() == "110 M"
