"""A number that is not finite stops the measurement, says where, and leaves the model as it was."""

from __future__ import annotations

import math

import pytest
import torch
from small import gpt, random_batches, same_weights, weights

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import next_token_loss
from sbldlib.sensitivity import (
    ESTIMATORS,
    calculate_sensitivities,
    convergence_sensitivities,
    losses_under_dropping,
)

BATCHES = random_batches(3)
SECOND = BATCHES[1][0]


@pytest.fixture(params=[None, 1], ids=["side by side", "one by one"])
def rows_at_once(request):
    return request.param


def watched(model):
    """What must be the same afterwards."""
    skipping = attach(model)
    state = (skipping.skipped, skipping.dropped, skipping.instead, skipping.recorded)
    modes = [module.training for module in model.modules()]
    gradients = [p.grad for p in model.parameters()]
    return weights(model), state, dict(skipping.replay), modes, gradients, torch.get_rng_state()


def assert_as_before(model, before):
    held, *others = before
    assert same_weights(model, held)
    now = watched(model)[1:]
    assert now[:-1] == tuple(others[:-1])
    assert torch.equal(now[-1], others[-1])


def spoilt(model, batch):
    """The loss of the second batch is NaN at full depth."""
    loss = next_token_loss(model, batch)
    return loss * math.nan if torch.equal(batch[0], SECOND) else loss


@pytest.mark.parametrize("method", ESTIMATORS)
def test_a_loss_that_is_not_finite_names_full_depth_and_the_batch(method):
    model = gpt()
    skip_layers(model, {2})
    before = watched(model)
    with pytest.raises(ValueError, match="loss=nan at full depth, on batch 1; it must be finite"):
        calculate_sensitivities(model, batches=BATCHES, method=method, loss=spoilt)
    assert_as_before(model, before)


def test_a_loss_that_breaks_without_one_layer_names_that_layer(rows_at_once):
    model = gpt()
    before = watched(model)

    def breaks_without_layer_2(model, batch):
        loss = next_token_loss(model, batch)
        is_spoilt = 2 in attach(model).skipped and torch.equal(batch[0], SECOND)
        return loss * math.inf if is_spoilt else loss

    where = r"loss=inf without layer 2 \(blocks.2\), on batch 1"
    with pytest.raises(ValueError, match=where):
        calculate_sensitivities(
            model, batches=BATCHES, loss=breaks_without_layer_2, rows_at_once=rows_at_once
        )
    assert_as_before(model, before)


@pytest.mark.parametrize("method", ["block_influence", "angular_distance"])
def test_an_activation_that_is_not_finite_names_its_layer(method):
    model = gpt()
    with torch.no_grad():
        model.blocks[1].mlp.output.weight.fill_(math.inf)
    before = watched(model)
    words = r"layer 1 \(blocks.1\): the score is nan at full depth, on batch 0"
    with pytest.raises(ValueError, match=words):
        calculate_sensitivities(model, batches=BATCHES, method=method)
    assert_as_before(model, before)


class ExplodingGradient(torch.autograd.Function):
    """The identity, whose gradient is not finite."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.inf


def exploding(layer):
    """A model whose gradient leaves the finite below this layer's MLP."""
    model = gpt()
    norm = model.blocks[layer].norm2
    norm.register_forward_hook(lambda module, given, output: ExplodingGradient.apply(output))
    return model


def test_a_gradient_that_is_not_finite_names_the_layer_it_is_met_in_first():
    model = exploding(2)
    before = watched(model)
    words = r"layer 2 \(blocks.2\): the score is (nan|inf) at full depth, on batch 0"
    with pytest.raises(ValueError, match=words):
        calculate_sensitivities(model, batches=BATCHES, method="gradient_norm")
    assert_as_before(model, before)


def test_dropbp_says_that_the_gradient_breaks_at_full_depth():
    model = exploding(2)
    before = watched(model)
    words = "the gradient is not finite at full depth, on batch 0, though its loss is"
    with pytest.raises(ValueError, match=words):
        calculate_sensitivities(model, batches=BATCHES, method="dropbp")
    assert_as_before(model, before)


def test_dropping_drawn_at_random_names_the_layers_and_the_batch():
    model = gpt()

    def breaks_without_layers(model, batch):
        loss = next_token_loss(model, batch)
        is_spoilt = attach(model).skipped and torch.equal(batch[0], SECOND)
        return loss * math.nan if is_spoilt else loss

    before = watched(model)
    with pytest.raises(ValueError, match=r"loss=nan without layers \[.*\], on batch 1"):
        losses_under_dropping(
            model, [0.3] * 4, batches=BATCHES, num_draws=4, loss=breaks_without_layers
        )
    assert_as_before(model, before)


def test_runs_that_end_at_no_finite_loss_name_layer_seed_and_batch():
    model = gpt()

    def train_badly(trained, seed):
        if attach(trained).skipped == {1}:
            with torch.no_grad():
                trained.blocks[0].mlp.output.weight.fill_(math.nan)

    before = watched(model)
    words = r"loss=nan after training without \[1\] from seed 0, on batch 0"
    with pytest.raises(ValueError, match=words):
        convergence_sensitivities(model, train_badly, batches=BATCHES, seeds=(0, 1))
    assert_as_before(model, before)


def test_a_batch_without_targets_is_no_fault_of_the_mean():
    empty = (BATCHES[0][0], torch.full_like(BATCHES[0][1], -100))
    found = losses_under_dropping(gpt(), [0.5] * 4, batches=[empty, *BATCHES], num_draws=1)
    assert all(map(math.isfinite, found))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, "loss returned None at full depth, on batch 0; it must be one number"),
        ("low", "loss returned 'low' at full depth"),
        (torch.ones(3), r"loss returned tensor\(\[1., 1., 1.\]\) at full depth"),
    ],
)
def test_a_loss_that_is_no_number_is_shown(made, words):
    with pytest.raises(ValueError, match=words):
        calculate_sensitivities(gpt(), batches=BATCHES, loss=lambda model, batch: made)
