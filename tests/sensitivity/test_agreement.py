"""Rank correlations beside scipy's, and what their intervals and sentences say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sbldlib.records import SensitivityData
from sbldlib.sensitivity import Agreement, Stability, agreement, data_from_samples, stability
from sbldlib.sensitivity.ranks import average_ranks, kendall, resampled_values, spearman

few_values = st.lists(st.integers(0, 6).map(float), min_size=3, max_size=12)


def data(samples, iteration=None) -> SensitivityData:
    return data_from_samples(samples, method="of a test", unit="points", iteration=iteration)


def noisy(values, *, noise=0.0, num_batches=8, seed=0, iteration=None) -> SensitivityData:
    generator = np.random.default_rng(seed)
    samples = np.asarray(values)[:, None] + noise * generator.standard_normal(
        (len(values), num_batches)
    )
    return data(samples.tolist(), iteration)


@given(few_values)
def test_ranks_are_scipys(values):
    assert average_ranks(np.array(values)) == pytest.approx(stats.rankdata(values))


@given(st.data())
def test_correlations_are_scipys_with_ties_and_without(draw):
    first = draw.draw(few_values.filter(lambda values: len(set(values)) > 1))
    second = draw.draw(
        st.lists(st.integers(0, 6).map(float), min_size=len(first), max_size=len(first)).filter(
            lambda values: len(set(values)) > 1
        )
    )
    one, other = np.array(first), np.array(second)
    assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert kendall(one, other) == pytest.approx(stats.kendalltau(one, other).statistic)


def test_many_resamples_are_correlated_at_once():
    generator = np.random.default_rng(0)
    first, second = generator.standard_normal((2, 5, 7))
    for correlate in (spearman, kendall):
        rows = [float(correlate(a, b)) for a, b in zip(first, second, strict=True)]
        assert correlate(first, second) == pytest.approx(rows)


def test_a_constant_gives_no_correlation():
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))
    assert np.isnan(kendall(np.ones(4), np.arange(4.0)))


def test_agreement_of_like_unlike_and_opposite_orders():
    generator = np.random.default_rng(1)
    measured = {
        "loss_delta": noisy(range(8), noise=0.1),
        "squared": noisy(np.arange(8.0) ** 2, noise=0.1, seed=1),
        "inverted": noisy([-value for value in range(8)], noise=0.1, seed=2),
        "chance": noisy(generator.permutation(8), noise=3.0, seed=3),
    }
    found = agreement(measured, num_resamples=300)
    assert found.pair("loss_delta", "squared") == (1.0, 1.0, 1.0)
    assert found.pair("loss_delta", "inverted", of="kendall") == (-1.0, -1.0, -1.0)
    value, low, high = found.pair("chance", "loss_delta")
    expected = stats.spearmanr(measured["chance"].values, measured["loss_delta"].values)
    assert value == pytest.approx(expected.statistic) and low < value < high
    assert [found.spearman[i][i] for i in range(4)] == [1.0] * 4
    assert np.allclose(found.kendall_low, np.transpose(found.kendall_low))
    assert Agreement.from_json(found.to_json()) == found
    assert agreement(measured, num_resamples=300) == found
    assert agreement(measured, num_resamples=300, seed=1) != found


def test_the_summary_names_the_closest_the_farthest_and_the_open_pairs():
    measured = {
        "a": noisy(range(8), noise=0.01),
        "b": noisy(range(8), noise=0.01, seed=1),
        "c": noisy([3, 6, 0, 5, 7, 2, 4, 1], noise=5.0, seed=2),
    }
    text = agreement(measured).summary()
    assert "Over 8 layers, a and b (rho 1.00 [1.00, 1.00]) agree most" in text
    assert " and c (rho" in text and text.endswith("least; 2 of 3 pairs' intervals hold 0.")
    two = agreement({name: measured[name] for name in ("a", "b")})
    assert two.summary() == "Over 8 layers, a and b (rho 1.00 [1.00, 1.00]); it does not hold 0."
    only = agreement({"a": measured["a"]})
    assert only.summary() == "Only a was measured; there is nothing to compare."


def test_measurements_on_the_same_batches_are_resampled_together():
    one, other = noisy(range(5), noise=2.0), noisy(range(5), noise=2.0)
    first, second = resampled_values([one, other], num_resamples=50, seed=0)
    assert np.array_equal(first, second) and first.shape == (50, 5)
    assert np.std(first, axis=0).min() > 0
    more = noisy(range(5), noise=2.0, num_batches=9)
    assert not np.array_equal(resampled_values([more], num_resamples=50, seed=0)[0], first)


def test_resampled_means_scatter_by_the_standard_error():
    measured = noisy(range(4), noise=1.0, num_batches=40)
    (found,) = resampled_values([measured], num_resamples=4000, seed=0)
    assert found.mean(axis=0) == pytest.approx(measured.values, abs=0.02)
    shrink = np.sqrt(39 / 40)  # the bootstrap divides by n, the standard error by n - 1
    expected = np.array(measured.standard_errors) * shrink
    assert found.std(axis=0) == pytest.approx(expected, rel=0.06)


def test_the_interval_holds_the_correlation_of_the_true_values_as_often_as_it_says():
    # Far apart but for one pair, whose order the noise can turn: the truth is rho = 1.
    truth = [0.0, 0.2, 3.0, 6.0, 9.0, 12.0]
    exact = noisy(truth)
    held = 0
    for seed in range(60):
        found = agreement(
            {"exact": exact, "noisy": noisy(truth, noise=0.4, num_batches=12, seed=seed)},
            num_resamples=200,
        )
        _, low, high = found.pair("exact", "noisy")
        held += low <= 1 <= high
    assert held / 60 > 0.85


def test_stability_is_reckoned_from_the_last_checkpoint():
    orders = ([3, 2, 1, 0], [0, 1, 3, 2], [0, 1, 2, 3])
    checkpoints = [noisy(order, iteration=100 * i) for i, order in enumerate(orders)]
    found = stability(checkpoints)
    assert found.iterations == (0, 100, 200)
    assert found.with_last == pytest.approx((-1.0, 0.8, 1.0))
    assert found.with_previous == pytest.approx((1.0, -0.8, 0.8))
    assert found.ranks == ((1, 2, 3, 4), (4, 3, 1, 2), (4, 3, 2, 1))
    assert found.with_last_low[1] == found.with_last_high[1] == pytest.approx(0.8)
    assert Stability.from_json(found.to_json()) == found
    assert found.summary() == (
        "From iteration 100 on, every checkpoint ranks the layers much as the last one does "
        "(rho >= 0.8); at 100 it is 0.80 [0.80, 0.80]."
    )
    assert found.summary(enough=0.9).startswith("No earlier checkpoint ranks the layers as the")


@pytest.mark.parametrize(
    "call, problem",
    [
        (lambda: agreement({}), "holds nothing to compare"),
        (
            lambda: agreement({"a": noisy(range(4)), "b": noisy(range(5))}),
            r"one number of layers, not \{'a': 4, 'b': 5\}",
        ),
        (
            lambda: agreement({"a": noisy(range(4)), "flat": noisy([2.0] * 4)}),
            r"measured\['flat'\] has one value for all layers: it gives no order",
        ),
        (
            lambda: agreement({"a": SensitivityData(values=(1, 2), standard_errors=(0, 0))}),
            r"samples=\(\) of 'loss_delta': an interval needs what each batch gave",
        ),
        (lambda: agreement({"a": noisy(range(4))}, confidence=1), r"confidence=1 is outside"),
        (lambda: agreement({"a": noisy(range(4))}, num_resamples=0), r"num_resamples=0 must be"),
        (lambda: stability([]), r"iteration=\[\] of the checkpoints"),
        (lambda: stability([noisy(range(4))]), r"iteration=\[None\] of the checkpoints"),
        (
            lambda: stability([noisy(range(4), iteration=i) for i in (5, 5)]),
            r"iteration=\[5, 5\] .* whole numbers that rise",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(call, problem):
    with pytest.raises(ValueError, match=problem):
        call()


def test_an_unknown_name_of_a_pair_suggests_the_nearest():
    found = agreement({"loss_delta": noisy(range(4)), "dropbp": noisy(range(4))})
    with pytest.raises(ValueError, match=r"name='loss_delt' .*'loss_delta'"):
        found.pair("loss_delt", "dropbp")
    with pytest.raises(ValueError, match=r"of='spearmn' .*'spearman'"):
        found.pair("loss_delta", "dropbp", of="spearmn")
