from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from methods.runs import contexts, mean_drop, steps_of
from small import EncoderLM, Source, gpt

from sbldlib.dropping.skipping import attach
from sbldlib.losses import next_token_loss
from sbldlib.methods import dropbp, make_method
from sbldlib.methods.dropbp import greedy_drop
from sbldlib.records import SensitivityData
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

VALUES = (0.9, 0.1, 0.3, 0.02, 0.4, 0.05, 0.2, 0.7)
SENSITIVITY = SensitivityData(values=VALUES, standard_errors=(0.01,) * 8)


# ---------------------------------------------------------------- the allocation


@given(values=st.lists(st.floats(-1, 10), min_size=1, max_size=12), mean_drop=st.floats(0, 0.9))
def test_the_mean_is_exact_and_no_layer_passes_its_cap(values, mean_drop):
    drop = greedy_drop(values, mean_drop)
    assert sum(drop) / len(values) == pytest.approx(mean_drop, abs=1e-9)
    assert all(0 <= each <= 0.9 + 1e-12 for each in drop)
    assert sum(abs(10 * each - round(10 * each)) > 1e-6 for each in drop) <= 1


@given(mean_drop=st.floats(0, 0.9))
def test_the_less_sensitive_layer_is_dropped_no_less(mean_drop):
    values = (0.5, 0.1, 2.0, 0.3)
    drop = greedy_drop(values, mean_drop)
    by_sensitivity = [drop[layer] for layer in (1, 3, 0, 2)]
    assert all(a >= b - 0.1 for a, b in itertools.pairwise(by_sensitivity))


def test_no_other_step_of_a_tenth_costs_less():
    """The greedy choice is the least of all: the costs of a layer only grow."""
    tenths = [round(10 * each) for each in greedy_drop(VALUES, 0.35)]
    assert sum(tenths) == 28
    dearest_taken = max(v * n for v, n in zip(VALUES, tenths, strict=True) if n)
    cheapest_left = min(v * (n + 1) for v, n in zip(VALUES, tenths, strict=True) if n < 9)
    assert dearest_taken <= cheapest_left + 1e-12


def test_a_layer_that_costs_nothing_is_filled_first():
    assert greedy_drop((0.0, 1.0, -3.0), 0.6) == pytest.approx((0.9, 0.0, 0.9))


def test_equal_sensitivities_differ_by_a_tenth_at_most():
    drop = greedy_drop((1.0,) * 7, 0.33)
    assert max(drop) - min(drop) <= 0.1 + 1e-12


@pytest.mark.parametrize(
    ("values", "mean_drop", "message"),
    [
        ((1.0, 2.0), 0.95, r"mean_drop=0.95 is above 0.9"),
        ((1.0, 2.0), -0.1, r"mean_drop=-0.1 is outside"),
        ((1.0, float("nan")), 0.5, r"sensitivities\[1\]=nan must be finite"),
    ],
)
def test_an_allocation_that_cannot_be(values, mean_drop, message):
    with pytest.raises(ValueError, match=message):
        greedy_drop(values, mean_drop)


# ---------------------------------------------------------------- the method


def test_without_sensitivities_all_layers_are_dropped_alike():
    method = dropbp(gpt(8), saving=0.3)
    assert method.keep_probability(0.5) == pytest.approx((0.7,) * 8)
    assert method.describe()["allocation"] == "uniform"


def test_with_them_the_insensitive_ones_are_dropped_most():
    model = gpt(8)
    method = make_method("dropbp", model, saving=0.3, sensitivity_data=SENSITIVITY)
    keep = method.keep_probability(0.5)
    assert keep == pytest.approx([1 - drop for drop in greedy_drop(VALUES, 0.3)])
    assert min(keep) == keep[3] and max(keep) == keep[0]
    assert method.describe()["allocation"] == "greedy"
    assert mean_drop(steps_of(method, model, 7)) == pytest.approx(0.3, abs=1e-12)


@pytest.mark.parametrize("make_model", [gpt, EncoderLM])
def test_forward_is_full_and_the_gradient_passes_along_the_residual(make_model):
    model, whole = make_model(4), make_model(4)
    method = dropbp(model, saving=0.5, seed=3)
    batch = Source().batch(0)
    for context in contexts(model, 6):
        method.before_step(context)
        off = attach(model).forward_only
        assert attach(model).dropped == set()
        model.zero_grad(set_to_none=True)
        loss = next_token_loss(model.train(), batch)
        assert torch.equal(loss, next_token_loss(whole.train(), batch))
        loss.backward()
        for layer, block in enumerate(attach(model).blocks):
            is_off = [parameter.grad is None for parameter in block.module.parameters()]
            assert all(is_off) if layer in off else not any(is_off)
        embedding = next(m for m in model.modules() if isinstance(m, torch.nn.Embedding))
        assert embedding.weight.grad is not None


def test_a_run_skips_backward_passes_and_no_forward_ones():
    model = gpt(8)
    record = train(
        model,
        Source(),
        make_optimizer(model),
        config=TrainConfig(budget=Budget(steps=40)),
        callbacks=[dropbp(model, saving=0.4, mode="fixed_count")],
    )
    assert record.realised_drop == 0
    assert record.realised_backward_drop == pytest.approx(0.4, abs=0.02)
    assert 0 < record.flops_saved < 0.4 * 2 / 3 + 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"saving": 0.95}, r"mean_keep=0.05 .*hold 3.6"),
        ({"saving": 0.95, "sensitivity_data": SensitivityData(
            values=(0.1,) * 4, standard_errors=(0.0,) * 4)}, r"mean_keep=0.05 .* 0.9, the most"),
        ({"sensitivity_data": SENSITIVITY}, "sensitivity_data is for 8 layers, the model has 4"),
        ({"scope": "per_sequence"}, r"scope='per_sequence' .*dropbp has effect='skip_backward'"),
        ({"rescale": "train_inverse"}, r"rescale='train_inverse' .*dropbp"),
        ({"sensitivty_data": SENSITIVITY}, r"'sensitivty_data'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        dropbp(gpt(4), **options)
