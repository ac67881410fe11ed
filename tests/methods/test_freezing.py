from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from methods.runs import contexts, mean_drop, steps_of
from small import EncoderLM, Source, gpt, weights

from sbldlib.dropping.skipping import attach
from sbldlib.losses import next_token_loss
from sbldlib.methods import adjust_probability, freezing
from sbldlib.methods.freezing import FREEZE_TIMES, FreezeSchedule
from sbldlib.training.callbacks import Callback
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer


def frozen_at_each_step(method, model, num_steps: int) -> list[frozenset[int]]:
    frozen = []
    for context in contexts(model, num_steps):
        method.before_step(context)
        frozen.append(attach(model).forward_only)
        assert attach(model).dropped == set()
    return frozen


# ---------------------------------------------------------------- when


@pytest.mark.parametrize(("freeze_times", "power"), [("linear", 1), ("cubic", 3)])
def test_the_published_times(freeze_times, power):
    schedule = FreezeSchedule(5, t_0=0.6, freeze_times=freeze_times, saving=None)
    assert schedule.times_L == pytest.approx(
        [(0.6 + 0.4 * layer / 5) ** power for layer in range(5)]
    )


@settings(max_examples=30)
@given(
    saving=st.floats(0, 0.5),
    num_layers=st.integers(2, 24),
    num_steps=st.integers(1, 200),
    freeze_times=st.sampled_from(sorted(FREEZE_TIMES)),
)
def test_a_saving_is_met_exactly_at_any_length(saving, num_layers, num_steps, freeze_times):
    schedule = FreezeSchedule(num_layers, t_0=0.0, freeze_times=freeze_times, saving=saving)
    assert schedule.tabulate(num_steps).mean() == pytest.approx(1 - saving, abs=1e-12)
    assert schedule.times_L.tolist() == sorted(schedule.times_L)


@pytest.mark.parametrize("freeze_times", FREEZE_TIMES)
@pytest.mark.parametrize("num_steps", [3, 40, 333])
def test_what_is_frozen_is_a_prefix_and_stays_so(freeze_times, num_steps):
    model = gpt(8)
    method = freezing(model, saving=0.3, freeze_times=freeze_times)
    kept = steps_of(method, model, num_steps)
    assert mean_drop(kept) == pytest.approx(0.3, abs=1e-11)
    frozen = frozen_at_each_step(method, model, num_steps)
    assert all(layers == set(range(len(layers))) for layers in frozen)
    assert all(a <= b for a, b in itertools.pairwise(frozen))
    # each layer freezes at the iteration nearest to its time, of two layers in one at their sum's
    realised = sum(map(len, frozen)) / (8 * num_steps)
    assert abs(realised - 0.3) <= 0.5 / num_steps + 1e-9
    if num_steps == 333:
        for layer, time in enumerate(method.schedule.times_L):
            first = next(step for step, layers in enumerate(frozen) if layer in layers)
            assert abs(first - time * num_steps) <= 0.5 + 1e-9


def test_nothing_is_drawn():
    runs = []
    for seed, mode in [(0, "bernoulli"), (7, "fixed_count")]:
        model = gpt(6)
        method = freezing(model, saving=0.4, freeze_times="linear", seed=seed, mode=mode)
        runs.append(frozen_at_each_step(method, model, 30))
    assert runs[0] == runs[1]


def test_no_saving_freezes_nothing():
    model = gpt(4)
    method = freezing(model, saving=0.0)
    assert frozen_at_each_step(method, model, 20) == [frozenset()] * 20
    assert method.keep_probability(1.0) == (1.0,) * 4
    assert method.describe()["t_0"] == 1


def test_t_0_is_solved_from_a_saving():
    method = freezing(gpt(8), saving=0.2, freeze_times="linear")
    assert method.describe()["t_0"] == pytest.approx(1 - 0.2 * 16 / 9)
    described = freezing(gpt(8), saving=0.2).describe()
    cubic = [(described["t_0"] + (1 - described["t_0"]) * layer / 8) ** 3 for layer in range(8)]
    assert sum(cubic) / 8 == pytest.approx(0.8)
    # as published, t_0 = 0.8: the first layer is frozen after 0.8 ** 3 of the run
    keep = freezing(gpt(8)).keep_probability
    assert keep(0.511) == (1.0,) * 8 and keep(0.513) == (0.0, *(1.0,) * 7)


def test_another_schedule_freezes_a_prefix_too():
    model = gpt(4)
    freezing(model, saving=0.2)
    assert adjust_probability(model, 0.4) == pytest.approx((0.0, 0.0, 0.6, 1.0))


# ---------------------------------------------------------------- what


@pytest.mark.parametrize("num_frozen", [0, 1, 3, 4])
def test_no_gradient_passes_below_the_highest_frozen_layer(num_frozen):
    """In a model whose head is not tied, so that the embedding has no other gradient."""
    model = EncoderLM(4)
    method = freezing(model)
    method.schedule = lambda progress: 1 - num_frozen / 4
    method.before_step(next(contexts(model, 5)))
    next_token_loss(model.train(), Source().batch(0)).backward()
    for layer, block in enumerate(attach(model).blocks):
        missing = [parameter.grad is None for parameter in block.module.parameters()]
        assert all(missing) if layer < num_frozen else not any(missing)
    assert (model.embedding.weight.grad is None) == (num_frozen > 0)
    assert model.head.weight.grad is not None


def test_a_tied_head_still_trains_the_token_embedding():
    model = gpt(4)
    method = freezing(model)
    method.schedule = lambda progress: 0.75
    method.before_step(next(contexts(model, 5)))
    next_token_loss(model.train(), Source().batch(0)).backward()
    assert model.token_embedding.weight.grad is not None
    assert model.position_embedding.weight.grad is None


class Watch(Callback):
    """Which layers moved in each step."""

    def __init__(self, model) -> None:
        self.model, self.before, self.moved = model, weights(model), []

    def after_step(self, record) -> None:
        now = weights(self.model)
        self.moved.append(
            {
                layer
                for layer in range(6)
                if any(
                    not torch.equal(now[name], self.before[name])
                    for name in now
                    if name.startswith(f"blocks.{layer}.")
                )
            }
        )
        self.before = now


def test_a_run_trains_what_is_not_frozen_and_nothing_else():
    model = gpt(6)
    method, watch = freezing(model, saving=0.4, freeze_times="linear"), Watch(model)
    record = train(
        model,
        Source(),
        make_optimizer(model),
        config=TrainConfig(budget=Budget(steps=30), warmup=0.0),
        callbacks=[method, watch],
    )
    expected = frozen_at_each_step(method, model, 30)
    moved = watch.moved[:-1]  # the learning rate has decayed to nothing in the last step
    assert moved == [set(range(6)) - frozen for frozen in expected[:-1]]
    assert record.realised_drop == 0
    assert record.realised_backward_drop == pytest.approx(0.4, abs=0.5 / 30)
    assert math.isfinite(record.losses[-1]) and record.flops_saved > 0


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"saving": 0.7, "freeze_times": "linear"}, r"saving=0.7 is above 0.625, the most"),
        ({"saving": 0.9}, r"saving=0.9 is above 0.8594, the most that freezing can save"),
        ({"t_0": 1.5}, "t_0=1.5"),
        ({"freeze_times": "cubed"}, "freeze_times='cubed' .*did you mean 'cubic'"),
        ({"scope": "per_sequence"}, r"scope='per_sequence' .*freezing has effect='freeze'"),
        ({"rescale": "eval_scale"}, r"rescale='eval_scale'"),
        ({"t0": 0.5}, r"'t0' .*'t_0'"),
    ],
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        freezing(gpt(4), **options)
