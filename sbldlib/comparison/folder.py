"""A comparison's folder: one comparison's files, of one version and machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..environment import environment
from ..training.launch import TAKEN
from .analysis import Analysis
from .runs import ComparedRun, load_runs
from .settings import Comparison
from .summary import MixedRunsError, check_environment


def prepare_folder(
    folder: Path, comparison: Comparison, subject_key: str, needs_pilots: bool
) -> None:
    """Refuse a folder of other settings, versions or machines, before anything is trained.

    Raises:
        MixedRunsError: the first field that differs is named.
    """
    for left_by_a_killed_call in folder.glob(f"{TAKEN}*"):
        left_by_a_killed_call.unlink()
    for run in load_runs(folder):
        _check_run(run, comparison, subject_key)
    for path in folder.glob("analysis-seed*.json"):
        kept = Analysis.load(path)
        for field, value in _plain(comparison.shared()).items():
            if value != kept.shared.get(field):
                raise MixedRunsError(
                    f"{field}={value!r} is asked, {path.name} was made with "
                    f"{kept.shared.get(field)!r}: use another folder"
                )
        if needs_pilots and kept.pilot is None:
            path.unlink()  # made for fewer arms: measured again, to the same values


def _check_run(run: ComparedRun, comparison: Comparison, subject_key: str) -> None:
    mine = {"comparison": comparison.name, "subject": subject_key, **comparison.shared()}
    theirs = {"comparison": run.comparison, "subject": run.subject, **run.shared}
    for field, value in _plain(mine).items():
        if value != theirs.get(field):
            raise MixedRunsError(
                f"{field}={value!r} is asked, the runs in this folder have "
                f"{theirs.get(field)!r}: use another folder"
            )
    arms = {arm.name: asdict(arm) for table in comparison.tables for arm in table.arms}
    if arms.get(run.name, run.arm) != run.arm:
        raise MixedRunsError(
            f"arm={arms[run.name]} is asked, the run in this folder has {run.arm}: give it "
            "another name, or use another folder"
        )
    check_environment(environment(), run.environment, "the runs in this folder")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives them back."""
    return {
        name: tuple(value) if isinstance(value, (list, tuple)) else value
        for name, value in values.items()
    }
