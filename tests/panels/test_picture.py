from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from sbldlib import StepRecord
from sbldlib.panels.picture import MAX_COLUMNS, LivePicture, change_label, encode_png
from sbldlib.plots.theme import BLUE, ORANGE

NUM_LAYERS = 4


def steps(count: int, start: int = 0, layers_run=(0, 1, 3)) -> list[StepRecord]:
    return [
        StepRecord(
            step=number,
            progress=0.0,
            loss_nats=6.0 - number / count,
            learning_rate=1e-3,
            gradient_norm=1.0,
            seconds=0.1,
            tokens=8,
            flops=1.0,
            flops_full=1.0,
            layers_run=layers_run,
        )
        for number in range(start, start + count)
    ]


def pixels(picture: LivePicture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.png())).convert("RGB")).astype(int)


def near(image: np.ndarray, colour: str) -> int:
    """How many pixels have about this colour; thin lines are blended with the ground."""
    wanted = np.round(255 * np.array(to_rgb(colour)))
    return int((np.abs(image - wanted).max(axis=-1) <= 60).sum())


def test_draws_before_the_first_step_and_grows_after_it():
    picture = LivePicture(NUM_LAYERS, 50)
    empty = pixels(picture)
    picture.add(steps(10), ())
    some = pixels(picture)
    picture.add(steps(40, start=10), ())
    assert near(empty, BLUE) < near(some, BLUE) < near(pixels(picture), BLUE)


def test_raster_shows_which_layers_ran():
    picture = LivePicture(NUM_LAYERS, 20)
    picture.add(steps(20), ())
    picture.png()
    shown = picture._raster.get_array()
    dark = np.abs(shown[..., :3] / 255 - np.array(to_rgb(BLUE))).max(axis=-1) < 0.01
    assert dark.shape == (NUM_LAYERS, 20)
    assert dark[[0, 1, 3]].all() and not dark[2].any()


def test_changes_are_marked_once_each_and_close_ones_share_a_label():
    picture = LivePicture(NUM_LAYERS, 100)
    picture.add(steps(50), [(10, "dropping", True, False)])
    one = near(pixels(picture), ORANGE)
    picture.add([], [(10, "dropping", True, False)])
    assert near(pixels(picture), ORANGE) == one > 0
    log = [(10, "dropping", True, False), (40, "saving", 0.25, 0.3), (41, "saving", 0.3, 0.35)]
    log += [(42, "dropping", False, True)]
    picture.add([], log[:2])
    assert near(pixels(picture), ORANGE) >= 1.8 * one
    picture.add([], log)
    assert [note.get_text() for note in picture._loss_axes.texts][1:] == ["off", "0.35, on"]


@pytest.mark.parametrize(
    ("name", "new", "label"),
    [
        ("dropping", True, "on"),
        ("dropping", False, "off"),
        ("saving", 0.4, "0.40"),
        ("method", "pld", "pld"),
        ("stop", True, "stop"),
    ],
)
def test_labels_are_short(name, new, label):
    assert change_label(name, new) == label


def test_a_long_run_is_thinned_and_shares_are_mixed():
    picture = LivePicture(NUM_LAYERS, None)
    half = [s for pair in zip(steps(1001), steps(1001, layers_run=()), strict=True) for s in pair]
    picture.add(half[:-1], ())
    picture.png()
    assert picture._raster.get_array().shape[1] <= MAX_COLUMNS
    assert len(picture._raw.get_xdata()) <= MAX_COLUMNS
    assert picture._loss_axes.get_xlim()[1] >= 2001
    dark, light = (picture._raster.get_array()[layer, 100].astype(int) for layer in (0, 2))
    assert (dark != light).any(), "a layer that ran in half the steps is between dark and light"


def test_the_axes_hold_every_loss():
    picture = LivePicture(NUM_LAYERS, 100)
    picture.add(steps(30), ())
    picture.png()
    picture.add([StepRecord(**{**vars(steps(1)[0]), "loss_nats": 40.0})], ())
    picture.png()
    low, high = picture._loss_axes.get_ylim()
    assert low < 5 and high > 40


def test_the_encoded_png_holds_the_pixels():
    generator = np.random.default_rng(0)
    rgba = generator.integers(0, 256, (7, 5, 4), np.uint8)
    image = Image.open(io.BytesIO(encode_png(rgba)))
    image.verify()
    decoded = np.asarray(Image.open(io.BytesIO(encode_png(rgba))))
    assert image.mode == "RGB" and (decoded == rgba[..., :3]).all()
