"""The panel on growing: what it counts, what it says, and that every control draws."""

from __future__ import annotations

import html
import io

import numpy as np
import pytest
from PIL import Image

from sbldlib.measure.stages import count_stages, flops_of_run
from sbldlib.models.diverging_gpt import PRESETS, DivergingGPT
from sbldlib.panels.growth_explorer import LAYERS, MAX_STAGES, GrowthExplorer, halved


@pytest.fixture
def explorer() -> GrowthExplorer:
    return GrowthExplorer()


def pixels(explorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.picture().data)).convert("RGB")).astype(int)


def test_it_begins_with_the_source_s_shape_and_says_what_it_counts(explorer):
    config = PRESETS["small"]
    assert explorer.config == config and explorer.counts == count_stages(config)
    assert explorer.at == pytest.approx((1 / 3, 2 / 3), abs=0.01)
    assert explorer.share == pytest.approx(
        flops_of_run(explorer.counts, explorer.at) / explorer.counts[-1].flops_per_token
    )
    assert "3 → 6 → 12 different blocks for 12 places" in explorer.text
    learning = [DivergingGPT.from_preset("small", stage=stage) for stage in (0, 2)]
    first, last = (f"{model.num_parameters() / 1e6:.2f}" for model in learning)
    assert f"{first} → 2.67 → {last} million weights learn" in explorer.text
    assert "100.0% of the operations" in explorer.text and explorer.text in html.unescape(
        explorer.line.value
    )


def test_stacking_saves_operations_and_the_more_the_later_it_is_whole(explorer):
    explorer.growth.value = "stack"
    early, early_text = explorer.share, explorer.text
    assert 0.5 < early < 0.75 and "100.0%" not in early_text
    explorer.last.value = 0.9
    assert explorer.share < early
    assert explorer.at == pytest.approx((0.45, 0.9))


def test_one_stage_is_an_ordinary_gpt(explorer):
    explorer.stages.value = 1
    assert explorer.config.stages == (12,) and explorer.at == () and explorer.share == 1
    assert explorer.last.layout.display == explorer.rank.layout.display == "none"
    explorer.stages.value = 2
    assert explorer.last.layout.display == "" and explorer.freeze.layout.display == "none"


def test_layers_that_cannot_be_halved_as_often_are_said_to_be_so(explorer):
    with explorer.hold():
        explorer.layers.value, explorer.stages.value = 6, 4
    assert explorer.config.stages == (3, 6)
    assert "cannot be halved as often as 4 stages ask" in explorer.text


@pytest.mark.parametrize(
    ("num_layers", "num_stages", "expected"),
    [(12, 3, (3, 6, 12)), (8, 4, (1, 2, 4, 8)), (6, 4, (3, 6)), (5, 3, (5,)), (8, 1, (8,)),
     (2, 9, (1, 2))],
)  # fmt: skip
def test_blocks_are_halved_while_they_are_whole(num_layers, num_stages, expected):
    assert halved(num_layers, num_stages) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("layers", 24), ("stages", 2), ("growth", "stack"), ("freeze", False), ("last", 0.9)],
)
def test_every_control_draws_another_picture(explorer, name, value):
    before = pixels(explorer)
    getattr(explorer, name).value = value
    assert (pixels(explorer) != before).any()


def test_another_rank_learns_another_number_of_weights(explorer):
    few = explorer.counts[1].learning
    explorer.rank.value = 32
    assert explorer.counts[1].learning - few == 6 * (6 * 192) * (32 - 8)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("growth", ["diverge", "stack"])
def test_every_shape_is_drawn_and_is_a_real_model_s(explorer, layers, growth):
    with explorer.hold():
        explorer.layers.value, explorer.growth.value = layers, growth
        explorer.stages.value, explorer.last.value = MAX_STAGES, 0.95
    assert "Not drawn" not in explorer.text and explorer.config.num_layers == layers


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"layers": 7}, "layers=7 must be one of"), ({"growth": "split"}, "growth='split'")],
)
def test_what_is_not_offered_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        GrowthExplorer(**asked)


def test_the_picture_is_legible_and_small(explorer):
    assert pixels(explorer).shape[1] == 720 and len(explorer.picture().data) < 200_000
