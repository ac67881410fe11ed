"""What the notebooks share: the tier they run at, where their artefacts land, kind checks.

A tier bounds the work: `smoke` is what tests run, `cpu` the default at a desk, `gpu` the long one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from .comparison import ComparisonSummary
from .environment import environment
from .errors import unknown_name
from .storage.files import write_atomically

TIERS = ("smoke", "cpu", "gpu")
T = TypeVar("T")


def tier() -> str:
    """The tier in force: $SBLD_TIER, or "cpu".

    Raises:
        ValueError: SBLD_TIER is not a tier, or is gpu where no CUDA device is found.
    """
    asked = os.environ.get("SBLD_TIER", "cpu")
    if asked not in TIERS:
        raise unknown_name("SBLD_TIER", asked, TIERS)
    if asked == "gpu" and not torch.cuda.is_available():
        raise ValueError("SBLD_TIER='gpu', but torch finds no CUDA device; use 'cpu'")
    return asked


def by_tier(*, smoke: T, cpu: T, gpu: T | None = None) -> T:
    """The value for the tier in force; gpu takes cpu's where none is given."""
    values = {"smoke": smoke, "cpu": cpu, "gpu": cpu if gpu is None else gpu}
    return values[tier()]


def report() -> None:
    """Print what this notebook runs on."""
    found = environment()
    versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    print(f"tier {tier()} · {found['device']} · {found['processor_cores']} cores, ", end="")
    print(f"{found['torch_threads']} torch threads · Python {found['python']}")
    print(versions)


def artefact_path(name: str) -> Path:
    """Where an artefact of this name lies: data/runs of the checkout, or of the current folder."""
    return data_folder() / "runs" / tier() / name


def run_folder(name: str) -> Path:
    """Where a lesson keeps a run that goes on when its cell runs again; a folder for each name."""
    return artefact_path(name)


def data_folder() -> Path:
    """The kit's data folder: $SBLD_DATA, the checkout's, or one in the current folder."""
    if "SBLD_DATA" in os.environ:
        return Path(os.environ["SBLD_DATA"])
    return (checkout() or Path.cwd()) / "data"


def checkout() -> Path | None:
    """The kit's repository, where the current folder lies in one."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").exists() and (folder / "sbldlib").is_dir():
            return folder
    return None


def load_comparisons(*needed: str, folder: Path | None = None) -> dict[str, ComparisonSummary]:
    """The comparisons that the repository holds, by name.

    Args:
        needed: names that must be among them.
        folder: of their files; None is the checkout's benchmarks/results.

    Raises:
        FileNotFoundError: there is no checkout, or one that is needed is not there yet.
    """
    root = checkout()
    if folder is None and root is None:
        raise FileNotFoundError(
            "no benchmarks/results here: the measured comparisons lie in the repository; "
            "open this notebook in a clone of it"
        )
    folder = folder or Path(root or "") / "benchmarks" / "results"
    paths = {path.stem.partition("-")[2]: path for path in folder.glob("comparison-*.json")}
    for name in needed:
        if name not in paths:
            raise FileNotFoundError(
                f"comparison-{name}.json is not in {folder}: "
                f"`python -m benchmarks.comparisons {name}` makes it"
            )
    return {name: ComparisonSummary.load(path) for name, path in sorted(paths.items())}


def save_artefact(name: str, content: dict[str, Any]) -> Path:
    """Write what a notebook leaves for the ones after it, as JSON."""
    return write_atomically(artefact_path(name), json.dumps(content, indent=1).encode())


def load_artefact(name: str, *, made_by: str) -> dict[str, Any]:
    """Read what an earlier notebook left, or say which notebook makes it."""
    path = artefact_path(name)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there yet: run notebook {made_by} first")
    return json.loads(path.read_text())


def attempt(check: Callable[[Any], None], answer: Any) -> None:
    """Run an exercise's check on an answer and print what it found.

    Args:
        check: raises AssertionError with a sentence that names what is wrong.
        answer: the reader's function or value; `...` is an exercise not begun.
    """
    try:
        check(answer)
    except Exception as error:  # whatever the reader's code raises is a finding, not a crash
        print(f"Not yet. {type(error).__name__}: {error}")
    else:
        print("Right.")
