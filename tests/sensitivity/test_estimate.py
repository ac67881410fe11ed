"""Every estimator by the same door: what it leaves alone, what it refuses, what it records."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from small import gpt, random_batches, same_weights, weights
from torch import nn

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import next_token_loss
from sbldlib.records import SensitivityData
from sbldlib.sensitivity import (
    ESTIMATORS,
    calculate_sensitivities,
    calculate_sensitivity,
    data_from_samples,
)

NUM_LAYERS = 4
METHODS = list(ESTIMATORS)


@pytest.mark.parametrize("method", METHODS)
def test_values_errors_and_unit_are_of_the_samples(model, method):
    batches = random_batches(5)
    found = calculate_sensitivities(model, batches=batches, method=method, iteration=7)
    assert (found.num_layers, found.num_batches, found.iteration) == (NUM_LAYERS, 5, 7)
    assert (found.method, found.unit) == (method, ESTIMATORS[method].unit)
    for layer, samples in enumerate(found.samples):
        assert len(samples) == 5
        assert found.values[layer] == pytest.approx(sum(samples) / 5)
        assert found.standard_errors[layer] == pytest.approx(stats.sem(samples))
        assert abs(found.values[layer]) > 1e-4, "a layer that does nothing would prove nothing"
        single = calculate_sensitivity(model, layer, batches=batches, method=method)
        assert single.value == pytest.approx(found.values[layer], abs=1e-6)
        assert single.standard_error == pytest.approx(found.standard_errors[layer], abs=1e-6)
    assert SensitivityData.from_json(found.to_json()) == found


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(model, method):
    frozen_part = next(m for m in model.modules() if isinstance(m, nn.LayerNorm))
    model.train()
    frozen_part.eval()  # as those do who fine-tune with a part held still
    next_token_loss(model, random_batches(1, seed=9)[0]).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    skipping, before = attach(model), weights(model)
    skipping.set_dropped({2})
    state = torch.get_rng_state()
    with skip_layers(model, {1}):
        calculate_sensitivities(model, batches=random_batches(2), method=method)
        assert (skipping.skipped, skipping.dropped) == ({1}, {2})
    assert (skipping.replay, skipping.recorded, skipping.instead) == ({}, None, None)
    assert [module.training for module in model.modules()] == modes
    assert same_weights(model, before)
    assert torch.equal(torch.get_rng_state(), state)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, gradients[name]), name


@pytest.mark.parametrize("method", METHODS)
def test_layers_skipped_or_dropped_before_do_not_leak_in(method):
    model, batches = gpt(), random_batches(3)
    expected = calculate_sensitivities(model, batches=batches, method=method)
    attach(model).set_dropped({0})
    skip_layers(model, {1, 3})
    assert calculate_sensitivities(model, batches=batches, method=method) == expected


@pytest.mark.parametrize("method", METHODS)
def test_training_noise_does_not_reach_the_measurement(method):
    model, asked = gpt(dropout=0.5).train(), {"batches": random_batches(3), "method": method}
    assert calculate_sensitivities(model, **asked) == calculate_sensitivities(model, **asked)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was_when_the_loss_raises(method):
    model = gpt().train()
    skipping = attach(model)
    skipping.set_dropped({3})

    def loss(model, batch):
        next_token_loss(model, batch)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        calculate_sensitivities(model, batches=random_batches(2), loss=loss, method=method)
    assert model.training and skipping.dropped == {3} and skipping.skipped == set()
    assert (skipping.replay, skipping.recorded, skipping.instead) == ({}, None, None)


def test_one_batch_gives_no_standard_error():
    problem = r"batches holds 1; a standard error needs at least 2"
    with pytest.raises(ValueError, match=problem):
        calculate_sensitivities(gpt(), batches=random_batches(1))
    with pytest.raises(ValueError, match=problem):
        data_from_samples([[1.0], [2.0]], method="of one's own", unit="points")


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ValueError, match=r"method='loss_delt' .*'loss_delta'"):
        calculate_sensitivity(gpt(), 0, batches=random_batches(2), method="loss_delt")


@pytest.mark.parametrize("layer", [NUM_LAYERS, -1, 1.5, True])
def test_a_layer_out_of_range_is_named(layer):
    with pytest.raises(ValueError, match=r"layer.*(4 is outside 0\.\.3|-1|1\.5|True)"):
        calculate_sensitivity(gpt(), layer, batches=random_batches(2))


@pytest.mark.parametrize("rows", [0, -3, 1.5])
def test_rows_at_once_must_be_a_number_of_rows(rows):
    with pytest.raises(ValueError, match=f"rows_at_once={rows} must be"):
        calculate_sensitivities(gpt(), batches=random_batches(2), rows_at_once=rows)


@pytest.mark.parametrize("method", ["loss_delta", "gradient_norm", "dropbp"])
def test_a_loss_that_is_not_finite_says_where(method):
    model = gpt()
    with torch.no_grad():
        model.blocks[1].mlp.output.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="loss=nan at full depth"):
        calculate_sensitivities(model, batches=random_batches(2), method=method)


@pytest.mark.parametrize("rows", [None, 1])
def test_a_loss_that_is_not_finite_without_a_layer_names_it(rows):
    def loss(model, batch):
        value = next_token_loss(model, batch)
        return value * float("inf") if 2 in attach(model).skipped else value

    asked = {"batches": random_batches(2), "loss": loss, "rows_at_once": rows}
    with pytest.raises(ValueError, match=r"loss=-?inf without layer 2"):
        calculate_sensitivities(gpt(), **asked)


def test_a_file_from_before_samples_were_kept_is_read():
    body = calculate_sensitivities(gpt(), batches=random_batches(2)).to_dict()
    del body["samples"]
    assert SensitivityData.from_dict(body).samples == ()


@pytest.mark.parametrize(
    "samples, problem",
    [
        (((1.0, 2.0),), r"samples is 1 x \[2\]; it must be num_layers x num_batches = 2 x 2"),
        (((1.0, 2.0), (1.0,)), r"samples is 2 x \[1, 2\]"),
        (((1.0,), (1.0,)), r"samples is 2 x \[1\]"),
        (((1.0, math.nan), (1.0, 2.0)), r"samples\[0\]\[1\]=nan must be finite"),
    ],
)
def test_samples_must_fit_the_values(samples, problem):
    with pytest.raises(ValueError, match=problem):
        SensitivityData(
            values=(1.5, 1.5), standard_errors=(0.5, 0.5), num_batches=2, samples=samples
        )
