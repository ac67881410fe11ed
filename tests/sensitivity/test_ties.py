"""Layers that cannot be told apart: scipy's paired t test, Holm's correction, and the groups."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sbldlib.records import SensitivityData
from sbldlib.sensitivity import Ties, data_from_samples, tied_pairs
from sbldlib.sensitivity.ties import paired_p_value


def data(samples) -> SensitivityData:
    return data_from_samples(np.asarray(samples).tolist(), method="of a test", unit="points")


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40), st.floats(-3, 3))
def test_the_p_value_is_scipys(values, shift):
    differences = np.array(values) + shift
    if differences.std() > 1e-9 * max(1.0, abs(differences.mean())):
        expected = stats.ttest_1samp(differences, 0).pvalue
        assert paired_p_value(differences) == pytest.approx(expected, abs=1e-9)


def test_differences_without_spread_are_none_or_certain():
    assert paired_p_value(np.zeros(5)) == 1.0
    assert paired_p_value(np.full(5, 0.25)) == 0.0


def test_the_pairs_told_apart_are_holms():
    generator = np.random.default_rng(0)
    for _ in range(20):
        samples = generator.standard_normal((6, 10)) + np.array([0, 0, 0.5, 1, 2, 2])[:, None]
        pairs = list(itertools.combinations(range(6), 2))
        p_values = [stats.ttest_rel(samples[a], samples[b]).pvalue for a, b in pairs]
        order, apart = np.argsort(p_values), set()
        for place, index in enumerate(order):
            if p_values[index] > 0.05 / (len(pairs) - place):
                break
            apart.add(pairs[index])
        found = tied_pairs(data(samples))
        assert set(found.pairs) == set(pairs) - apart
        assert found.num_pairs == 15 and found.num_batches == 10


def test_bars_that_overlap_may_still_be_told_apart():
    weather = np.random.default_rng(0).standard_normal(12)  # some batches are hard on all layers
    jitter = 0.01 * np.random.default_rng(1).standard_normal((2, 12))
    measured = data(np.array([[0.0], [0.1]]) + weather + jitter)
    gap, errors = measured.values[1] - measured.values[0], measured.standard_errors
    assert gap < min(errors), "the bars overlap widely"
    assert tied_pairs(measured).pairs == ()


def test_equal_layers_are_wrongly_told_apart_no_oftener_than_is_said():
    generator = np.random.default_rng(0)
    wrong = sum(
        len(tied_pairs(data(generator.standard_normal((5, 8)))).pairs) < 10 for _ in range(300)
    )
    assert wrong / 300 < 0.08


def test_groups_are_runs_of_the_ranking_and_may_overlap():
    wave = np.array([1.0, -1.0] * 8)
    # 0, 1, 2 lie one step apart: neighbours are tied, the ends are not; 3 stands alone.
    samples = [0.30 * wave + 10, 10.05 - 0.30 * wave, 0.30 * wave + 10.10, 0.001 * wave]
    found = tied_pairs(data(samples))
    assert found.pairs == ((0, 1), (1, 2))
    assert found.groups == ((2, 1), (1, 0))
    assert found.are_tied(1, 0) and found.are_tied(1, 2) and not found.are_tied(0, 2)
    assert found.summary() == (
        "2 of 6 pairs of layers cannot be told apart (paired t over 16 batches, Holm at 95%). "
        "The order within these is not known: layers 2, 1; 1, 0."
    )
    assert Ties.from_json(found.to_json()) == found


def test_without_ties_the_summary_says_so():
    found = tied_pairs(data([[1.0, 1.1], [5.0, 5.1]]))
    assert (found.pairs, found.groups) == ((), ())
    assert found.summary().startswith("All 1 pairs of layers can be told apart (paired t over 2")


@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_every_tied_neighbour_stands_in_a_group_and_every_group_is_tied(seed, num_layers):
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal((num_layers, 5)) + 2 * generator.standard_normal(
        (num_layers, 1)
    )
    measured = data(samples)
    found = tied_pairs(measured)
    ranking = measured.ranking()
    for group in found.groups:
        start = ranking.index(group[0])
        assert ranking[start : start + len(group)] == group
        assert all(found.are_tied(a, b) for a, b in itertools.combinations(group, 2))
    for pair in itertools.pairwise(ranking):
        assert found.are_tied(*pair) == any(set(pair) <= set(group) for group in found.groups)


@pytest.mark.parametrize(
    "measured, options, problem",
    [
        (SensitivityData(values=(1.0, 2.0), standard_errors=(0.0, 0.0)), {}, r"samples is 0 x 0"),
        (data([[1.0, 2.0]]), {}, r"samples is 1 x 2; pairs of layers need"),
        (data([[1.0, 2.0]] * 2), {"confidence": 0}, r"confidence=0 is outside \(0, 1\)"),
    ],
)
def test_what_holds_no_pairs_is_refused(measured, options, problem):
    with pytest.raises(ValueError, match=problem):
        tied_pairs(measured, **options)
