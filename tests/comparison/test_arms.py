"""Arms: what they refuse, and the controls made from measured sensitivities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.comparison import ARMS, Arm
from sbldlib.comparison.arms import ORDERS, ordered
from sbldlib.methods import METHODS
from sbldlib.records import SensitivityData


def data(values) -> SensitivityData:
    errors = tuple(0.01 * (place + 1) for place in range(len(values)))
    return SensitivityData(values=tuple(values), standard_errors=errors)


def test_every_method_is_an_arm():
    assert {arm.method for arm in ARMS.values()} == set(METHODS)
    assert all(arm.name == name for name, arm in ARMS.items())


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=12, unique=True),
    st.sampled_from(ORDERS),
    st.integers(0, 50),
)
def test_an_order_gives_the_same_values_to_other_layers(values, order, seed):
    found = ordered(data(values), order, seed=seed)
    assert sorted(zip(found.values, found.standard_errors, strict=True)) == sorted(
        zip(values, data(values).standard_errors, strict=True)
    )
    if order == "inverted":
        assert found.ranking() == data(values).ranking()[::-1]
    elif order == "measured":
        assert found == data(values)
    assert found == ordered(data(values), order, seed=seed)


def test_shuffles_differ_by_seed():
    values = [float(layer) for layer in range(8)]
    assert len({ordered(data(values), "shuffled", seed=seed).values for seed in range(20)}) > 15


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"method": "sbdl"}, r"method='sbdl'.*'sbld'"),
        ({"method": "sbld", "schedule": "pweg"}, r"schedule='pweg'.*'pwegd'"),
        ({"method": "sbld", "order": "reversed"}, r"order='reversed'"),
        ({"depth": "deep"}, r"depth='deep'"),
        ({"method": "uniform", "depth": "shallower"}, r"depth='shallower'.*method='uniform'"),
        ({"method": "uniform", "schedule": "rising"}, r"schedule='rising'.*are sbld's"),
        ({"learning_rate_scale": 0.0}, r"learning_rate_scale=0.0"),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(ValueError, match=named):
        Arm(name="x", **settings)


def test_an_unknown_order_is_named():
    with pytest.raises(ValueError, match=r"order='invert'.*'inverted'"):
        ordered(data([1.0, 2.0]), "invert", seed=0)
