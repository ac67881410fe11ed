"""Methods held against each other: budgets matched, seeds in pairs, controls beside them.

METHOD section 7 says what counts as evidence; here it is code. `compare` trains every arm of every
table and keeps one JSON a run, `summarise` makes the tables with paired intervals.
"""

from __future__ import annotations

from .arms import ARMS, Arm
from .engine import compare
from .presets import COMPARISONS
from .runs import ComparedRun, load_runs
from .settings import BUDGETS, Comparison, Table
from .subject import Subject
from .summary import ComparisonSummary, summarise

__all__ = [
    "ARMS",
    "BUDGETS",
    "COMPARISONS",
    "Arm",
    "ComparedRun",
    "Comparison",
    "ComparisonSummary",
    "Subject",
    "Table",
    "compare",
    "load_runs",
    "summarise",
]
