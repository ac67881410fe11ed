from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sbldlib.measure.footprint import predict_footprint
from sbldlib.models.gpt_config import PRESETS
from sbldlib.panels.recipe_explorer import WAYS, RecipeExplorer


@pytest.fixture
def explorer() -> RecipeExplorer:
    return RecipeExplorer()


def pixels(explorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.picture().data)).convert("RGB")).astype(int)


def test_it_begins_with_gpt2_and_says_what_a_step_takes(explorer):
    config = PRESETS["gpt2-124m"]
    assert explorer.config == config
    expected = predict_footprint(config, batch_size=8)
    assert explorer.footprints["float32"] == expected
    assert "124.4 million weights" in explorer.text and "8 rows of 1024 tokens" in explorer.text
    assert f"Memory {expected.total / 2**30:.2f} GiB" in explorer.text
    assert explorer.text in explorer.line.value


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_foretold_with_its_precision_and_recomputation(explorer, way):
    explorer.way.value = way
    precision, again = WAYS[way]
    expected = predict_footprint(
        explorer.config, batch_size=8, precision=precision, activation_recomputation=again
    )
    assert explorer.footprints[way] == expected
    assert f"{expected.flops:.2e} operations" in explorer.text
    assert ("computed again" in explorer.text) == again


def test_a_preset_sets_the_shape_and_a_slider_then_changes_it(explorer):
    explorer.preset.value = "gpt2-medium"
    assert explorer.config == PRESETS["gpt2-medium"]
    assert (explorer.layers.value, explorer.width.value) == (24, 1024)
    explorer.width.value = 2048
    assert (explorer.config.width, explorer.config.num_heads) == (2048, 32)
    explorer.preset.value = "tiny"
    assert explorer.config == PRESETS["tiny"]


def test_what_fits_follows_the_device(explorer):
    explorer.memory.value = 4.0
    assert "does not fit into 4 GiB" in explorer.text
    explorer.memory.value = 80.0
    assert "which fits into 80 GiB" in explorer.text


def test_seconds_follow_the_rate(explorer):
    explorer.rate.value = 1e12
    seconds = explorer.footprints["float32"].flops / 1e12
    assert f"{seconds:.3g} s at 1.0e+12 a second" in explorer.text


@pytest.mark.parametrize(
    ("name", "value"),
    [("layers", 24), ("width", 1536), ("context", 512), ("rows", 2), ("memory", 40.0),
     ("way", "bfloat16"), ("preset", "gpt3-medium")],
)  # fmt: skip
def test_every_control_draws_another_picture(explorer, name, value):
    before = pixels(explorer)
    getattr(explorer, name).value = value
    assert (pixels(explorer) != before).any()


@pytest.mark.parametrize(
    "ends", [{"layers": 1, "width": 64, "context": 64, "rows": 1},
             {"layers": 96, "width": 4096, "context": 8192, "rows": 128}],
)  # fmt: skip
def test_the_ends_of_all_sliders_are_drawn(explorer, ends):
    with explorer.hold():
        for name, value in ends.items():
            getattr(explorer, name).value = value
    assert "Not drawn" not in explorer.text and "million weights" in explorer.text


def test_the_picture_is_legible_and_small(explorer):
    assert pixels(explorer).shape[1] == 720 and len(explorer.picture().data) < 200_000
