"""Distances between a model's layers: exact values, shared blocks, copies, low rank, the log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import EncoderLM, Source, gpt, same_weights, weights
from torch import nn

from sbldlib.dropping.skipping import skip_layers
from sbldlib.measure.divergence import (
    MEASURES,
    DivergenceLog,
    measure_change_likeness,
    measure_divergence,
)
from sbldlib.models.diverging_gpt import DivergingGPT, DivergingGPTConfig
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.growth import Growing
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

MINI = DivergingGPTConfig(
    vocabulary_size=32, context_length=8, num_layers=4, num_heads=2, width=16, init_std=0.3,
    stages=(1, 2, 4), rank=2,
)  # fmt: skip
TOKENS_BT = Source().batch(0)[0]


def run(model: DivergingGPT, num_steps: int, **watching) -> DivergingGPT:
    optimizer = make_optimizer(model, learning_rate=1e-2)
    config = TrainConfig(budget=Budget(steps=num_steps))
    growing = [Growing(model, optimizer)] if model.stage == 0 else []
    train(model, Source(), optimizer, config=config, callbacks=growing, **watching)
    return model


class Two(nn.Module):
    """Two blocks with a norm and two matrices each, filled with given numbers."""

    def __init__(self, one: float, other: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Plain(value) for value in (one, other))


class _Plain(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(2), nn.Linear(2, 2), nn.Linear(2, 2)
        for part in (self.first, self.second):
            nn.init.constant_(part.weight, value)


@pytest.mark.parametrize(
    ("measure", "one", "other", "expected"),
    [
        ("relative", 3.0, 4.0, 0.2),  # |3 - 4| / sqrt(9 + 16)
        ("relative", 1.0, -1.0, 2**0.5),
        ("relative", 2.0, 2.0, 0.0),
        ("relative", 0.0, 0.0, 0.0),
        ("cosine", 3.0, 4.0, 0.0),
        ("cosine", 1.0, -1.0, 2.0),
    ],
)
def test_distances_are_those_of_the_formula_and_norms_and_biases_are_left_out(
    measure, one, other, expected
):
    far_LL = measure_divergence(Two(one, other), measure=measure)
    assert far_LL[0, 1] == pytest.approx(expected, abs=1e-12)
    assert far_LL.shape == (2, 2) and far_LL[0, 0] == far_LL[1, 1] == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_layers_with_one_block_are_exactly_0_apart_and_others_about_1(measure):
    model = DivergingGPT(replace(MINI, num_layers=8, stages=(2, 8), width=64))
    far_LL = measure_divergence(model, measure=measure)
    same = np.array(model.config.leaders)
    same_LL = same[:, None] == same
    assert (far_LL[same_LL] == 0).all() and (abs(far_LL[~same_LL] - 1) < 0.05).all()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("growth", ["diverge", "stack"])
def test_copies_are_0_apart_when_they_are_made_and_grow_apart_in_training(growth, measure):
    model = DivergingGPT(replace(MINI, growth=growth, stages=(1, 4), rank=0))
    model.grow()
    assert (measure_divergence(model, measure=measure) == 0).all()
    run(model, 4)
    far_LL = measure_divergence(model, measure=measure)
    assert (far_LL[~np.eye(4, dtype=bool)] > 1e-4).all()


def test_is_symmetric_and_does_not_depend_on_the_order_of_the_layers():
    model = gpt()
    far_LL = measure_divergence(model)
    assert (far_LL == far_LL.T).all()
    order = [2, 0, 3, 1]
    model.blocks = nn.ModuleList([model.blocks[layer] for layer in order])
    np.testing.assert_allclose(measure_divergence(model), far_LL[np.ix_(order, order)], rtol=1e-12)


def test_scaling_all_weights_changes_no_distance():
    model = gpt()
    before = {measure: measure_divergence(model, measure=measure) for measure in MEASURES}
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    for measure, far_LL in before.items():
        np.testing.assert_allclose(measure_divergence(model, measure=measure), far_LL, rtol=1e-5)


def test_the_relative_distance_squared_is_the_cosines_where_lengths_agree():
    model = gpt(width=64)
    relative, cosine = (measure_divergence(model, measure=measure) for measure in MEASURES)
    np.testing.assert_allclose(relative**2, cosine, atol=0.01)


def test_a_low_rank_change_counts_as_part_of_its_matrix():
    model = DivergingGPT(replace(MINI, stage=1))
    model.blocks[2].load_state_dict(model.blocks[0].state_dict())
    assert (measure_divergence(model) == 0).all()
    with torch.no_grad():
        model.blocks[2].attention.output.parametrizations.weight[0].up.fill_(0.1)
    far_LL = measure_divergence(model, part="attention")
    assert far_LL[0, 2] > 0.01 and (measure_divergence(model, part="mlp") == 0).all()
    assert far_LL[0, 1] == 0 and far_LL[2, 3] == 0
    model.grow()  # merged
    np.testing.assert_allclose(measure_divergence(model, part="attention"), far_LL, atol=1e-6)


def test_layers_of_a_stack_that_do_not_run_yet_have_no_distance():
    model = DivergingGPT(replace(MINI, growth="stack", stage=1))
    far_LL = measure_divergence(model)
    assert np.isfinite(far_LL[:2, :2]).all() and np.isnan(far_LL[2:]).all()
    likeness_LL = measure_change_likeness(model, TOKENS_BT)
    assert np.isfinite(likeness_LL[:2, :2]).all() and np.isnan(likeness_LL[:, 2:]).all()


def test_blocks_that_this_project_did_not_write_are_measured_too():
    far_LL = measure_divergence(EncoderLM())
    assert (abs(far_LL[~np.eye(4, dtype=bool)] - 1) < 0.1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measure": "cosin"}, "did you mean 'cosine'"),
        ({"part": "attn"}, "part='attn' names no part of a Block"),
        ({"part": "norm1"}, "part='norm1' of a Block holds no matrix"),
        ({"part": 3}, "part=3"),
    ],
)
def test_what_cannot_be_measured_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        measure_divergence(gpt(), **changes)


def test_blocks_of_different_shapes_are_refused():
    model = Two(1.0, 1.0)
    model.layers[1].first = nn.Linear(2, 3)
    with pytest.raises(ValueError, match="Two differ in shape"):
        measure_divergence(model)


def test_measuring_changes_no_weight_no_gradient_no_mode_and_no_skipped_layer():
    model = gpt().train()
    before = weights(model)
    skip_layers(model, {1})
    measure_divergence(model)
    likeness_LL = measure_change_likeness(model, TOKENS_BT)
    assert np.isfinite(likeness_LL).all(), "measured at full depth"
    assert model.training and same_weights(model, before)
    assert all(weight.grad is None for weight in model.parameters())
    ran = []
    model.blocks[1].mlp.register_forward_hook(lambda *call: ran.append(1))
    model(TOKENS_BT)
    assert not ran, "layer 1 is skipped as before"


def test_layers_that_add_the_same_are_alike_and_opposite_ones_opposite():
    model = gpt()
    with torch.no_grad():
        for layer, sign in enumerate((1.0, 1.0, -1.0, 1.0)):
            for weight in model.blocks[layer].parameters():
                weight.zero_()
            model.blocks[layer].mlp.output.bias[layer // 3] = sign
    expected = [[1, 1, -1, 0], [1, 1, -1, 0], [-1, -1, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(measure_change_likeness(model, TOKENS_BT), expected, atol=1e-6)


def test_one_block_at_several_places_does_not_add_the_same_there():
    model = DivergingGPT(MINI)
    likeness_LL = measure_change_likeness(model, TOKENS_BT)
    np.testing.assert_allclose(np.diagonal(likeness_LL), 1, rtol=1e-5)
    assert (likeness_LL[~np.eye(4, dtype=bool)] < 0.999).all()
    np.testing.assert_allclose(likeness_LL, likeness_LL.T, atol=1e-6)


def test_a_block_that_gives_no_tensor_is_refused():
    class Pairs(_Plain):
        def forward(self, x):
            return x, x

    model = Two(1.0, 1.0)
    model.layers = nn.ModuleList([Pairs(1.0), Pairs(1.0)])
    model.forward = lambda tokens: model.layers[0](torch.ones(1, 2))  # pyright: ignore
    with pytest.raises(ValueError, match="block 0 gives no tensor"):
        measure_change_likeness(model, TOKENS_BT)


def test_the_log_measures_every_few_steps_and_knows_the_switches():
    model = DivergingGPT(MINI)
    log = DivergenceLog(model, every=2)
    run(model, 9, on_step=log)
    assert log.steps == [0, 2, 4, 6, 8] and log.stages == [0, 0, 1, 1, 2]
    assert log.switches == (4, 8)
    rows = log.neighbours
    assert rows.shape == (5, 3)
    assert (rows[:2] == 0).all(), "one block at four places"
    assert (rows[2:4, [0, 2]] == 0).all() and (rows[2:, 1] > 0).all(), "two blocks"
    assert (rows[4] > 0).all() and rows[4, 1] > rows[4, [0, 2]].max(), "siblings are nearest"


def test_the_log_leaves_the_training_as_it_is():
    plain, watched = DivergingGPT(MINI), DivergingGPT(MINI)
    run(plain, 6)
    run(watched, 6, on_step=DivergenceLog(watched, every=1))
    assert same_weights(watched, weights(plain))


def test_a_model_without_stages_has_one():
    log = DivergenceLog(gpt(), every=5, measure="cosine", part="mlp")
    assert log.stages == [0] and log.switches == () and log.neighbours.shape == (1, 3)
    with pytest.raises(ValueError, match="every=0"):
        DivergenceLog(gpt(), every=0)
