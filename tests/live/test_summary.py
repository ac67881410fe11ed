from __future__ import annotations

from dataclasses import replace

import pytest

from sbldlib import StepRecord
from sbldlib.live.summary import TIMES_A_DEPTH, RunSummary
from sbldlib.measure import SavedBytes

NUM_LAYERS, OUTSIDE, A_LAYER = 4, 0.010, 0.020  # seconds


def step(number: int, depth: int, *, extra_seconds: float = 0.0) -> StepRecord:
    return StepRecord(
        step=number,
        progress=0.0,
        loss_nats=3.25,
        learning_rate=1e-3,
        gradient_norm=1.0,
        seconds=OUTSIDE + A_LAYER * depth + extra_seconds,
        tokens=8,
        flops=100.0 + 25 * depth,
        flops_full=200.0,
        keep_probability=(0.75,) * NUM_LAYERS,
        layers_run=tuple(range(depth)),
    )


def summary(depths, **options) -> RunSummary:
    found = RunSummary(NUM_LAYERS, 100)
    for number, depth in enumerate(depths):
        found.add(step(number, depth, **options))
    return found


def test_time_saved_is_the_slope_times_the_layers_skipped():
    found = summary([4] * 10 + [2] * 30)
    assert found.price == pytest.approx((OUTSIDE, A_LAYER))
    assert found.seconds_saved == pytest.approx(2 * 30 * A_LAYER)
    full = 40 * (OUTSIDE + 4 * A_LAYER)
    assert found.time_saved == pytest.approx(2 * 30 * A_LAYER / full)


def test_a_few_slow_steps_do_not_move_the_estimate():
    found = summary([4] * 20 + [3] * 20 + [2] * 20)
    for number in range(5):
        found.add(step(60 + number, 2, extra_seconds=1.0))
    assert found.seconds_saved == pytest.approx(A_LAYER * (20 + 25 * 2))


@pytest.mark.parametrize("depths", [[], [4] * 50, [4] * 50 + [2] * 4])
def test_no_estimate_without_two_depths_seen_often_enough(depths):
    found = summary(depths)
    assert found.price is found.seconds_saved is found.time_saved is None
    assert "time saved" not in found.line()


def test_flops_saved_is_over_the_whole_run():
    assert summary([4, 4]).flops_saved == 0
    assert summary([4, 2]).flops_saved == pytest.approx(1 - 350 / 400)
    assert RunSummary(NUM_LAYERS, None).flops_saved == 0


def test_the_lines_say_it_in_words():
    assert summary([4, 2]).line() == (
        "step 2 of 100 · loss 3.250 nats/token · layers run 2 of 4 · mean keep 0.75"
    )
    assert summary([4, 2]).savings() == (
        "layers left out 25% · FLOPs saved 12%, the ceiling of the time saved"
    )
    assert summary([4] * 10 + [2] * 30).savings().endswith("time saved about 33% (1.2 s)")
    measured = summary([4] * 10 + [2] * 30).savings(measured=0.2)
    assert measured.endswith("time saved 20%, measured beside full depth")
    assert RunSummary(0, None).line() == "No step yet."


def test_the_newest_results_are_kept_until_others_come():
    found = RunSummary(NUM_LAYERS, 100)
    assert found.results() == ""
    found.add(replace(step(0, 4), evaluations={"validation_loss": 2.0, "accuracy": 0.5}))
    found.add(step(1, 4))
    assert found.results() == "validation loss 2.000 · accuracy 50.0%"


def test_memory_saved_is_what_the_layers_left_out_would_have_kept():
    bytes_kept = SavedBytes(blocks=(10,) * 4, outside=60)
    found = RunSummary(NUM_LAYERS, 100, saved_bytes=bytes_kept)
    assert found.memory_saved is None
    for number, depth in enumerate([4, 2]):
        found.add(step(number, depth))
    assert found.memory_saved == pytest.approx(1 - (100 + 80) / 200)
    assert "memory for backward passes saved 10%, on average" in found.savings()
    assert summary([4, 2]).memory_saved is None


def test_memory_is_flat():
    found = summary([4, 2] * 2000)
    assert {len(times) for times in found._seconds_by_depth.values()} == {TIMES_A_DEPTH}
