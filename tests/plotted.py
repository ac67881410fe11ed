"""A comparison's summary with known numbers, for the figures and panels that show one."""

from __future__ import annotations

from collections.abc import Mapping

from sbldlib.comparison import ARMS, ComparedRun, ComparisonSummary, summarise

# budget -> arm -> loss of seeds 0, 1, 2; the seeds' own levels differ far more than the arms.
LOSSES: dict[str, dict[str, tuple[float, ...]]] = {
    "steps": {
        "full depth": (4.0, 5.0, 6.0),
        "shallower": (4.1, 4.9, 6.02),
        "uniform": (4.30, 5.31, 6.29),
        "sbld": (3.90, 4.91, 5.88),
    },
    "flops": {
        "full depth": (4.2, 5.2, 6.2),
        "shallower": (4.0, 5.0, 6.1),
        "sbld": (4.05, 5.15, 6.0),
        "sbld, PWEGD": (),  # its pre-analysis alone is more than the budget
    },
}


def made_run(
    budget: str, arm: str, seed: int, loss: float | None, name: str | None = None
) -> ComparedRun:
    results = {} if loss is None else {"validation_loss": loss, "accuracy": 1 - loss / 10}
    return ComparedRun(
        comparison="made", shared={"steps": 10}, subject="made",
        arm={**vars(ARMS[arm]), "name": name or arm},
        budget=budget, seed=seed, amount=10.0, owed=0.0, paid=0.0, environment={}, method={},
        num_layers=8, num_steps=10 if results else 0, results=results,
    )  # fmt: skip


def made_summary(num_seeds: int = 3, names: Mapping[str, str] | None = None) -> ComparisonSummary:
    """Two tables: sbld lower, uniform higher and shallower unresolved at equal steps.

    Args:
        names: other names for some of the arms.
    """
    called = {arm: arm for arms in LOSSES.values() for arm in arms} | dict(names or {})
    return summarise(
        made_run(budget, arm, seed, losses[seed] if losses else None, called[arm])
        for budget, arms in LOSSES.items()
        for arm, losses in arms.items()
        for seed in range(num_seeds)
    )
