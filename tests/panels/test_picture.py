from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hostile import NAMES
from matplotlib.colors import to_rgb
from panels.shown import NUM_LAYERS, steps
from PIL import Image

from sbldlib import SensitivityData
from sbldlib.panels.picture import DPI, WIDTH_INCHES, LivePicture
from sbldlib.panels.thinned import MAX_COLUMNS
from sbldlib.plots.theme import BLUE, RAN_OR_SKIPPED, SKY

SENSITIVITIES = SensitivityData(
    values=(0.3, 0.1, 0.02, -0.01), standard_errors=(0.01,) * 4, num_batches=4
)
LOG = [(10, "dropping", True, False), (40, "saving", 0.25, 0.3)]


def pixels(picture: LivePicture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.png())).convert("RGB")).astype(int)


def near(image: np.ndarray, colour: str) -> int:
    """How many pixels have about this colour; thin lines are blended with the ground."""
    wanted = np.round(255 * np.array(to_rgb(colour)))
    return int((np.abs(image - wanted).max(axis=-1) <= 60).sum())


def race(num_steps: int | None = 1000, **changes) -> LivePicture:
    """Two arms, the lead 50 steps in and its rival 30, which is slower and does more."""
    picture = LivePicture(["sbld", "full depth"], NUM_LAYERS, num_steps, **changes)
    picture.add(0, steps(50), LOG)
    picture.add(1, steps(30, seconds=0.5, flops=3.0, loss_nats=4.0))
    picture.png()
    return picture


def places(line) -> list[float]:
    """Where the upright lines of the marks are."""
    return list(line.get_xdata()[::3])


def labels(picture: LivePicture) -> list[tuple[float, str]]:
    """The labels over the losses, at shares of the axis."""
    return [(round(note.xy[0], 3), note.get_text()) for note in picture._losses._axes.texts]


def test_draws_before_the_first_step_and_grows_after_it():
    picture = LivePicture(["sbld"], NUM_LAYERS, 50)
    empty = pixels(picture)
    picture.add(0, steps(10))
    some = pixels(picture)
    picture.add(0, steps(40, 10))
    assert near(empty, BLUE) < near(some, BLUE) < near(pixels(picture), BLUE)


def test_a_later_picture_holds_nothing_of_an_earlier_one():
    picture, fresh = race(), race()
    picture.show_keep((0.1, 1.0, 0.1, 1.0), (1,))
    picture.show_schedule(np.full(9, 0.5))
    picture.png()
    for each in (picture, fresh):
        each.show_keep((0.5,) * 4)
        each.show_schedule(np.linspace(1, 0.7, 9))
    assert picture.png() == fresh.png()


@pytest.mark.parametrize(
    ("against", "a_step", "rivals", "whole_run", "label"),
    [
        ("steps", 1.0, 1.0, 1000, "step"),
        ("flops", 2.0, 3.0, 3000, "FLOPs run"),
        ("seconds", 0.1, 0.5, 500, "training time (s)"),
    ],
)
def test_each_arm_is_drawn_over_its_own_sums(against, a_step, rivals, whole_run, label):
    picture = race()
    picture.against = against
    picture.png()
    losses = picture._losses
    lead, rival = losses._means
    assert lead.get_xdata() == pytest.approx(a_step * np.arange(1, 51))
    assert rival.get_xdata() == pytest.approx(rivals * np.arange(1, 31))
    assert rival.get_ydata() == pytest.approx(4.0)
    assert lead.get_ydata()[[0, -1]] == pytest.approx([6.0, 6.0 - 0.0395])
    assert losses._raw.get_xdata()[::2] == pytest.approx(lead.get_xdata())
    assert losses._raw.get_ydata()[1::2] == pytest.approx(6.0 - np.arange(50) / 1000)
    assert losses._axes.get_xlabel() == label
    assert losses._axes.get_xlim() == pytest.approx((0, whole_run)), "room for the slower arm"
    expected = pytest.approx([10 * a_step, 40 * a_step])
    assert places(losses._marks) == expected, "where the lead was at these steps"
    assert places(picture._raster._marks) == [10, 40], "steps, whatever the losses are against"


def test_an_axis_can_be_chosen_before_the_first_step():
    picture = LivePicture(["sbld"], NUM_LAYERS, 50)
    picture.against = "flops"
    picture.png()
    picture.add(0, steps(5), [(2, "stop", False, True)])
    picture.png()
    assert picture.against == "flops"
    assert picture._losses._axes.get_xlim() == (0, 100)
    assert labels(picture) == [(0.04, "stop")]
    with pytest.raises(ValueError, match="against='tokens' is not known"):
        picture.against = "tokens"


def test_an_axis_of_time_follows_a_first_step_that_was_slow():
    picture = LivePicture(["sbld"], NUM_LAYERS, 1000)
    picture.against = "seconds"
    picture.add(0, steps(1, seconds=5.0))
    picture.png()
    assert picture._losses._axes.get_xlim() == (0, 5000)
    picture.add(0, steps(499, 1))
    picture.png()
    assert picture._losses._axes.get_xlim()[1] == pytest.approx(2 * 54.9)


def test_the_legend_names_the_arms():
    texts = [text.get_text() for text in race()._losses._axes.get_legend().get_texts()]
    assert texts == ["sbld, mean of 20", "full depth, mean of 20", "every step"]


def test_the_raster_shows_which_layers_ran():
    picture = race()
    shown = picture._raster._raster.get_array()
    skipped, ran = np.round(255 * RAN_OR_SKIPPED(np.array([0, 1])))
    assert shown.dtype == np.uint8 and shown.shape == (NUM_LAYERS, 50, 4)
    assert (shown[[0, 1, 3]] == ran).all() and (shown[2] == skipped).all()
    assert picture._raster._raster.get_extent() == [0, 50, -0.5, NUM_LAYERS - 0.5]
    assert picture._raster._axes.get_xlim() == (0, 1000)
    assert picture._raster._axes.get_ylim() == (-0.5, NUM_LAYERS - 0.5)


def test_a_run_that_goes_on_begins_at_its_step():
    picture = LivePicture(["sbld"], NUM_LAYERS, 200)
    picture.add(0, steps(10, 100), [(104, "saving", 0.25, 0.3)])
    picture.png()
    assert picture._raster._raster.get_extent()[:2] == [100, 110]
    assert picture._losses._means[0].get_xdata()[0] == 101
    assert places(picture._losses._marks) == [104]


def test_bars_are_the_keep_probabilities_and_the_block_list_is_hatched():
    picture = race(sensitivity_data=SENSITIVITIES)
    picture.show_keep((1.0, 1.0, 0.75, 0.5), block=(0, 1))
    keep = picture._keep
    bars, edges, _ = keep._bars.get_data()
    assert bars[::2].tolist() == [1.0, 1.0, 0.75, 0.5] and np.isnan(bars[1::2]).all()
    assert np.allclose((edges[::2] + edges[1::2]) / 2, range(NUM_LAYERS))
    hatched = keep._block.get_data().values[::2]
    assert hatched[:2].tolist() == [1.0, 1.0] and np.isnan(hatched[2:]).all()
    assert keep._block.get_hatch() == "////"
    some = near(pixels(picture), SKY)
    picture.show_keep((0.25,) * 4)
    assert np.isnan(keep._block.get_data().values).all()
    assert near(pixels(picture), SKY) < 0.5 * some


def test_sensitivities_have_an_axis_of_their_own_with_their_unit():
    keep = race(sensitivity_data=SENSITIVITIES)._keep
    assert keep._dots.get_xdata().tolist() == [0, 1, 2, 3]
    assert tuple(keep._dots.get_ydata()) == SENSITIVITIES.values
    assert keep._dots.axes is not keep._axes and keep._dots in keep.moving
    assert "nats per token" in keep._dots.axes.get_ylabel()
    low, high = keep._dots.axes.get_ylim()
    assert low < -0.01 and high > 0.3
    longest = replace(SENSITIVITIES, unit="nats per token after training")
    label = race(sensitivity_data=longest)._keep._dots.axes.get_ylabel()
    assert label == "◆ sensitivity\n(nats per token after\ntraining)"


def test_without_sensitivities_there_is_no_such_axis():
    assert len(race(sensitivity_data=SENSITIVITIES).figure.axes) == 5
    picture = race()
    assert len(picture.figure.axes) == 4 and len(picture._keep.moving) == 2


def test_sensitivities_of_another_model_are_refused():
    with pytest.raises(ValueError, match="sensitivity_data is for 4 layers, the model has 5"):
        LivePicture(["sbld"], 5, 10, sensitivity_data=SENSITIVITIES)


def test_the_schedule_is_drawn_over_the_run_with_now_on_it():
    picture = LivePicture(["sbld"], NUM_LAYERS, 1000)
    picture.show_schedule(np.array([1.0, 0.5, 0.9]))
    picture.png()
    schedule = picture._schedule
    assert schedule._plan.get_xdata().tolist() == [0, 50, 100]
    assert schedule._plan.get_ydata().tolist() == [1.0, 0.5, 0.9]
    assert (list(schedule._dot.get_xdata()), list(schedule._dot.get_ydata())) == ([0], [1.0])
    picture.add(0, steps(250, keep_probability=(1.0, 0.8, 0.6, 0.4)))
    picture.png()
    now = 100 * 249 / 999
    assert schedule._now.get_xdata() == pytest.approx([now, now])
    assert schedule._dot.get_ydata() == pytest.approx([1 - now / 100])
    assert schedule._applied.get_xdata() == pytest.approx(100 * np.arange(250) / 999)
    assert schedule._applied.get_ydata() == pytest.approx(0.7)


def test_without_a_schedule_there_is_what_was_applied():
    picture = race()
    schedule = picture._schedule
    assert len(schedule._plan.get_xdata()) == 0
    assert schedule._applied.get_ydata() == pytest.approx(0.75), "three of four layers ran"
    assert schedule._dot.get_ydata() == pytest.approx([0.75])
    named = schedule._legend.get_texts()
    assert [text.get_visible() for text in named] == [True, False]
    without = picture.png()
    picture.show_schedule(np.full(5, 0.6))
    assert [text.get_visible() for text in named] == [True, True]
    assert picture.png() != without
    picture.show_schedule(None)
    assert picture.png() == without


def test_changes_are_marked_once_each_and_labelled():
    picture = race()
    assert places(picture._losses._marks) == [10, 40]
    assert [text for _, text in labels(picture)] == ["off, 0.30"]
    picture.add(0, [], [*LOG, (500, "method", "sbld", "pld")])
    picture.add(1, steps(5, 30))  # the rival has no log
    picture.add(0, [], [*LOG, (500, "method", "sbld", "pld")])
    picture.png()
    assert places(picture._raster._marks) == [10, 40, 500]
    assert labels(picture) == [(0.025, "off, 0.30"), (0.5, "pld")]


def test_a_new_beginning_is_like_a_new_picture():
    picture = race(sensitivity_data=SENSITIVITIES)
    picture.add(0, steps(1, 50, loss_nats=90.0))
    picture.show_keep((0.5,) * 4, (0,))
    picture.png()
    picture.clear()
    assert all(run.num_steps == 0 for run in picture._runs)
    fresh = LivePicture(["sbld", "full depth"], NUM_LAYERS, 1000, sensitivity_data=SENSITIVITIES)
    fresh.show_keep((0.5,) * 4, (0,))
    assert picture.png() == fresh.png()
    for each in (picture, fresh):
        each.add(0, steps(20), LOG[:1])
    assert picture.png() == fresh.png()


@pytest.mark.parametrize("against", ["steps", "flops", "seconds"])
def test_axes_grow_where_the_length_is_not_known(against):
    picture = LivePicture(["sbld"], NUM_LAYERS, None)
    picture.against = against
    picture.png()
    assert picture._raster._axes.get_xlim() == (0, 100)
    for start in (0, 90, 180):
        picture.add(0, steps(90, start))
        picture.png()
        for axes in (picture._losses._axes, picture._raster._axes):
            drawn = picture._losses._means[0].get_xdata()[-1]
            assert axes is not picture._losses._axes or drawn <= axes.get_xlim()[1] <= 4 * drawn
    assert picture._raster._axes.get_xlim()[1] == 360


def test_the_axes_hold_every_loss():
    picture = race()
    picture.add(0, steps(1, 50, loss_nats=40.0))
    picture.add(0, steps(1, 51, loss_nats=float("nan")))
    picture.png()
    low, high = picture._losses._axes.get_ylim()
    assert 0 <= low < 4 and high > 40


def test_losses_below_zero_are_held_too():
    picture = LivePicture(["sbld"], NUM_LAYERS, 10)
    picture.add(0, steps(5, loss_nats=-3.0))
    picture.png()
    low, high = picture._losses._axes.get_ylim()
    assert low < -3.0 < high


def test_a_long_run_is_thinned():
    picture = LivePicture(["sbld", "full depth"], NUM_LAYERS, 10_000)
    for arm in (0, 1):
        picture.add(arm, steps(10_000))
    picture.png()
    assert picture._raster._raster.get_array().shape[1] <= MAX_COLUMNS
    for line in picture._losses.moving + picture._schedule.moving:
        assert len(line.get_xdata()) <= 2 * MAX_COLUMNS
    assert picture._losses._means[0].get_xdata()[-1] == 10_000
    half = [s for pair in zip(steps(900), steps(900, layers_run=()), strict=True) for s in pair]
    mixed = LivePicture(["sbld"], NUM_LAYERS, 2000)
    mixed.add(0, half)
    mixed.png()
    between, light = np.asarray(mixed._raster._raster.get_array(), float)[[0, 2], 100]
    skipped, ran = 255 * RAN_OR_SKIPPED(np.array([0, 1]))
    assert between == pytest.approx((skipped + ran) / 2, abs=2), "it ran in half the steps"
    assert light == pytest.approx(skipped, abs=1)


def test_the_image_keeps_its_size():
    picture = race(None, sensitivity_data=SENSITIVITIES)
    sizes = {pixels(picture).shape}
    for against in ("flops", "seconds", "steps"):
        picture.against = against
        picture.add(0, steps(100, len(sizes)), [*LOG, (45, "method", "sbld", "x" * 500)])
        sizes.add(pixels(picture).shape)
    picture.clear()
    sizes.add(pixels(picture).shape)
    assert len(sizes) == 1 and sizes.pop()[1] == round(WIDTH_INCHES * DPI)


def test_what_moves_is_not_in_the_kept_background():
    """Else a line that moved would leave its old self behind."""
    picture = race(sensitivity_data=SENSITIVITIES)
    for part in (picture._losses, picture._raster, picture._keep, picture._schedule):
        assert all(artist.get_animated() for artist in part.moving)
    kept = picture._background
    picture.add(0, steps(3, 50))
    picture.show_keep((0.5,) * 4)
    picture.png()
    assert picture._background is kept, "three steps alone need no axes drawn"


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.filterwarnings("ignore:Glyph")
def test_an_arm_may_have_any_name(name):
    picture = LivePicture([name, name], NUM_LAYERS, 20)
    picture.add(0, steps(3))
    assert picture.png().startswith(b"\x89PNG")
    for text in picture._losses._axes.get_legend().get_texts():
        assert len(text.get_text()) < 60 and not text._preprocess_math(text.get_text())[1]


@pytest.mark.parametrize("unit", NAMES, ids=range(len(NAMES)))
@pytest.mark.filterwarnings("ignore:Glyph")
def test_sensitivities_may_have_any_unit(unit):
    data = SensitivityData(values=(1.0,) * 4, standard_errors=(0.0,) * 4, unit=unit)
    picture = LivePicture(["sbld"], NUM_LAYERS, 20, sensitivity_data=data)
    assert picture.png().startswith(b"\x89PNG")
    label = picture._keep._dots.axes.yaxis.label
    assert not label._preprocess_math(label.get_text())[1]
