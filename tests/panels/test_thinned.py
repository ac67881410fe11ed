from __future__ import annotations

import math

import numpy as np
import pytest
from panels.shown import NUM_LAYERS, steps

from sbldlib.panels.thinned import MAX_COLUMNS, WINDOW, ThinnedRun
from sbldlib.plots.training import smoothed


def thinned(records) -> ThinnedRun:
    run = ThinnedRun(NUM_LAYERS)
    for record in records:
        run.add(record)
    return run


def noisy(count: int) -> tuple[list, np.ndarray, np.ndarray]:
    """Steps with losses and layers that differ, and both as arrays."""
    generator = np.random.default_rng(0)
    losses = generator.normal(5, 1, count)
    ran_LT = generator.random((NUM_LAYERS, count)) < 0.7
    records = [
        steps(1, step, loss_nats=losses[step], layers_run=tuple(np.flatnonzero(ran_LT[:, step])))[0]
        for step in range(count)
    ]
    return records, losses, ran_LT


def test_a_short_run_is_kept_as_it_is():
    records, losses, ran_LT = noisy(40)
    run = thinned(records)
    assert (run.stride, run.num_columns, run.num_steps) == (1, 40, 40)
    assert run.last("steps").tolist() == list(range(1, 41))
    assert run.last("flops") == pytest.approx(2.0 * np.arange(1, 41))
    assert run.last("seconds") == pytest.approx(0.1 * np.arange(1, 41))
    assert run.last("progress") == pytest.approx(np.arange(40) / 999)
    assert run.last("mean_loss") == pytest.approx(smoothed(losses, WINDOW))
    assert run.last("mean_keep") == pytest.approx(ran_LT.mean(axis=0))
    assert run.extremes == pytest.approx(np.stack([losses, losses]))
    assert (run.ran == 255 * ran_LT).all()


@pytest.mark.parametrize("count", [MAX_COLUMNS + 1, 3 * MAX_COLUMNS + 5, 10_000])
def test_a_long_run_keeps_its_extremes_its_ends_and_its_shares(count):
    records, losses, ran_LT = noisy(count)
    run = thinned(records)
    starts = np.arange(0, count, run.stride)
    sizes = np.diff(np.append(starts, count))
    assert MAX_COLUMNS / 2 < run.num_columns == len(starts) <= MAX_COLUMNS
    assert run.last("steps") == pytest.approx(starts + sizes)
    assert run.last("flops") == pytest.approx(2.0 * (starts + sizes))
    means = smoothed(losses, WINDOW)[starts + sizes - 1]
    assert run.last("mean_loss") == pytest.approx(means)
    assert run.extremes[0] == pytest.approx(np.minimum.reduceat(losses, starts))
    assert run.extremes[1] == pytest.approx(np.maximum.reduceat(losses, starts))
    shares = np.add.reduceat(ran_LT, starts, axis=1, dtype=float) / sizes
    rounding = 0.5 * (1 + math.log2(run.stride))
    assert run.ran / 255 == pytest.approx(shares, abs=(rounding + 0.01) / 255)


def held(run: ThinnedRun) -> dict[str, int]:
    """Bytes of each array in there; nothing else in there may hold many things."""
    sizes = {}
    for name, value in vars(run).items():
        values = value if isinstance(value, dict) else {name: value}
        for key, array in values.items():
            assert isinstance(array, (np.ndarray, int, float)), f"{key} is a {type(array)}"
            sizes[key] = getattr(array, "nbytes", 8)
    return sizes


def test_what_it_keeps_does_not_grow():
    run = thinned(steps(10))
    before = held(run)
    for record in steps(10_000, 10):
        run.add(record)
    assert held(run) == before
    assert run._ran_LC.dtype == np.uint8


def test_a_run_that_does_not_begin_at_step_0():
    run = thinned(steps(5, 100))
    assert run.first_step == 100
    assert run.last("steps").tolist() == [101, 102, 103, 104, 105]
    assert run.last("flops").tolist() == [2, 4, 6, 8, 10]


def test_what_is_at_a_step():
    run = thinned(steps(5, 100))
    assert [run.at_step(step, "flops") for step in (100, 103, 105)] == [0, 6, 10]
    long = thinned(steps(10_000))
    assert [long.at_step(step, "flops") for step in (3, 5_001, 10_000)] == [6, 10_002, 20_000]
    assert ThinnedRun(NUM_LAYERS).at_step(7, "flops") == 0


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_losses_that_are_no_number_are_gaps(odd):
    run = thinned([*steps(3, loss_nats=2.0), *steps(2, 3, loss_nats=odd), *steps(1, 5)])
    assert np.isnan(run.extremes[:, 3:5]).all() and np.isfinite(run.extremes[:, [2, 5]]).all()
    assert run.last("mean_loss")[:5].tolist() == [2.0] * 5
    assert np.isnan(thinned(steps(1, loss_nats=odd)).last("mean_loss")).all()


def test_a_mean_keep_is_the_methods_where_there_is_one():
    keep = steps(1, keep_probability=(1.0, 0.5, 0.5, 0.6))
    assert thinned(keep).last("mean_keep").tolist() == [0.65]
    rows = steps(1, forward_share=(1.0, 0.5, 0.0, 0.5), layers_run=(0, 1, 3))
    run = thinned(rows)
    assert run.last("mean_keep").tolist() == [0.5]
    assert run.ran[:, 0].tolist() == [255, 128, 0, 128], "rows that ran, as shares"


def test_without_layers_the_losses_alone_are_kept():
    run = ThinnedRun(0)
    for record in steps(3):
        run.add(record)
    assert run.ran.shape == (0, 3) and len(run.last("mean_loss")) == 3


def test_a_new_beginning():
    run = thinned(steps(2 * MAX_COLUMNS))
    run.clear()
    assert run.num_columns == 0
    for record in steps(30, loss_nats=1.0):
        run.add(record)
    fresh = thinned(steps(30, loss_nats=1.0))
    for name in ("steps", "flops", "seconds", "mean_loss"):
        assert run.last(name).tolist() == fresh.last(name).tolist()
    assert (run.ran == fresh.ran).all() and (run.extremes == 1).all()
