"""The ledger of a run: one StepRecord a line, and one line for every evaluation after it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..records import FORMAT, StepRecord
from ..storage.checkpoints import CheckpointError
from ..storage.files import write_atomically
from ..storage.lines import encode_line, read_lines

LEDGER = "ledger.jsonl"


def read_ledger(folder: str | Path) -> list[StepRecord]:
    """The steps that a run's folder holds so far, also while it trains.

    Raises:
        CheckpointError: a line of it is damaged; its number is named.
    """
    path = Path(folder) / LEDGER
    records: list[StepRecord] = []
    evaluations: dict[int, dict[str, float]] = {}
    try:
        for values in read_lines(path):
            if "evaluations" in values:
                evaluations[values["step"]] = values["evaluations"]
            else:
                body = {"kind": "StepRecord", "format": FORMAT, **values}
                records.append(StepRecord.from_dict(body))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    for record in records:
        vars(record)["evaluations"] = evaluations.get(record.step, {})
    return records


def leave_out_damaged(path: Path, num_steps: int) -> int:
    """Write a ledger anew, up to a step, with the lines that are whole; returns its bytes.

    The damaged one is kept beside it, as `ledger.jsonl.damaged`.
    """
    lines = read_lines(path, leave_out_damaged=True)
    content = b"".join(encode_line(x) for x in lines if x.get("step", num_steps) < num_steps)
    if path.exists():
        shutil.copyfile(path, path.with_name(f"{path.name}.damaged"))
    write_atomically(path, content)
    return len(content)
