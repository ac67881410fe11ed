from __future__ import annotations

import math

import pytest
from small import gpt

from sbldlib.methods import adjust_probability, pld
from sbldlib.methods.pld import PLDSchedule


def test_theta_falls_to_its_limit_and_deeper_layers_follow():
    method = pld(gpt(4), theta_bar=0.5, gamma=100.0)
    assert method.keep_probability(0.0) == (1.0,) * 4
    # theta(1) = 0.5 to 1e-44: keep = 1 - l / 4 * 0.5
    assert method.keep_probability(1.0) == pytest.approx((1.0, 0.875, 0.75, 0.625))
    theta = 0.5 + 0.5 * math.exp(-1)
    expected = [1 - layer / 4 * (1 - theta) for layer in range(4)]
    assert method.keep_probability(0.01) == pytest.approx(expected)


def test_the_other_index_drops_the_first_layer_too():
    method = pld(gpt(4), theta_bar=0.5, first_index=1)
    assert method.keep_probability(1.0) == pytest.approx((0.875, 0.75, 0.625, 0.5))


@pytest.mark.parametrize("first_index", [0, 1])
@pytest.mark.parametrize("num_steps", [7, 50, 1000])
def test_a_saving_is_met_exactly_at_any_length(first_index, num_steps):
    mean_depth = (3 + 2 * first_index) / 8
    schedule = PLDSchedule(mean_depth, theta_bar=0.5, gamma=100.0, saving=0.2)
    keep_T = schedule.tabulate(num_steps)
    assert keep_T.mean() == pytest.approx(0.8, abs=1e-14)
    assert keep_T[0] == 1 and list(keep_T) == sorted(keep_T, reverse=True)


def test_without_a_known_length_the_saving_is_the_mean_over_progress():
    schedule = PLDSchedule(0.375, theta_bar=0.5, gamma=10.0, saving=0.2)
    grid = [(i + 0.5) / 20000 for i in range(20000)]
    assert math.fsum(map(schedule, grid)) / 20000 == pytest.approx(0.8, abs=1e-8)


def test_without_a_saving_theta_bar_is_as_it_was_given():
    schedule = PLDSchedule(0.5, theta_bar=0.4, gamma=3.0, saving=None)
    for num_steps in (2, 5):
        expected = [schedule(step / (num_steps - 1)) for step in range(num_steps)]
        assert schedule.tabulate(num_steps) == pytest.approx(expected)


def test_no_saving_is_full_depth():
    method = pld(gpt(4), saving=0.0)
    assert method.keep_probability(1.0) == (1.0,) * 4
    assert method.describe()["theta_bar"] == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"saving": 0.4}, r"saving=0.4 is not below 0.3712, the most that PLD can drop here"),
        ({"theta_bar": 0.0}, "theta_bar=0.0"),
        ({"theta_bar": 1.1}, "theta_bar=1.1"),
        ({"gamma": 0.0}, "gamma=0.0"),
        ({"gamma": math.inf, "saving": 0.2}, "gamma=inf"),
        ({"first_index": 2}, "first_index=2"),
    ],
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        pld(gpt(4), **options)


def test_a_run_of_few_steps_holds_less():
    schedule = PLDSchedule(0.375, theta_bar=0.5, gamma=100.0, saving=0.3)
    with pytest.raises(ValueError, match=r"saving=0.3 is not below 0.1875"):
        schedule.tabulate(2)


def test_another_schedule_may_take_its_place():
    model = gpt(4)
    pld(model, saving=0.2)
    assert sum(adjust_probability(model, 0.9)) / 4 == pytest.approx(0.9)
