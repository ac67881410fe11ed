"""The table of a demonstration: one row an arm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..records import RunRecord, StepRecord


def table_rows(runs: dict[str, RunRecord], *, outside_share: float) -> list[dict[str, Any]]:
    """One row an arm, against the first: what was realised, saved, and could be saved at most."""
    baseline = next(iter(runs.values()))
    rows = []
    for arm, run in runs.items():
        not_run = _share_saved(run, baseline, lambda step: len(step.layers_run))
        rows.append(
            {
                "arm": arm,
                **run.final,
                "seconds": run.seconds,
                "layers_not_run": not_run,
                "flops_saved": _share_saved(run, baseline, lambda step: step.flops),
                "time_saved": _share_saved(run, baseline, lambda step: step.seconds),
                "ceiling": (1 - outside_share) * not_run,
            }
        )
    return rows


def _share_saved(
    run: RunRecord, baseline: RunRecord, amount: Callable[[StepRecord], float]
) -> float:
    """The share of the baseline's amount that the run did without."""
    return 1 - sum(map(amount, run)) / sum(map(amount, baseline))
