from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from sbldlib.dropping.curves import null_curve
from sbldlib.dropping.fit_band import fit_band
from sbldlib.dropping.pwegd_fit import fit_amplitude, fit_rivals
from sbldlib.dropping.variance import (
    MOST_WHERE_HIGH,
    create_variance_based_scheduler,
    variance_curve,
)
from sbldlib.plots.variance import (
    FIT_STYLE,
    draw_exploration,
    plot_cumulative,
    plot_density,
    plot_directions,
    plot_null,
    plot_residuals,
    plot_rivals,
    plot_schedule,
    plot_schedules,
    plot_variance_fit,
)
from sbldlib.records import PilotData


@pytest.fixture
def pilot():
    rng = np.random.default_rng(0)
    progress = np.linspace(0, 1, 80)
    base = 4 - 2 * progress
    gap = 0.6 * progress * np.exp(-3 * progress)
    drops = [tuple(base + gap * (1 + 0.1 * rng.standard_normal(80))) for _ in range(3)]
    return PilotData(
        baseline_losses=(tuple(base),) * 3, dropping_losses=tuple(drops), seeds=(0, 1, 2),
        mean_keep=0.8, seconds=1.0,
    )  # fmt: skip


def test_measured_curve_and_fit_are_drawn(pilot):
    scheduler = create_variance_based_scheduler(pilot, saving=0.2)
    ax = Figure().subplots()
    plot_variance_fit(ax, scheduler.curve, scheduler.fit)
    measured, fitted = ax.get_lines()
    assert np.allclose(measured.get_ydata(), scheduler.curve.variance)
    assert np.allclose(fitted.get_ydata(), scheduler.fit(np.asarray(scheduler.curve.progress)))
    assert len(ax.collections) == 1  # the bootstrap band
    assert "(nats/token)²" in ax.get_ylabel()


def test_one_pair_has_no_band(pilot):
    one = PilotData(
        baseline_losses=pilot.baseline_losses[:1], dropping_losses=pilot.dropping_losses[:1],
        seeds=(0,), mean_keep=0.8, seconds=1.0,
    )  # fmt: skip
    scheduler = create_variance_based_scheduler(variance_curve(one), saving=0.2)
    ax = Figure().subplots()
    assert not plot_variance_fit(ax, scheduler.curve, scheduler.fit).collections


def test_schedule_is_drawn_over_the_whole_run():
    ax = Figure().subplots()
    plot_schedule(ax, lambda progress: 1 - progress / 2)
    (line,) = ax.get_lines()
    assert line.get_ydata()[0] == 1 and line.get_ydata()[-1] == 0.5
    assert line.get_xdata()[-1] == 1


@pytest.fixture
def scheduler(pilot):
    return create_variance_based_scheduler(pilot, saving=0.2, num_starts=2)


def labels(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_fits_band_and_the_range_of_its_peak_are_drawn(pilot, scheduler):
    band = fit_band(pilot, num_bootstrap=10, num_starts=2)
    ax = Figure().subplots()
    plot_variance_fit(ax, scheduler.curve, scheduler.fit, band=band)
    assert "band of the fit" in labels(ax) and "its peak" in labels(ax)
    (bar,) = ax.containers
    (segment,) = bar.lines[2][0].get_segments()
    low, high = band.peak_range
    assert segment[:, 0] == pytest.approx(
        [min(low, scheduler.fit.peak), max(high, scheduler.fit.peak)]
    )


def test_the_null_is_drawn_beside_the_pairs_on_a_logarithmic_axis(pilot, scheduler):
    rng = np.random.default_rng(1)
    losses = tuple(map(tuple, 3 + 0.3 * rng.standard_normal((3, 80))))
    null = null_curve(PilotData(**{**vars(pilot), "baseline_losses": losses}))
    ax = Figure().subplots()
    plot_null(ax, scheduler.curve, null)
    paired, unpaired = ax.get_lines()
    assert ax.get_yscale() == "log" and "(nats/token)²" in ax.get_ylabel()
    assert np.allclose(paired.get_ydata(), scheduler.curve.variance)
    assert np.allclose(unpaired.get_ydata(), null.variance)


def test_every_rival_is_drawn_with_its_r2_and_a_look_of_its_own(scheduler):
    curve, fit = scheduler.curve, scheduler.fit
    rivals = fit_rivals(curve.progress, curve.variance, window=curve.window, num_starts=2)
    ax = Figure().subplots()
    plot_rivals(ax, curve, fit, rivals)
    assert len(ax.get_lines()) == 2 + 5
    assert f"polynomial, R² {fit.rivals['polynomial'].r2:.2f}" in labels(ax)
    looks = {str(style["linestyle"]) for name, style in FIT_STYLE.items() if name in rivals}
    assert len(looks) == 5  # told apart without colour
    for line, values in zip(ax.get_lines()[2:], rivals.values(), strict=True):
        assert np.allclose(line.get_ydata(), values)


def test_residuals_are_measured_less_fitted(scheduler):
    curve = scheduler.curve
    fitted = scheduler.fit(np.asarray(curve.progress))
    ax = Figure().subplots()
    plot_residuals(ax, curve, {"PWEGD": fitted, "constant": np.zeros(80)})
    _, ours, zero = ax.get_lines()
    assert np.allclose(ours.get_ydata(), np.asarray(curve.variance) - fitted)
    assert np.allclose(zero.get_ydata(), curve.variance)


def test_the_density_is_the_sum_of_the_parts_drawn(scheduler):
    curve = scheduler.curve
    fit = fit_amplitude(
        curve.progress, curve.variance, coefficients=(1, 2, 5), shape=1.5, scale=0.2,
        window=curve.window,
    )  # fmt: skip
    ax = Figure().subplots()
    run = (fit.shift, 1 + fit.shift)
    *parts, whole = plot_density(ax, fit.distribution, run=run).get_lines()
    assert len(parts) == 3
    assert np.allclose(sum(part.get_ydata() for part in parts), whole.get_ydata())
    assert np.allclose(whole.get_ydata(), fit.distribution.pdf(whole.get_xdata()))
    assert "the run" in labels(ax)
    (cdf,) = plot_cumulative(Figure().subplots(), fit.distribution, run=run).get_lines()
    assert (np.diff(cdf.get_ydata()) > 0).all() and cdf.get_ydata()[-1] < 1
    bare = Figure().subplots()
    plot_cumulative(bare, fit.distribution)
    assert bare.get_lines()[0].get_ydata()[-1] == pytest.approx(0.995)
    assert "the run" not in labels(plot_density(Figure().subplots(), fit.distribution))


def test_both_directions_and_their_common_mean(pilot, scheduler):
    inverse = create_variance_based_scheduler(
        pilot, saving=0.2, direction=MOST_WHERE_HIGH, num_starts=2
    )
    ax = Figure().subplots()
    plot_directions(ax, scheduler, inverse)
    least, most, mean = ax.get_lines()
    assert least.get_linestyle() != most.get_linestyle()
    assert np.corrcoef(least.get_ydata(), most.get_ydata())[0, 1] < -0.9
    assert mean.get_ydata()[0] == 0.8 and "mean 0.80" in labels(ax)


def test_schedules_of_methods_have_their_methods_looks():
    ax = Figure().subplots()
    schedules = {"pld": lambda progress: 1 - progress / 2, "uniform": lambda progress: 0.75}
    plot_schedules(ax, schedules, saving=0.25)
    pld, uniform, mean = ax.get_lines()
    assert pld.get_linestyle() == "--" and uniform.get_linestyle() == ":"
    assert mean.get_ydata()[0] == 0.75 and labels(ax) == ["pld", "uniform", "mean 0.75"]
    new = Figure().subplots()
    plot_schedules(new, dict.fromkeys(("another", "and another"), schedules["pld"]), saving=0.25)
    looks = {(line.get_color(), line.get_linestyle()) for line in new.get_lines()[:2]}
    assert len(looks) == 2


def test_an_exploration_is_drawn_anew_on_the_same_figure(scheduler):
    figure = Figure(layout="constrained")
    for _ in range(2):
        draw_exploration(figure, scheduler.curve, scheduler.fit, scheduler.fit, scheduler)
        figure.draw_without_rendering()
    assert [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes] == [
        "Variance", "Measured less fitted", "Density (pdf) by hand", "Its cdf",
        "Mean keep probability K(t)",
    ]  # fmt: skip


def test_an_exploration_shows_pdf_cdf_residuals_and_schedule_of_what_is_chosen(scheduler):
    curve, best = scheduler.curve, scheduler.fit
    hand = fit_amplitude(
        curve.progress, curve.variance, coefficients=(1, 0, 5), shape=1.5, scale=0.2,
        window=curve.window,
    )  # fmt: skip
    figure = Figure(layout="constrained")
    draw_exploration(figure, curve, hand, best, scheduler)
    fit, residuals, density, cdf, keep = figure.axes
    progress, measured = np.asarray(curve.progress), np.asarray(curve.variance)
    for ax, curves in (
        (fit, (measured, hand(progress), best(progress))),
        (residuals, (measured - hand(progress), measured - best(progress))),
    ):
        drawn = ax.get_lines()[-len(curves) :]
        for line, values in zip(drawn, curves, strict=True):
            assert np.allclose(line.get_ydata(), values)
    pdf, share = density.get_lines()[-1], cdf.get_lines()[0]
    assert np.allclose(pdf.get_ydata(), hand.distribution.pdf(pdf.get_xdata()))
    assert np.allclose(share.get_ydata(), hand.distribution.cdf(share.get_xdata()))
    assert np.allclose(keep.get_lines()[0].get_ydata(), scheduler.tabulate(201), atol=0.01)
    assert [text.get_text() for text in keep.texts] == ["mean\n0.80"]
    weights = hand.distribution.weights
    assert labels(density) == [f"{weights[0]:.0%}, shape 1.5", f"{weights[2]:.0%}, shape 3.5"]


def test_an_explorations_one_legend_covers_no_axes(scheduler):
    figure = Figure(figsize=(6, 6.8), layout="constrained")
    draw_exploration(figure, scheduler.curve, scheduler.fit, scheduler.fit, scheduler)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named == ["measured", "by hand", "least squares"]
    bottom = legend.get_window_extent().y0
    assert all(ax.get_window_extent().y1 < bottom for ax in figure.axes)
    assert all(figure.axes[i].get_legend() is None for i in (0, 1, 3, 4))
