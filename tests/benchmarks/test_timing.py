"""The timing helper: statistics worked out by hand, and who is called when."""

from __future__ import annotations

import gc

import pytest

from benchmarks.timing import differences, interleave, ratios, spread


class Clock:
    """A clock that moves when an arm says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_spread_of_nine_rounds_in_any_order() -> None:
    found = spread([9, 2, 7, 4, 5, 6, 3, 8, 1])
    assert found.median == 5
    assert found.p10 == pytest.approx(1.8)  # rank 0.1 * 8 = 0.8 above the first
    assert found.p90 == pytest.approx(8.2)
    # Sign test: at most one of nine on one side has probability 2 * 10 / 512 < 0.05; two, 0.18.
    assert (found.low, found.high) == (2, 8)


@pytest.mark.parametrize(
    ("num", "left_out"),
    [(1, 0), (2, 0), (5, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (20, 5), (25, 7)],
)
def test_interval_of_the_median_leaves_out_what_the_tables_of_the_sign_test_say(
    num: int, left_out: int
) -> None:
    found = spread(range(num))
    assert (found.low, found.high) == (left_out, num - 1 - left_out)


def test_spread_of_an_even_number_of_rounds_and_of_none() -> None:
    assert spread([1.0, 2.0, 4.0, 8.0]).median == 3.0
    with pytest.raises(ValueError, match=r"values=\[\] holds no round"):
        spread([])


def test_ratios_and_differences_are_taken_within_a_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    assert differences([2.0, 9.0], [1.0, 3.0]) == [1.0, 6.0]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_each_arm_is_timed_once_a_round_and_warm_up_is_not_counted() -> None:
    clock, calls = Clock(), []

    def arm(name: str, seconds: float):
        def call() -> None:
            calls.append(name)
            clock.now += seconds * len(calls)

        return call

    found = interleave({"a": arm("a", 1), "b": arm("b", 1)}, rounds=4, warmup=3, clock=clock)
    assert [set(calls[i : i + 2]) for i in range(0, len(calls), 2)] == [{"a", "b"}] * 7
    counted = calls[6:]
    assert found["a"] == [7 + i for i, name in enumerate(counted) if name == "a"]
    assert found["b"] == [7 + i for i, name in enumerate(counted) if name == "b"]


def test_the_order_changes_from_round_to_round_and_is_the_same_in_every_run() -> None:
    def order_of_calls() -> list[str]:
        calls: list[str] = []
        arms = {name: (lambda name=name: calls.append(name)) for name in "abcd"}
        interleave(arms, rounds=12, warmup=0)
        return calls

    calls = order_of_calls()
    rounds = {tuple(calls[i : i + 4]) for i in range(0, len(calls), 4)}
    assert len(rounds) > 6
    assert calls == order_of_calls()


def test_a_round_is_the_mean_of_its_repeats() -> None:
    clock = Clock()
    costs = iter([1.0, 2.0, 6.0])

    def call() -> None:
        clock.now += next(costs)

    assert interleave({"a": call}, rounds=1, warmup=0, repeats=3, clock=clock) == {"a": [3.0]}


def test_the_device_is_waited_for_before_each_look_at_the_clock() -> None:
    events: list[str] = []

    def clock() -> float:
        events.append("clock")
        return 0.0

    interleave(
        {"a": lambda: events.append("call")},
        rounds=1,
        warmup=0,
        clock=clock,
        wait=lambda: events.append("wait"),
    )
    assert events == ["wait", "clock", "call", "wait", "clock"]


def test_arms_with_a_clock_of_their_own_are_believed() -> None:
    values = iter([9.0, 0.25, 0.5])
    arm = {"a": lambda: {"half": [next(values)], "two": [1.0, 2.0]}}
    found = interleave(arm, rounds=2, warmup=1, own_clock=True)
    assert found == {"half": [0.25, 0.5], "two": [1.0, 2.0, 1.0, 2.0]}


def test_the_garbage_collector_is_left_as_it_was() -> None:
    frozen = gc.get_freeze_count()

    def fail() -> None:
        assert gc.get_freeze_count() > frozen
        raise RuntimeError("an arm that fails")

    with pytest.raises(RuntimeError, match="an arm that fails"):
        interleave({"a": fail}, rounds=1)
    assert gc.get_freeze_count() == frozen
