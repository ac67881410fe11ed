from __future__ import annotations

import math

import pytest
from methods.runs import mean_drop, steps_of
from small import EncoderLM, Source, gpt

from sbldlib.dropping.skipping import attach
from sbldlib.methods import layerskip
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer


def published(layer: int, num_layers: int, p_max: float, *, time: float = 1.0) -> float:
    return time * (math.exp(layer * math.log(2) / (num_layers - 1)) - 1) * p_max


@pytest.mark.parametrize("num_layers", [2, 5, 24])
def test_the_last_layer_has_p_max_and_the_first_is_never_dropped(num_layers):
    method = layerskip(gpt(num_layers), p_max=0.4)
    for progress in (0.0, 0.5, 1.0):
        keep = method.keep_probability(progress)
        expected = [1 - published(layer, num_layers, 0.4) for layer in range(num_layers)]
        assert keep == pytest.approx(expected, abs=1e-12)
        assert keep[0] == 1 and keep[-1] == pytest.approx(0.6)


def test_from_scratch_it_starts_at_full_depth():
    method = layerskip(gpt(5), p_max=0.4, schedule="exponential")
    assert method.keep_probability(0.0) == (1.0,) * 5
    for step in (1, 7, 10):
        time = math.exp(step * math.log(2) / 10) - 1
        expected = [1 - published(layer, 5, 0.4, time=time) for layer in range(5)]
        assert method.keep_probability(step / 10) == pytest.approx(expected, abs=1e-12)
    assert method.describe()["p_max"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("schedule", "num_steps"),
    [("constant", 1), ("constant", 21), ("exponential", 2), ("exponential", 100)],
)
def test_a_saving_is_met_exactly_at_any_length(schedule, num_steps):
    model = gpt(8)
    kept = steps_of(layerskip(model, saving=0.15, schedule=schedule), model, num_steps)
    assert mean_drop(kept) == pytest.approx(0.15, abs=1e-12)


def test_p_max_is_solved_from_a_saving():
    mean_depth = sum(published(layer, 8, 1.0) for layer in range(8)) / 8
    method = layerskip(gpt(8), saving=0.3)
    assert method.describe()["p_max"] == pytest.approx(0.3 / mean_depth)
    assert 1 - method.keep_probability(0.3)[-1] == pytest.approx(0.3 / mean_depth)
    mean_time = 1 / math.log(2) - 1
    method = layerskip(gpt(8), saving=0.1, schedule="exponential")
    assert method.describe()["p_max"] == pytest.approx(0.1 / mean_depth / mean_time, rel=1e-6)


def test_above_its_cap_the_mean_still_holds():
    keep = layerskip(gpt(8), saving=0.6).keep_probability(0.5)
    assert min(keep) == pytest.approx(0.1) and keep[0] == 1
    assert sum(keep) / 8 == pytest.approx(0.4, abs=1e-12)
    assert list(keep) == sorted(keep, reverse=True)


def test_as_published_each_sequence_has_its_own_layers():
    model = EncoderLM(6)
    dropping = layerskip(model, p_max=0.9, scope="per_sequence")
    record = train(
        model,
        Source(),
        make_optimizer(model),
        config=TrainConfig(budget=Budget(steps=10)),
        callbacks=[dropping],
    )
    shares = [share for step in record for share in step.forward_share]
    assert {round(4 * share, 9) for share in shares} >= {1, 2, 3, 4}
    assert attach(model).dropped == set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"saving": 0.9}, r"saving=0.9 asks for a mean drop of 0.9 .* can hold 0.675"),
        (
            {"saving": 0.5, "schedule": "exponential"},
            r"saving=0.5 asks for a mean drop of 1.1\d* where .* can hold 0.675",
        ),
        ({"p_max": 0.95}, "p_max=0.95"),
        ({"schedule": "exponental"}, "schedule='exponental' .*did you mean 'exponential'"),
        ({"scop": "per_sequence"}, "'scop' .*'scope'"),
    ],
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        layerskip(gpt(4), **options)


def test_a_run_of_one_step_drops_nothing_from_scratch_and_says_so():
    model = gpt(4)
    method = layerskip(model, saving=0.1, schedule="exponential")
    with pytest.raises(
        ValueError, match=r"saving=0.1 asks for a mean drop of more than any .* can hold 0.675"
    ):
        steps_of(method, model, 1)
