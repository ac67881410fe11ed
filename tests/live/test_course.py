from __future__ import annotations

import numpy as np
import pytest

from sbldlib.live.course import WINDOW, Course
from sbldlib.live.standing import standing, time_saved
from sbldlib.records import StepRecord


def course(losses, *, flops: float = 1e12, seconds: float = 1.0, evaluated=()) -> Course:
    """A run of steps that cost as much each; `evaluated`: step -> validation loss."""
    found, results = Course(), dict(evaluated)
    for number, loss in enumerate(losses):
        found.add(
            StepRecord(
                step=number, progress=0.0, loss_nats=loss, learning_rate=0.1, gradient_norm=1.0,
                seconds=seconds, tokens=8, flops=flops, flops_full=flops,
                evaluations={"validation_loss": results[number]} if number in results else {},
            )
        )  # fmt: skip
    return found


def test_what_was_spent_is_summed_and_arrays_grow():
    found = course(np.arange(500.0), flops=3.0, seconds=0.5)
    assert len(found) == 500
    assert [found.spent(name) for name in ("steps", "flops", "seconds")] == [500, 1500, 250]
    assert found.spent("flops", 100) == 300 and found.spent("flops", 0) == 0


def test_the_mean_loss_is_of_the_last_steps_before_that_point():
    found = course(np.arange(100.0))
    assert found.mean_loss("steps", 100) == pytest.approx(np.arange(80, 100).mean())
    assert found.mean_loss("steps", 50) == pytest.approx(np.arange(50 - WINDOW, 50).mean())
    assert found.mean_loss("steps", 5) == pytest.approx(np.arange(5).mean())
    assert found.mean_loss("steps", 0.5) == 0.0  # in the middle of the first step


def test_at_equal_steps_and_at_equal_seconds_another_arm_may_be_ahead():
    cheap = course([0.0] * 40, seconds=0.5, evaluated={9: 3.0, 19: 2.0, 39: 1.0})
    dear = course([0.0] * 20, seconds=1.0, evaluated={9: 2.4, 19: 1.9})
    by_steps = standing([cheap, dear], measure="validation_loss")
    assert (by_steps.spent, by_steps.losses) == (20, (2.0, 1.9))
    assert by_steps.gap == pytest.approx(0.1)
    by_seconds = standing([cheap, dear], against="seconds", measure="validation_loss")
    assert (by_seconds.spent, by_seconds.losses) == (20.0, (1.0, 1.9))
    assert by_seconds.line(["mine", "full depth"]) == (
        "at 20.0 s each, loss on new text, all layers on: mine 1.000, full depth 1.900: "
        "mine ahead by 0.900"
    )


def test_between_two_evaluations_it_is_read_in_a_straight_line():
    first = course([0.0] * 20, flops=2e12, evaluated={9: 4.0, 19: 2.0})
    second = course([0.0] * 30, evaluated={29: 5.0})
    found = standing([first, second], against="flops", measure="validation_loss")
    assert found.spent == 30e12 and found.losses == pytest.approx((3.0, 5.0))
    assert "at 30 TFLOPs each" in found.line(["a", "b"])


def test_without_evaluations_it_is_the_training_loss_and_says_so():
    found = standing([course([3.0] * 5), course([2.0] * 5)], measure="validation_loss")
    assert (found.measure, found.losses) == ("", (3.0, 2.0))
    assert "in training, of the layers that ran" in found.line(["a", "b"])
    assert standing([course([3.0]), course([3.0])]).line(["a", "b"]).endswith("level")
    assert standing([Course(), course([2.0])]) is None


def test_time_saved_is_measured_over_the_steps_of_both():
    assert time_saved([course([0.0] * 9, seconds=0.8), course([0.0] * 8)]) == pytest.approx(0.2)
    assert time_saved([Course(), course([0.0])]) is None


def test_an_unknown_axis_is_named():
    with pytest.raises(ValueError, match="against='flosp'"):
        standing([course([1.0]), course([1.0])], against="flosp")
