"""The loss under dropping: the plan's own draws, measured at full-depth weights."""

from __future__ import annotations

import statistics

import pytest
import torch
from small import gpt, random_batches, same_weights, weights

from sbldlib.dropping.plan import draw_active_layers
from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import evaluate_loss
from sbldlib.sensitivity import calculate_sensitivities, losses_under_dropping

KEEP = (1.0, 0.5, 0.7, 0.6)


@pytest.mark.parametrize("mode", ["bernoulli", "fixed_count"])
def test_each_draw_is_the_plans_and_measured_on_all_batches(mode):
    model, batches = gpt().train(), random_batches(2)
    before = weights(model)
    skipping = attach(model)
    skipping.set_dropped({2})
    found = losses_under_dropping(model, KEEP, batches=batches, num_draws=9, seed=3, mode=mode)
    assert model.training and skipping.dropped == {2} and skipping.skipped == set()
    assert same_weights(model, before)
    skipping.set_dropped(())
    full = evaluate_loss(model, batches)
    for draw, loss in enumerate(found):
        active = draw_active_layers(KEEP, seed=3, iteration=draw, mode=mode)
        with skip_layers(model, set(range(4)) - set(active)):
            assert loss == pytest.approx(evaluate_loss(model, batches) - full, abs=1e-6)
    assert len(set(found)) > 2


def test_full_depth_loses_nothing_and_one_layer_its_sensitivity():
    model, batches = gpt(), random_batches(3)
    assert losses_under_dropping(model, (1.0,) * 4, batches=batches, num_draws=3) == (0.0,) * 3
    keep = (1.0, 1.0, 0.5, 1.0)
    found = losses_under_dropping(model, keep, batches=batches, num_draws=20)
    expected = calculate_sensitivities(model, batches=batches).values[2]
    kept, dropped = sorted(set(found), key=abs)
    assert kept == 0 and dropped == pytest.approx(expected, abs=1e-6)
    assert 0 < statistics.fmean(found) / expected < 1


def test_equal_draws_are_measured_once():
    calls = []

    def loss(model, batch):
        calls.append(frozenset(attach(model).skipped))
        return torch.zeros(())

    losses_under_dropping(gpt(), KEEP, batches=random_batches(1), num_draws=60, loss=loss)
    assert len(calls) == len(set(calls)) <= 2**3


@pytest.mark.parametrize(
    "keep, options, problem",
    [
        ((0.5, 0.5), {}, "keep_probability is for 2 layers, the model has 4"),
        ((0.5, 0.5, 0.0, 0.5), {}, r"keep_probability\[2\]=0.0 is outside \(0, 1\]"),
        (KEEP, {"num_draws": 0}, "num_draws=0 must be at least 1"),
        (KEEP, {"mode": "bernouli"}, r"mode='bernouli' .*'bernoulli'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(keep, options, problem):
    asked = {"batches": random_batches(1), "num_draws": 2, **options}
    with pytest.raises(ValueError, match=problem):
        losses_under_dropping(gpt(), keep, **asked)
