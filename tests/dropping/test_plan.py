"""The plan: a pure function of its counters, with the probabilities it was asked for."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.dropping import plan
from sbldlib.dropping.plan import (
    MODES,
    counter_uniforms,
    draw_active_layers,
    draw_active_rows,
)

KEEP = (1.0, 0.9, 0.5, 0.75, 0.6, 0.25)
DROP = sum(1 - keep for keep in KEEP)  # 2.0, so that fixed_count drops two layers
DRAWS = 4000

probabilities = st.lists(
    st.floats(min_value=0, max_value=1, exclude_min=True, allow_subnormal=False), max_size=12
)
counters = st.integers(min_value=0, max_value=2**63)


def draws(keep, mode: str, num: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Whether each layer ran, [num, L], over iterations."""
    table = np.zeros((num, len(keep)), dtype=bool)
    for iteration in range(num):
        table[
            iteration, list(draw_active_layers(keep, seed=seed, iteration=iteration, mode=mode))
        ] = 1
    return table


def assert_within_binomial_bounds(table: np.ndarray, keep) -> None:
    """Each layer's share of runs within five standard errors of its probability."""
    for layer, probability in enumerate(keep):
        error = math.sqrt(probability * (1 - probability) / len(table))
        assert abs(table[:, layer].mean() - probability) <= 5 * error, f"layer {layer}"


@given(probabilities, counters, counters, counters, st.sampled_from(MODES))
def test_the_same_counters_give_the_same_layers_in_order(keep, seed, iteration, micro_batch, mode):
    settings = {"seed": seed, "iteration": iteration, "micro_batch": micro_batch, "mode": mode}
    active = draw_active_layers(keep, **settings)
    assert active == draw_active_layers(tuple(keep), **settings)
    assert active == draw_active_layers(np.array(keep), **settings)
    assert list(active) == sorted(set(active)) and set(active) <= set(range(len(keep)))
    assert all(type(layer) is int for layer in active)


@given(probabilities, counters, st.sampled_from(MODES))
def test_a_layer_kept_with_probability_1_always_runs(keep, iteration, mode):
    keep = [1.0, *keep, 1.0]
    active = draw_active_layers(keep, seed=0, iteration=iteration, mode=mode)
    assert {layer for layer, probability in enumerate(keep) if probability == 1} <= set(active)


@pytest.mark.parametrize("mode", MODES)
def test_all_at_1_run_and_no_layers_are_no_layers(mode):
    assert draw_active_layers([1.0] * 5, seed=3, iteration=9, mode=mode) == (0, 1, 2, 3, 4)
    assert draw_active_layers([], seed=3, iteration=9, mode=mode) == ()


@pytest.mark.parametrize("mode", MODES)
def test_each_layer_runs_as_often_as_its_probability_says(mode):
    assert_within_binomial_bounds(draws(KEEP, mode), KEEP)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("counter", ["seed", "micro_batch"])
def test_the_other_counters_draw_as_fairly_as_iterations(mode, counter):
    table = np.zeros((DRAWS, len(KEEP)), dtype=bool)
    for value in range(DRAWS):
        settings = {"seed": 0, "micro_batch": 0, counter: value}
        table[value, list(draw_active_layers(KEEP, iteration=5, mode=mode, **settings))] = 1
    assert_within_binomial_bounds(table, KEEP)


def test_bernoulli_layers_and_iterations_are_independent():
    table = draws([0.5] * 6, "bernoulli").astype(float)
    bound = 5 / math.sqrt(DRAWS)
    between_layers = np.corrcoef(table.T) - np.eye(6)
    assert np.abs(between_layers).max() < bound
    for layer in range(6):
        following = np.corrcoef(table[:-1, layer], table[1:, layer])[0, 1]
        assert abs(following) < bound


def test_bernoulli_draws_a_layer_whatever_the_depth():
    """So that a layer's draws survive a change of depth, and runs of two depths can be paired."""
    for iteration in range(50):
        deep = draw_active_layers([0.5] * 24, seed=1, iteration=iteration)
        for num_layers in (1, 2, 5, 23):
            shallow = draw_active_layers([0.5] * num_layers, seed=1, iteration=iteration)
            assert shallow == tuple(layer for layer in deep if layer < num_layers)


def test_bernoulli_keeps_more_layers_at_a_higher_probability():
    for iteration in range(50):
        low, high = (
            set(draw_active_layers([keep] * 12, seed=1, iteration=iteration)) for keep in (0.4, 0.7)
        )
        assert low <= high


@pytest.mark.parametrize("keep", [KEEP, (0.8,) * 5, (0.9,) * 10, (0.1,) * 10, (2 / 3,) * 6])
def test_fixed_count_drops_a_whole_sum_in_every_draw(keep):
    expected = round(sum(1 - probability for probability in keep))
    dropped = len(keep) - draws(keep, "fixed_count", num=500).sum(axis=1)
    assert set(dropped) == {expected}


@given(probabilities, counters)
def test_fixed_count_drops_one_of_the_sums_two_neighbours(keep, iteration):
    active = draw_active_layers(keep, seed=0, iteration=iteration, mode="fixed_count")
    total = math.fsum(1 - probability for probability in keep)
    dropped = len(keep) - len(active)
    assert math.floor(total + 1e-9) <= dropped <= math.ceil(total - 1e-9)


def test_fixed_count_hits_a_broken_sum_on_average():
    keep = (0.7, 0.8, 0.85)  # 0.65 layers dropped: none or one
    table = draws(keep, "fixed_count")
    assert set(3 - table.sum(axis=1)) == {0, 1}
    assert_within_binomial_bounds(table, keep)


@pytest.mark.parametrize(
    "keep, start, active",
    [
        ((0.9,) * 10, 0.0, 9),  # ten times 0.1 add up to less than 1
        ((0.7, 0.9, 0.4), 0.0, 2),
        ((1 - 0.2999999996, 1.0), 0.2999999998, 1),  # a sum near a round number
        ((1 - 0.3000000004, 1.0), 0.3000000002, 2),
    ],
)
def test_fixed_count_at_the_edges_of_rounding(monkeypatch, keep, start, active):
    numbers = np.append(np.linspace(0, 0.9, len(keep)), start)
    monkeypatch.setattr(plan, "counter_uniforms", lambda num, *counters: numbers[:num])
    layers = draw_active_layers(keep, seed=0, iteration=0, mode="fixed_count")
    assert len(layers) == active
    assert all(layer in layers for layer, probability in enumerate(keep) if probability == 1)


def test_fixed_count_drops_every_pair_of_layers():
    """Not only neighbours: the order is drawn anew."""
    table = draws((2 / 3,) * 6, "fixed_count", num=1000)
    pairs = {tuple(np.flatnonzero(~row)) for row in table}
    assert len(pairs) == 15


GOLDEN = {
    "bernoulli": [(0, 1, 2, 3, 4), (0, 1, 2, 3, 4), (0, 1, 3), (0, 1, 3, 4, 5)],
    "fixed_count": [(0, 1, 2, 3), (0, 1, 3, 4), (0, 1, 3, 5), (0, 1, 2, 3)],
}


@pytest.mark.parametrize("mode", MODES)
def test_the_stream_stays_what_it_was(mode):
    """A change here breaks every replay and every resumed run: it must be a decision."""
    drawn = [draw_active_layers(KEEP, seed=7, iteration=i, mode=mode) for i in range(4)]
    assert drawn == GOLDEN[mode]


def test_the_uniforms_stay_what_they_were():
    expected = ["0x1.97755177ff8d8p-4", "0x1.0cac0510a7b1cp-1", "0x1.290a00358aef4p-2"]
    assert [value.hex() for value in counter_uniforms(3, 7, 2, 1).tolist()] == expected


def test_numbers_next_to_each_other_draw_apart_however_large():
    large = [2**53, 2**53 + 1, 2**63 + 1, 2**63 + 2, 2**64 - 2, 2**64 - 1]
    for place in range(3):
        places = [[value if i == place else 1 for i in range(3)] for value in large]
        assert len({counter_uniforms(1, *numbers).item() for numbers in places}) == len(large)


def test_uniforms_are_spread_evenly():
    values = np.concatenate([counter_uniforms(100, 0, iteration) for iteration in range(100)])
    counts = np.histogram(values, bins=10, range=(0, 1))[0]
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(1000 * 0.9)
    assert len(np.unique(values)) == 10_000


@pytest.mark.parametrize("mode", MODES)
def test_no_global_random_state_is_read_or_moved(mode):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    drawn = set()
    for seed in range(3):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        before = states()
        drawn.add(draw_active_layers(KEEP, seed=0, iteration=0, mode=mode))
        assert states() == before
    assert len(drawn) == 1


@pytest.mark.parametrize(
    "keep, problem",
    [
        ([0.5, 0.0], r"keep_probability\[1\]=0.0 is outside \(0, 1\]"),
        ([1.1], r"keep_probability\[0\]=1.1 is outside"),
        ([0.5, -0.1, 2], r"keep_probability\[1\]=-0.1 is outside"),
        ([math.nan], r"keep_probability\[0\]=nan is outside"),
        (["much"], r"keep_probability\[0\]='much' must be a number"),
    ],
)
def test_a_probability_out_of_range_is_named_by_its_layer(keep, problem):
    with pytest.raises(ValueError, match=problem):
        draw_active_layers(keep, seed=0, iteration=0)


@pytest.mark.parametrize("counter", ["seed", "iteration", "micro_batch"])
@pytest.mark.parametrize("value", [-1, 0.5, True, None])
def test_a_counter_that_is_no_whole_number_is_named(counter, value):
    settings = {"seed": 0, "iteration": 0, counter: value}
    with pytest.raises(ValueError, match=f"{counter}={value}"):
        draw_active_layers([0.5], **settings)


def test_an_unknown_mode_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"mode='fixed' is not known.*did you mean 'fixed_count'"):
        draw_active_layers([0.5], seed=0, iteration=0, mode="fixed")


# ---- rows


def row_draws(keep, num_rows: int, mode: str, num: int = DRAWS) -> np.ndarray:
    """Whether each layer ran for each row, [num, L, B], over iterations."""
    table = np.zeros((num, len(keep), num_rows), dtype=bool)
    for iteration in range(num):
        drawn = draw_active_rows(keep, num_rows, seed=0, iteration=iteration, mode=mode)
        for layer, rows in enumerate(drawn):
            table[iteration, layer, list(rows)] = True
    return table


batches = st.integers(min_value=1, max_value=40)


@given(probabilities, batches, counters, counters, counters, st.sampled_from(MODES))
def test_rows_are_a_function_of_the_counters_in_order(keep, num_rows, seed, step, micro, mode):
    settings = {"seed": seed, "iteration": step, "micro_batch": micro, "mode": mode}
    drawn = draw_active_rows(keep, num_rows, **settings)
    random.random(), np.random.random(), torch.rand(1)
    draw_active_rows(keep, num_rows, **{**settings, "iteration": 3})
    assert drawn == draw_active_rows(np.array(keep), num_rows, **settings)
    assert len(drawn) == len(keep)
    for probability, rows in zip(keep, drawn, strict=True):
        assert list(rows) == sorted(set(rows)) and set(rows) <= set(range(num_rows))
        assert all(type(row) is int for row in rows)
        if probability == 1:
            assert rows == tuple(range(num_rows))


@given(probabilities, batches, counters)
def test_fixed_count_of_rows_is_balanced_both_ways(keep, num_rows, iteration):
    drawn = draw_active_rows(keep, num_rows, seed=0, iteration=iteration, mode="fixed_count")
    for probability, rows in zip(keep, drawn, strict=True):
        asked, dropped = (1 - probability) * num_rows, num_rows - len(rows)
        assert math.floor(asked + 1e-9) <= dropped <= math.ceil(asked - 1e-9)
    asked = math.fsum(1 - probability for probability in keep)
    for row in range(num_rows):
        dropped = sum(row not in rows for rows in drawn)
        assert math.floor(asked - 1e-9) <= dropped <= math.ceil(asked + 1e-9)


@pytest.mark.parametrize("num_rows", [1, 4, 7])
@pytest.mark.parametrize("mode", MODES)
def test_each_row_runs_each_layer_as_often_as_its_probability_says(mode, num_rows):
    table = row_draws(KEEP, num_rows, mode)
    for row in range(num_rows):
        assert_within_binomial_bounds(table[:, :, row], KEEP)


def test_bernoulli_rows_are_independent():
    table = row_draws([0.5] * 3, 4, "bernoulli").reshape(DRAWS, 12).astype(float)
    between = np.corrcoef(table.T) - np.eye(12)
    assert np.abs(between).max() < 5 / math.sqrt(DRAWS)


def test_fixed_count_of_rows_drops_every_pair_of_layers_for_a_row():
    """Dealt out in an order that is drawn anew: no two layers are tied to each other."""
    table = row_draws((0.6,) * 5, 5, "fixed_count", num=1500)[:, :, 0]
    pairs = {tuple(np.flatnonzero(~row)) for row in table}
    assert len(pairs) == 10


@pytest.mark.parametrize("keep", [0.8, 0.9, 2 / 3, 0.55])
def test_whole_numbers_of_rows_are_never_missed_by_rounding(keep):
    num_rows = {0.8: 5, 0.9: 10, 2 / 3: 6, 0.55: 20}[keep]
    table = row_draws([keep] * 9, num_rows, "fixed_count", num=200)
    assert set((~table).sum(axis=2).ravel().tolist()) == {round((1 - keep) * num_rows)}


def test_rows_have_draws_of_their_own():
    """Not those of whole layers: a run by row is no copy of one by batch in its first row."""
    same = 0
    for iteration in range(200):
        layers = draw_active_layers([0.5] * 8, seed=1, iteration=iteration)
        rows = draw_active_rows([0.5] * 8, 1, seed=1, iteration=iteration)
        same += layers == tuple(layer for layer, some in enumerate(rows) if some)
    assert same < 10


ROWS_GOLDEN = {
    "bernoulli": ((1, 2, 3), (1, 3)),
    "fixed_count": ((0, 2), (1, 2, 3)),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_stream_of_rows_stays_what_it_was(mode):
    assert draw_active_rows((0.5, 0.75), 4, seed=7, iteration=2, mode=mode) == ROWS_GOLDEN[mode]


@pytest.mark.parametrize("num_rows", [0, -1, 2.0, True])
def test_a_number_of_rows_that_is_none_is_named(num_rows):
    with pytest.raises(ValueError, match=f"num_rows={num_rows}"):
        draw_active_rows([0.5], num_rows, seed=0, iteration=0)
    with pytest.raises(ValueError, match=r"mode='fixed' .*'fixed_count'"):
        draw_active_rows([0.5], 2, seed=0, iteration=0, mode="fixed")
    with pytest.raises(ValueError, match=r"keep_probability\[0\]=0.0"):
        draw_active_rows([0.0], 2, seed=0, iteration=0)
