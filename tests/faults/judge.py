"""What a run came to, every digit of it, and where two runs differ first."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sbldlib.records import RunRecord


def found(record: RunRecord, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a run came to, as plain values: every digit of it."""
    return {
        "steps": [step.step for step in record],
        "losses": list(record.losses),
        "norms": [step.gradient_norm for step in record],
        "layers": [list(step.layers_run) for step in record],
        "keep": [list(step.keep_probability) for step in record],
        "evaluations": [dict(step.evaluations) for step in record],
        "controls": [dict(step.controls) for step in record],
        "log": [list(entry) for entry in record.controls_log],
        "outcome": record.outcome,
        "weights": sha256_of(model.state_dict()),
        "optimizer": sha256_of(optimizer.state_dict()),
        "generators": sha256_of([torch.get_rng_state(), random.getstate()]),
        "inexact": [taken["why_not"] for taken in record.resumes if not taken["exact"]],
    }


def sha256_of(tree: Any) -> str:
    """SHA-256 of a tree of plain values and tensors."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in value:
                digest.update(repr(key).encode())
                add(value[key])
        elif isinstance(value, (list, tuple)):
            digest.update(f"{len(value)}".encode())
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(tree)
    return digest.hexdigest()


def difference(
    got: dict[str, Any], expected: dict[str, Any], *, may_lack_steps: bool = False
) -> str | None:
    """What is not as in the undisturbed run, and at which step; None where all of it is.

    Args:
        may_lack_steps: whether the ledger has lost lines, and the rest of the record is compared.
    """
    numbers = got["steps"]
    if not may_lack_steps and numbers != list(range(len(expected["steps"]))):
        return f"{len(numbers)} steps for {len(expected['steps'])}"
    for name in ("losses", "norms", "layers", "keep", "controls", "evaluations"):
        for mine, number in zip(got[name], numbers, strict=True):
            is_lost = may_lack_steps and name == "evaluations" and not mine
            if mine != (theirs := expected[name][number]) and not is_lost:
                return f"{name} at step {number}: {mine} for {theirs}"
    for name in ("log", "weights", "optimizer", "generators", "outcome", "inexact"):
        if got[name] != expected[name]:
            return f"{name}: {got[name]} for {expected[name]}"
    return None


def read(path: str | Path) -> dict[str, Any]:
    """What a run came to, as its process wrote it."""
    return json.loads(Path(path).read_text())
