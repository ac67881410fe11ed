"""The whole method once through, on a small GPT: what `sbld demo` and the first notebook show."""

from __future__ import annotations

from .record import DemoConfig, DemoRecord
from .run import ARMS, Demo, PreAnalysis, run_demo, scheduler_from
from .table import table_rows

__all__ = [
    "ARMS",
    "Demo",
    "DemoConfig",
    "DemoRecord",
    "PreAnalysis",
    "run_demo",
    "scheduler_from",
    "table_rows",
]
