from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.training.config import PRECISIONS, Budget, TrainConfig

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**300),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([*PRECISIONS, np.int64(3), np.float32(0.5), [], {}, Budget(steps=2)]),
)
BUDGET_FIELDS = [f.name for f in fields(Budget)]
CONFIG_FIELDS = ["budget", "warmup", "final_learning_rate", "accumulate", "clip_norm"]
CONFIG_FIELDS += ["precision", "evaluate_every"]


@given(st.sampled_from(BUDGET_FIELDS), anything)
def test_a_budget_works_or_names_its_field(name, value):
    try:
        budget = Budget(**{name: value})
    except ValueError as error:
        assert name in str(error)
        return
    number = getattr(budget, name)
    assert number > 0 and math.isfinite(number)
    assert isinstance(number, int if name in ("steps", "tokens") else float)
    assert budget.num_steps(7) is None or budget.num_steps(7) >= 1


@given(st.sampled_from(CONFIG_FIELDS), anything)
def test_a_configuration_works_or_names_its_field(name, value):
    try:
        config = TrainConfig(**{name: value})
    except ValueError as error:
        assert name in str(error)
        return
    json.dumps(asdict(config))  # plain numbers alone, or the record of a run would not be written
    for progress in (0.0, 0.01, 0.5, 1.0):
        factor = config.learning_rate_factor(progress)
        assert config.final_learning_rate <= factor <= 1
    assert config.accumulate >= 1 and config.evaluate_every >= 0


@pytest.mark.parametrize(
    "given_values", [{}, {"steps": 5, "tokens": 5}, {"flops": 1.0, "seconds": 1.0}]
)
def test_exactly_one_budget(given_values):
    with pytest.raises(ValueError, match="exactly one of steps, tokens, flops, seconds"):
        Budget(**given_values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 2.0),
        ("tokens", -1),
        ("flops", 0.0),
        ("flops", math.inf),
        ("seconds", math.nan),
        ("seconds", -1.0),
        ("seconds", "long"),
    ],
)
def test_a_budget_of_nothing_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}="):
        Budget(**{name: value})


def test_a_configuration_that_is_no_budget_says_what_to_write():
    with pytest.raises(ValueError, match=r"budget=300 must be a Budget, such as Budget\(steps="):
        TrainConfig(budget=300)


def test_an_unknown_precision_names_the_nearest():
    with pytest.raises(ValueError, match=r"precision='bfloat' .*'bfloat16'"):
        TrainConfig(precision="bfloat")


def test_steps_of_a_budget():
    assert Budget(steps=9).num_steps(100) == 9
    assert Budget(tokens=1000).num_steps(100) == 10
    assert Budget(tokens=1001).num_steps(100) == 11
    assert Budget(flops=1e9).num_steps(100) is None
    assert Budget(seconds=1.0).num_steps(100) is None
    assert Budget(flops=200.0).spent(flops=50.0, seconds=9.0) == 0.25
    assert Budget(seconds=2.0).spent(flops=50.0, seconds=1.0) == 0.5
    assert Budget(steps=9).spent(flops=50.0, seconds=1.0) == 0


def test_the_learning_rate_warms_up_in_a_line_and_falls_as_a_cosine():
    config = TrainConfig(warmup=0.2, final_learning_rate=0.1)
    assert config.learning_rate_factor(0.0) == 0.1  # no step is spent on a rate of zero
    assert config.learning_rate_factor(0.1) == pytest.approx(0.5)
    assert config.learning_rate_factor(0.2) == 1.0
    assert config.learning_rate_factor(0.6) == pytest.approx(0.1 + 0.9 * 0.5)
    assert config.learning_rate_factor(0.4) == pytest.approx(0.1 + 0.45 * (1 + math.sqrt(0.5)))
    assert config.learning_rate_factor(1.0) == pytest.approx(0.1)
    no_warmup = replace(config, warmup=0.0)
    assert no_warmup.learning_rate_factor(0.0) == 1.0


@given(st.floats(0, 0.99), st.floats(0.001, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_rises_to_the_warmup_and_falls_after(warmup, final, one, other):
    config = TrainConfig(warmup=warmup, final_learning_rate=final)
    early, late = sorted((one, other))
    first, second = config.learning_rate_factor(early), config.learning_rate_factor(late)
    assert final <= first <= 1 + 1e-12
    if late < warmup:
        assert first <= second
    elif early >= warmup:
        assert second <= first + 1e-12
