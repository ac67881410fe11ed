"""What a run costs is known before it, because its plan is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from comparison.tiny import NUM_LAYERS, PRICES, TINY, subject
from hypothesis import given
from hypothesis import strategies as st
from small import Source, gpt

from sbldlib.comparison.costs import Cost, flop_cost, planned_cost, steps_within
from sbldlib.comparison.prices import clock_of, measure_prices
from sbldlib.measure import count_flops
from sbldlib.methods import METHODS, make_method
from sbldlib.records import SensitivityData
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

SENSITIVITY = SensitivityData(
    values=tuple(float(layer) for layer in range(NUM_LAYERS)),
    standard_errors=(0.1,) * NUM_LAYERS,
)
COST = Cost(forward=(1.0, 2.0, 3.0), backward=(2.0, 4.0, 6.0), outside=5.0)


def test_parts_add_up():
    assert COST.full == 23
    assert COST.of([1, 0, 0.5], [1, 0, 0]) == 5 + 1 + 1.5 + 2
    assert COST.forward_pass(3) == pytest.approx(5 / 3 + 6)
    # full depth, then what follows layer 0, 1 and 2, each with the head again
    assert COST.sensitivities(2) == pytest.approx(2 * (4 * 5 / 3 + (3 + 2 + 1 + 0) * 2))


FORWARD_RUNS_WHOLE = {"dropbp", "freezing"}  # there are no rows to drop


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        (name, scope)
        for name in METHODS
        for scope in ("per_batch", "per_sequence")
        if scope == "per_batch" or name not in FORWARD_RUNS_WHOLE
    ],
)
def test_the_planned_cost_is_what_the_run_then_runs(name, scope):
    steps, model, source = 24, gpt(NUM_LAYERS), Source()
    method = make_method(
        name, model, saving=0.25, seed=3, scope=scope, sensitivity_data=SENSITIVITY
    )
    cost = flop_cost(count_flops(model, source.batch(0)))
    planned = planned_cost(method, cost, steps, num_rows=4)
    run = train(
        model,
        source,
        make_optimizer(model),
        config=TrainConfig(budget=Budget(steps=steps)),
        callbacks=[method],
    )
    assert planned == pytest.approx(sum(step.flops for step in run), rel=1e-12)
    assert planned == pytest.approx(sum(cost.of_step(step) for step in run), rel=1e-12)


@given(st.floats(0, 1e4), st.floats(0.5, 30), st.floats(0, 50), st.integers(1, 1000))
def test_steps_within_spends_the_budget_and_no_more(amount, a_step, once, guess):
    def cost_of(steps: int) -> float:
        return once + a_step * steps

    steps = steps_within(amount, cost_of, guess=guess)
    assert steps == 0 or cost_of(steps) <= amount
    assert cost_of(steps + 1) > amount or once > 0  # what is owed once may stop it early


@given(st.floats(1, 1e4), st.floats(0.5, 30), st.integers(1, 1000))
def test_no_further_step_is_affordable(amount, a_step, guess):
    steps = steps_within(amount, lambda steps: a_step * steps, guess=guess)
    assert steps * a_step <= amount < (steps + 1) * a_step * (1 + 1e-12)


class Ticking:
    """A clock that goes on by 2 for each block's forward, 3 for its backward, 10 for the rest."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += seconds

    def subject(self):
        return replace(subject(), make_model=self._model, make_optimizer=self._optimizer)

    def _model(self, seed, num_layers):
        model = gpt(num_layers, seed)
        for block in model.blocks:
            block.register_forward_hook(lambda *_: self.tick(2))
            block.register_full_backward_hook(lambda *_: self.tick(3))
        return model

    def _optimizer(self, model, scale):
        optimizer = make_optimizer(model, learning_rate=1e-3)
        optimizer.register_step_post_hook(lambda *_: self.tick(10))
        return optimizer


@pytest.fixture
def clock(monkeypatch):
    ticking = Ticking()
    monkeypatch.setattr("sbldlib.comparison.prices.clock_of", lambda _: ("process", ticking))
    return ticking


def test_measured_prices_are_what_the_parts_took(clock):
    prices = measure_prices(TINY, clock.subject(), rounds=2)
    parts = (prices.block_forward, prices.block_backward, prices.outside)
    assert parts == pytest.approx((2, 3, 10))
    assert prices.clock == "process" and prices.rounds == 2
    assert prices.fit == 0.0  # no arm asks for one
    assert prices.cost(8).full == pytest.approx(8 * 5 + 10)
    assert PRICES.cost(2).full == pytest.approx(0.006 + 2 * 0.003)


def test_what_comes_out_as_no_time_is_measured_longer_and_then_refused(clock, monkeypatch):
    measured, none = [], {"full": 1.0, "half": 0.6, "few": 0.3, "forward": 1.1}

    def medians(comparison, subject, clock, rounds):
        measured.append(rounds)
        return none if len(measured) < 3 else {**none, "forward": 0.8}

    monkeypatch.setattr("sbldlib.comparison.prices._medians", medians)
    assert measure_prices(TINY, clock.subject(), rounds=5).rounds == 20
    assert measured == [5, 10, 20]
    none["forward"] = 1.1
    monkeypatch.setattr("sbldlib.comparison.prices._medians", lambda *_: none)
    with pytest.raises(RuntimeError, match=r"'block_backward': -0.02.* came out of 84 rounds"):
        measure_prices(TINY, clock.subject())


def test_a_real_machine_s_clock_is_the_process_s_own():
    name, clock = clock_of(TINY)
    assert name == "process" and clock() <= clock()
    assert clock_of(replace(TINY, device="cuda"))[0] == "wall"
