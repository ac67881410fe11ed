"""The checks of notebook 09's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

T_3_SEEDS = 4.303  # Student's t for 95 % and two degrees of freedom


def check_paired_interval(
    answer: Callable[[Mapping[int, float], Mapping[int, float], float], tuple[float, float]],
) -> None:
    """09, exercise 1: paired_interval(first, second, t), its low and its high end."""
    cases = (
        (
            {0: 4.0, 1: 5.0, 2: 6.0},
            {0: 3.9, 1: 4.9, 2: 5.8},
            "take the differences seed by seed; the levels of the seeds do not matter",
        ),
        ({0: 1.0, 1: 2.0}, {0: 1.5, 1: 2.5}, "equal differences leave an interval of no width"),
        ({0: 1.0, 2: 3.0, 3: 3.0}, {3: 3.2, 0: 1.1, 2: 3.0}, "pair by seed, not by position"),
        (
            {0: 1.0, 1: 2.0, 2: 9.0},
            {0: 1.3, 1: 2.1},
            "a seed that only one arm has makes no pair",
        ),
    )
    for first, second, reason in cases:
        gaps = [first[seed] - second[seed] for seed in first if seed in second]
        mean = sum(gaps) / len(gaps)
        spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1))
        half = T_3_SEEDS * spread / math.sqrt(len(gaps))
        found = answer(first, second, T_3_SEEDS)
        assert found is not ..., "the function still returns ..."
        for name, mine, right in zip(
            ("low", "high"), found, (mean - half, mean + half), strict=True
        ):
            assert math.isclose(mine, right, abs_tol=1e-9), (
                f"first {first}, second {second}, t = {T_3_SEEDS}: {reason}. You give "
                f"{mine:.4f} as the {name} end; it is {right:.4f}"
            )


def check_saved_share(answer: Callable[[float, float, float], float]) -> None:
    """09, exercise 2: saved_share(forward_drop, backward_drop, outside_share) of a step."""
    cases = (
        (0.25, 0.25, 0.0, "what is skipped whole saves its share of the blocks"),
        (0.0, 0.25, 0.0, "backward is two thirds of a block's work"),
        (0.0, 0.3, 0.2, "what lies outside the blocks is paid in full"),
        (0.1, 0.4, 0.1, "forward and backward are saved each by itself"),
        (0.0, 0.0, 0.3, "nothing dropped saves nothing"),
    )
    for forward, backward, outside, reason in cases:
        expected = (1 - outside) * (forward + 2 * backward) / 3
        found = answer(forward, backward, outside)
        assert found is not ..., "the function still returns ..."
        assert math.isclose(found, expected, abs_tol=1e-9), (
            f"forward_drop {forward}, backward_drop {backward}, outside_share {outside}: {reason}. "
            f"You give {found:.4f}; it is {expected:.4f}"
        )


def check_affordable_steps(answer: Callable[[float, float, float, float, float], int]) -> None:
    """09, exercise 3: affordable_steps(budget, full_step, saving, outside_share, owed)."""
    cases = (
        (1000.0, 10.0, 0.0, 0.1, 0.0, "without dropping every step costs a full one"),
        (1000.0, 10.0, 0.25, 0.0, 0.0, "a step costs three quarters of a full one"),
        (1001.0, 10.0, 0.25, 0.2, 0.0, "what lies outside the blocks is not saved"),
        (1000.0, 10.0, 0.25, 0.2, 300.0, "the pre-analysis is paid before the first step"),
        (999.0, 10.0, 0.0, 0.0, 0.0, "a step that does not fit whole is not taken"),
        (1000.0, 10.0, 0.25, 0.2, 1200.0, "where the bill is above the budget, nothing is trained"),
    )
    for budget, full, saving, outside, owed, reason in cases:
        cost = full * (1 - (1 - outside) * saving)
        expected = max(0, math.floor((budget - owed) / cost + 1e-9))
        found = answer(budget, full, saving, outside, owed)
        assert found is not ..., "the function still returns ..."
        assert found == expected, (
            f"budget {budget:g}, full_step {full:g}, saving {saving}, outside_share {outside}, "
            f"owed {owed:g}: {reason}. You give {found} steps; it is {expected}"
        )
