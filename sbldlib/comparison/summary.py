"""Runs to tables: paired differences with intervals, and "unresolved" where they hold zero."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import unknown_name
from ..records import Record
from .runs import ComparedRun
from .settings import BUDGETS

CONFIDENCE = 0.95
UNRESOLVED = "unresolved"
CONTROLS = ("full depth", "shallower", "half depth", "pruned")
NOT_COMPARED = ("date",)  # of an environment
# Asked of every table that holds both arms: is the first arm's loss lower than the second's?
QUESTIONS: dict[str, tuple[str, str]] = {
    "Does the measured order beat a shuffled one?": ("sbld", "sbld, shuffled"),
    "Does the measured order beat a shuffled one, at the front?": (
        "sbld, front",
        "sbld, front, shuffled",
    ),
    "Does the measured order beat the inverted one?": ("sbld", "sbld, inverted"),
    "Does the PWEGD schedule beat a constant?": ("sbld, PWEGD", "sbld"),
    "Does the PWEGD schedule beat its inverse?": ("sbld, PWEGD", "sbld, PWEGD inverse"),
    "Does dropping ever less beat dropping ever more?": ("sbld, falling", "sbld, rising"),
    "Does SBLD beat uniform dropping?": ("sbld", "uniform"),
}
for _arm, _words in (
    ("sbld", "SBLD"),
    ("sbld, front", "SBLD at the front"),
    ("sbld, analysis free", "SBLD, its pre-analysis free,"),
    ("sbld, front, analysis free", "SBLD at the front, its pre-analysis free,"),
):
    for _control, _its_words in (
        ("full depth", "full depth"),
        ("shallower", "the shallower model"),
        ("half depth", "half the depth"),
        ("pruned", "the pruned model"),
    ):
        QUESTIONS[f"Does {_words} beat {_its_words}?"] = (_arm, _control)


class MixedRunsError(ValueError):
    """Runs that differ in more than the arm, or come from another version or machine."""


@dataclass(frozen=True, kw_only=True)
class Difference(Record):
    """One arm's result less another's, seed by seed.

    Attributes:
        values: one a seed that both have.
        mean: of them; None without a value.
        low, high: 95 % interval of the mean, Student's t; None with fewer than two seeds.
    """

    values: tuple[float, ...]
    mean: float | None
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """ "lower", "higher", or "unresolved" where the interval holds zero or there is none."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return UNRESOLVED
        return "lower" if self.high < 0 else "higher"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, with the verdict."""
        return {**super().to_dict(), "verdict": self.verdict}


@dataclass(frozen=True, kw_only=True)
class ComparisonSummary(Record):
    """What a comparison found.

    Attributes:
        name: of the comparison.
        shared: what all runs have in common.
        seeds: the pairs.
        environment: of all runs.
        prices: seconds of the parts of a step, as plain values.
        tables: one a budget: its reference arm and one row an arm.
        answers: the questions that these tables can answer, each with its difference.
        runs: every run in short.
        missing: runs that are not there yet, by file name.
    """

    name: str
    shared: dict[str, Any]
    seeds: tuple[int, ...]
    environment: dict[str, Any]
    prices: dict[str, Any]
    tables: tuple[dict[str, Any], ...]
    answers: tuple[dict[str, Any], ...]
    runs: tuple[dict[str, Any], ...]
    missing: tuple[str, ...] = ()

    def table(self, budget: str) -> dict[str, Any]:
        """The table of a budget."""
        for table in self.tables:
            if table["budget"] == budget:
                return table
        held = tuple(table["budget"] for table in self.tables)
        raise ValueError(f"budget={budget!r} has no table here; there are {held}")

    def difference(
        self, budget: str, first: str, second: str, *, metric: str = "validation_loss"
    ) -> Difference:
        """One arm's result less another's at this budget, seed by seed."""
        found: dict[str, dict[int, float]] = {first: {}, second: {}}
        for run in self.runs:
            if run["budget"] == budget and run["arm"] in found and metric in run["results"]:
                found[run["arm"]][run["seed"]] = run["results"][metric]
        for arm, values in found.items():
            if not values:
                known = {run["arm"] for run in self.runs if run["budget"] == budget}
                raise unknown_name("arm", arm, known)
        return paired_difference(found[first], found[second])


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """First less second over the seeds that both have, with Student's t interval."""
    values = tuple(first[seed] - second[seed] for seed in sorted(first.keys() & second.keys()))
    if not values:
        return Difference(values=(), mean=None, low=None, high=None)
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Difference(values=values, mean=mean, low=None, high=None)
    from scipy.stats import t  # only here: training needs no scipy

    half = t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * statistics.stdev(values)
    half = float(half) / math.sqrt(len(values))
    return Difference(values=values, mean=mean, low=mean - half, high=mean + half)


def summarise(
    runs: Iterable[ComparedRun],
    *,
    prices: Mapping[str, Any] | None = None,
    missing: Sequence[str] = (),
) -> ComparisonSummary:
    """The tables, the answers and every run in short.

    Raises:
        MixedRunsError: runs that differ in anything but arm, budget and seed (the field is named),
            or whose versions or machines differ; nothing is averaged then.
        ValueError: no run at all.
    """
    runs = list(runs)
    if not runs:
        raise ValueError("runs=[] holds nothing to summarise")
    check_comparable(runs)
    budgets = [budget for budget in BUDGETS if any(run.budget == budget for run in runs)]
    groups = {budget: _by_arm(run for run in runs if run.budget == budget) for budget in budgets}
    return ComparisonSummary(
        name=runs[0].comparison,
        shared=runs[0].shared,
        seeds=tuple(sorted({run.seed for run in runs})),
        environment=runs[0].environment,
        prices=dict(prices or {}),
        tables=tuple(_table(budget, arms) for budget, arms in groups.items()),
        answers=tuple(
            answer for budget, arms in groups.items() for answer in _answers(budget, arms)
        ),
        runs=tuple(_in_short(run) for run in runs),
        missing=tuple(missing),
    )


def check_comparable(runs: Sequence[ComparedRun]) -> None:
    """Raise MixedRunsError, naming the field, where runs differ in more than their arm."""
    first = runs[0]
    for run in runs[1:]:
        for field in ("comparison", "subject"):
            _same(field, getattr(first, field), getattr(run, field), run)
        for field in sorted(first.shared.keys() | run.shared.keys()):
            _same(field, first.shared.get(field), run.shared.get(field), run)
        check_environment(first.environment, run.environment, f"{run.name!r}, seed {run.seed}")


def check_environment(known: Mapping[str, Any], other: Mapping[str, Any], who: str) -> None:
    """Raise MixedRunsError where versions or machines differ."""
    for field in sorted(known.keys() | other.keys() - set(NOT_COMPARED)):
        if field not in NOT_COMPARED and known.get(field) != other.get(field):
            raise MixedRunsError(
                f"{field}={other.get(field)!r} of {who} is not the {known.get(field)!r} of the "
                "other runs: results of different versions or machines are not averaged; use "
                "another folder"
            )


def _same(field: str, known: Any, found: Any, run: ComparedRun) -> None:
    if known != found:
        raise MixedRunsError(
            f"{field}={found!r} of {run.name!r}, seed {run.seed}, is not the {known!r} of the "
            "other runs: arms may differ in their method alone"
        )


def _by_arm(runs: Iterable[ComparedRun]) -> dict[str, dict[int, ComparedRun]]:
    arms: dict[str, dict[int, ComparedRun]] = {}
    for run in runs:
        seeds = arms.setdefault(run.name, {})
        if run.seed in seeds and run.arm != seeds[run.seed].arm:
            raise MixedRunsError(f"arm {run.name!r}, seed {run.seed}, is there with other settings")
        seeds[run.seed] = run
    return arms


def _results(arm: Mapping[int, ComparedRun], metric: str) -> dict[int, float]:
    return {seed: run.results[metric] for seed, run in arm.items() if metric in run.results}


def _table(budget: str, arms: dict[str, dict[int, ComparedRun]]) -> dict[str, Any]:
    names = _in_order(arms)
    reference = names[0]
    runs = [run for arm in arms.values() for run in arm.values()]
    metrics = sorted({metric for run in runs for metric in run.results})
    rows = [_row(name, arms[name], arms[reference], metrics) for name in names]
    amount = statistics.fmean(run.amount for run in arms[reference].values())
    return {"budget": budget, "amount": amount, "reference": reference, "rows": tuple(rows)}


def _in_order(arms: Mapping[str, Any]) -> list[str]:
    """Full depth first, then the other control, then the methods as they came."""
    controls = [name for name in CONTROLS if name in arms]
    return [*controls, *(name for name in arms if name not in controls)]


def _row(
    name: str,
    arm: dict[int, ComparedRun],
    reference: dict[int, ComparedRun],
    metrics: Sequence[str],
) -> dict[str, Any]:
    runs = list(arm.values())
    row: dict[str, Any] = {"arm": name, "num_seeds": len(runs)}
    for field in (
        "num_layers",
        "num_steps",
        "realised_drop",
        "realised_backward_drop",
        "flops",
        "saved_flops",
        "owed",
        "paid",
        "priced_seconds",
        "seconds",
    ):
        row[field] = statistics.fmean(getattr(run, field) for run in runs)
    for metric in metrics:
        values = _results(arm, metric)
        if values:
            row[metric] = statistics.fmean(values.values())
            against = paired_difference(values, _results(reference, metric))
            row[f"{metric}_difference"] = against.to_dict()
    return row


def _answers(budget: str, arms: dict[str, dict[int, ComparedRun]]) -> list[dict[str, Any]]:
    found = []
    for question, (first, second) in QUESTIONS.items():
        if first in arms and second in arms:
            gap = paired_difference(
                _results(arms[first], "validation_loss"), _results(arms[second], "validation_loss")
            )
            if gap.values:
                answer = {"lower": "yes", "higher": "no"}.get(gap.verdict, UNRESOLVED)
                found.append(
                    {
                        "question": question,
                        "budget": budget,
                        "first": first,
                        "second": second,
                        "difference": gap.to_dict(),
                        "answer": answer,
                    }
                )
    return found


def _in_short(run: ComparedRun) -> dict[str, Any]:
    kept = ("budget", "seed", "num_layers", "num_steps", "results", "realised_drop")
    kept += ("realised_backward_drop", "amount", "owed", "paid", "flops", "saved_flops")
    kept += ("priced_seconds", "seconds", "wall_seconds", "layer_runs")
    return {"arm": run.name, **{field: getattr(run, field) for field in kept}}
