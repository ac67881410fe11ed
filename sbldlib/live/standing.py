"""Who is ahead in a race, at equal steps, FLOPs or seconds, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import check_choice
from .course import SPENT, Course

AMOUNTS: dict[str, Callable[[float], str]] = {
    "steps": lambda spent: f"{spent:.0f} steps",
    "flops": lambda spent: f"{spent / 1e12:.3g} TFLOPs",
    "seconds": lambda spent: f"{spent:.1f} s",
}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Two arms after they have spent as much.

    Attributes:
        against: "steps", "flops" or "seconds", of training alone.
        spent: of it, by each arm.
        losses: nats per token, one an arm.
        measure: the evaluation's name, or "" where these are training losses, each at the depth
            that ran: what is dropped makes them higher, whatever the whole model has learnt.
    """

    against: str
    spent: float
    losses: tuple[float, float]
    measure: str

    @property
    def gap(self) -> float:
        """Loss of the first arm minus the second's; below 0 the first is ahead."""
        return self.losses[0] - self.losses[1]

    def line(self, names: Sequence[str]) -> str:
        """In words."""
        amount = AMOUNTS[self.against](self.spent)
        of = "on new text, all layers on" if self.measure else "in training, of the layers that ran"
        first, second = (
            f"{name} {loss:.3f}" for name, loss in zip(names, self.losses, strict=True)
        )
        said = f"at {amount} each, loss {of}: {first}, {second}"
        if f"{self.gap:.3f}" in ("0.000", "-0.000"):
            return f"{said}: level"
        return f"{said}: {names[self.gap > 0]} ahead by {abs(self.gap):.3f}"


def standing(
    arms: Sequence[Course], *, against: str = "steps", measure: str = ""
) -> Standing | None:
    """How two arms stand where both have spent as much as the one that has spent less.

    Args:
        arms: two of them.
        against: "steps", "flops" or "seconds".
        measure: name of an evaluation to go by, read in a straight line between two of them; where
            none is named, or an arm has none of it yet, the mean training loss of 20 steps.

    Returns:
        None where an arm has no step yet.
    """
    check_choice("against", against, SPENT)
    first, second = arms
    if not len(first) or not len(second):
        return None
    curves = [arm.evaluated(against, measure) for arm in arms]
    is_evaluated = all(len(curve[0]) for curve in curves)
    if is_evaluated:
        spent = float(min(curve[0][-1] for curve in curves))
        losses = [float(np.interp(spent, *curve)) for curve in curves]
    else:
        spent = min(arm.spent(against) for arm in arms)
        losses = [arm.mean_loss(against, spent) for arm in arms]
    return Standing(
        against=against,
        spent=spent,
        losses=(losses[0], losses[1]),
        measure=measure if is_evaluated else "",
    )


def time_saved(arms: Sequence[Course]) -> float | None:
    """Share of the second arm's seconds that the first did not take, over the steps of both.

    None where there is none of both yet.
    """
    num_steps = min(map(len, arms))
    first, second = (arm.spent("seconds", num_steps) for arm in arms)
    return 1 - first / second if second else None
