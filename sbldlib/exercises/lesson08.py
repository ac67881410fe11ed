"""The checks of notebook 08's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable


def check_realised_drop(answer: Callable[[list[tuple[int, ...]], int], float]) -> None:
    """08, exercise 1: realised_drop(layers_run, num_layers), the share of layer runs skipped."""
    runs = (
        ([(0, 1, 2, 3)] * 4, 4),
        ([(0, 1), (0, 1, 2, 3)], 4),
        ([(0,), (0, 2), (0, 1, 2)], 3),
        ([()] * 2, 5),
    )
    for layers_run, num_layers in runs:
        expected = 1 - sum(map(len, layers_run)) / (num_layers * len(layers_run))
        found = answer(layers_run, num_layers)
        assert found is not ..., "the function still returns ..."
        assert math.isclose(found, expected, abs_tol=1e-9), (
            f"of {num_layers} layers these ran: {layers_run}. You give {found}, but "
            f"{sum(map(len, layers_run))} of {num_layers * len(layers_run)} layer runs took place"
        )


def check_steps_dropping(answer: Callable[[list[tuple], int], int]) -> None:
    """08, exercise 2: steps_dropping(log, num_steps), where dropping is on at step 0."""
    off, on = ("dropping", True, False), ("dropping", False, True)
    cases = (
        ([], 50, 50, "nothing was changed, so dropping was on all the way"),
        ([(20, *off)], 50, 20, "off from step 20 on leaves the steps 0 to 19"),
        ([(0, *off)], 50, 0, "a change at step 0 is in force at step 0"),
        ([(10, *off), (30, *on)], 50, 30, "on, then off for the steps 10 to 29, then on"),
        (
            [(5, "saving", 0.2, 0.4), (8, "method", "sbld", "pld")],
            9,
            9,
            "other controls also change",
        ),
        ([(10, *off), (30, *on), (40, "stop", False, True)], 40, 20, "the run ends at its stop"),
    )
    for log, num_steps, expected, reason in cases:
        found = answer(log, num_steps)
        assert found is not ..., "the function still returns ..."
        assert found == expected, (
            f"log {log} over {num_steps} steps: you give {found}, it is {expected}: {reason}"
        )


def check_share_with_dropping(answer: Callable[[float, float, float], float]) -> None:
    """08, exercise 3: share_with_dropping(wanted, asked, outside_share)."""
    for wanted, asked, outside in (
        (0.2, 0.4, 0.0),
        (0.18, 0.4, 0.1),
        (0.0, 0.3, 0.2),
        (0.1, 0.25, 0.2),
    ):
        expected, found = wanted / (1 - outside) / asked, answer(wanted, asked, outside)
        assert found is not ..., "the function still returns ..."
        assert math.isclose(found, expected, abs_tol=1e-9), (
            f"with a share {outside} outside the layers, a step at saving {asked} saves "
            f"{(1 - outside) * asked:.3f} of its FLOPs; you drop in a share {found} of the steps, "
            f"which saves {found * (1 - outside) * asked:.3f} over the run, and {wanted} was wanted"
        )


Curve = tuple[list[int], list[float], float]  # steps of the evaluations, losses, FLOPs a step


def check_gap_at_equal_flops(answer: Callable[[Curve, Curve], float]) -> None:
    """08, exercise 4: gap_at_equal_flops(first, second), at what the thriftier run has spent."""
    full: Curve = ([100, 200, 300], [4.0, 3.0, 2.5], 1.0)
    cases: tuple[tuple[Curve, Curve, float, str], ...] = (
        (full, full, 0.0, "a run is level with itself"),
        (([100, 200, 300], [4.0, 3.2, 2.8], 1.0), full, 0.3, "both have spent 300 at the end"),
        (
            ([100, 200, 300], [4.0, 3.2, 2.8], 0.5),
            full,
            2.8 - 3.5,
            "the first has spent 150 at its end, where the second lies between 4.0 and 3.0",
        ),
        (
            ([50, 100], [5.0, 4.0], 3.0),
            ([100, 400], [4.5, 1.5], 0.5),
            (5.0 - 1 / 3) - 1.5,
            "the second has spent 200 at its end, a third of the way between the first's points",
        ),
    )
    for first, second, expected, reason in cases:
        found = answer(first, second)
        assert found is not ..., "the function still returns ..."
        assert math.isclose(found, expected, abs_tol=1e-9), (
            f"first {first}, second {second}: you give {found}, it is {expected:.4g}: {reason}"
        )
