"""One folder a run: settings, ledger, changes, checkpoints, record; nothing outside it is written.

settings.json    what decides the run; another run is refused here
ledger.jsonl     one StepRecord a line, and one line for every evaluation after it
controls.jsonl   one change of a control a line, before the step that it holds for
checkpoints/     one folder each
run.json         the RunRecord, when the run ends
analysis/        what others measured before it; figures/, what they drew after it
.lock            who writes here
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..environment import environment
from ..records import RunRecord, StepRecord
from ..storage.checkpoints import CheckpointError, remove_checkpoint, rescue
from ..storage.files import GONE, PART, remove_path, write_atomically
from ..storage.lines import Lines, encode_line, read_lines, starts_with
from ..storage.lock import FolderLock
from ..storage.settings import first_difference, read_signed, write_signed
from .checkpoints import CHECKPOINTS, CheckpointConfig, CheckpointStore
from .controls import LogEntry
from .ledger import LEDGER, leave_out_damaged, read_ledger

SETTINGS, CONTROLS, RECORD = "settings.json", "controls.jsonl", "run.json"
_OURS = (SETTINGS, LEDGER, CONTROLS, RECORD)
ANALYSIS, FIGURES = "analysis", "figures"


class RunMismatchError(ValueError):
    """The folder holds a run of other settings."""


class RunFolder:
    """A run's files, for the one process that holds the folder's lock.

    Attributes:
        path: of the folder.
        checkpoints: its store.
        environment: versions and machine of where the run began.
    """

    def __init__(self, path: str | Path, config: CheckpointConfig):
        """
        Raises:
            RunBusyError: another process writes here.
            ValueError: it is a file, or a folder of other things.
        """
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"folder={str(path)!r} is a file; name a folder for the run")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.path).acquire()
        try:
            self._check_is_ours()
            self._remove_parts()
        except BaseException:
            self._lock.release()
            raise
        self.checkpoints = CheckpointStore(self.path / CHECKPOINTS, config)
        self._ledger: Lines | None = None
        self._controls: Lines | None = None
        self._logged: set[str] = set()
        self.environment: dict[str, Any] = {}

    @property
    def is_new(self) -> bool:
        """Whether no run was begun here."""
        return not (self.path / SETTINGS).exists()

    def begin(self, settings: dict[str, Any], *, start: str, any_start: bool = False) -> None:
        """Hold a run against the one that is there; write down what it is where there is none.

        Args:
            start: digest of the starting weights.
            any_start: whether a run of other starting weights is meant too, or one of which
                nothing is known any more.

        Raises:
            RunMismatchError: another run is there; the first field that differs is named.
            CheckpointError: what is written there of it is damaged.
        """
        asked = {**settings, "start_sha256": start}
        body = self._settings(any_start)
        if body is None:
            self.environment = environment()
            body = {"run": asked, "environment": self.environment}
            with _writing(self.path / SETTINGS):
                write_signed(self.path / SETTINGS, body)
            return
        self.environment, before = body["environment"], body["run"]
        if any_start:
            asked["start_sha256"] = before["start_sha256"]
        if (differing := first_difference(before, asked)) is not None:
            field, there, here = differing
            raise RunMismatchError(
                f"{field}={here} is asked for, the run in {str(self.path)!r} has {there}: give "
                "another folder, or resume='never' to remove that run and begin anew"
            )

    def take_up(
        self, position: dict[str, Any], log: list[LogEntry], *, replay: bool, mend: bool = False
    ) -> list[LogEntry]:
        """Go back to where a checkpoint was saved.

        Args:
            position: as the checkpoint holds it.
            log: the changes of controls that it holds.
            replay: whether changes that came after it are to be made again.
            mend: whether lines of the ledger that are damaged may be left out.

        Returns:
            Those changes.

        Raises:
            CheckpointError: the ledger's lines up to there, or the changes after it, are not what
                was written.
        """
        ledger, num_bytes = self.path / LEDGER, position["num_bytes"]
        is_whole = self.holds(position)
        if not (is_whole or mend):
            raise CheckpointError(
                f"{ledger} is damaged: its first {num_bytes} bytes are not what was written"
            )
        later = self._later_changes(position, log) if replay else []
        lines = [encode_line(_entry_line(entry)) for entry in (*log, *later)]
        with _writing(self.path / CONTROLS):
            write_atomically(self.path / CONTROLS, b"".join(lines))
        self._logged = {json.dumps(entry) for entry in (*log, *later)}
        if not is_whole:
            with _writing(ledger):
                num_bytes = leave_out_damaged(ledger, position["steps"])
        self._ledger = _open_lines(ledger, keep=num_bytes)
        self._controls = _open_lines(self.path / CONTROLS)
        (self.path / RECORD).unlink(missing_ok=True)
        return later

    def holds(self, position: dict[str, Any]) -> bool:
        """Whether the ledger's lines up to a checkpoint's position are what was written."""
        known = {"num_bytes": position["num_bytes"], "sha256": position["sha256"]}
        return starts_with(self.path / LEDGER, **known)

    def open(self) -> None:
        """Open ledger and control log for a run from its beginning."""
        self._ledger = _open_lines(self.path / LEDGER, keep=0)
        self._controls = _open_lines(self.path / CONTROLS, keep=0)

    def add_step(self, record: StepRecord) -> None:
        """Write one step's line."""
        body = {name: value for name, value in vars(record).items() if name != "evaluations"}
        self._append(self._ledger, body)

    def add_evaluations(self, step: int, evaluations: dict[str, float]) -> None:
        """Write what was measured after a step."""
        self._append(self._ledger, {"step": step, "evaluations": evaluations})

    def add_changes(self, log: list[LogEntry]) -> None:
        """Write the changes of controls that are not written yet."""
        for entry in log:
            if (line := json.dumps(entry)) not in self._logged:
                self._append(self._controls, _entry_line(entry))
                self._logged.add(line)

    def position(self, steps: int) -> dict[str, Any]:
        """Where the ledger stands after so many steps, on the disk."""
        assert self._ledger is not None and self._controls is not None
        self._ledger.sync()
        self._controls.sync()
        return {
            "steps": steps,
            "num_bytes": self._ledger.num_bytes,
            "sha256": self._ledger.sha256,
            "controls_bytes": self._controls.num_bytes,
        }

    def steps(self) -> list[StepRecord]:
        """All steps of the ledger with their evaluations."""
        return read_ledger(self.path)

    def finish(self, record: RunRecord) -> None:
        """Write the record of a run that has ended."""
        with _writing(self.path / RECORD):
            record.save(self.path / RECORD)

    def clear(self) -> None:
        """Remove the run that is here; files of others stay."""
        remove_checkpoint(self.checkpoints.folder)  # first: without one, a run begins anew
        for name in reversed(_OURS):
            (self.path / name).unlink(missing_ok=True)
        self.checkpoints.best = None

    def close(self) -> None:
        """Close the files and give the lock back."""
        for lines in (self._ledger, self._controls):
            if lines is not None:
                lines.close()
        self._lock.release()

    def _settings(self, any_start: bool) -> dict[str, Any] | None:
        """What is written of the run that is there; None where there is none, or nothing is known.

        Raises:
            CheckpointError: there is a run, and what it is is damaged.
        """
        path, steps = self.path / SETTINGS, self.checkpoints.steps
        if not path.exists() and not steps:
            return None
        try:
            body = read_signed(path)
            return {name: dict(body[name]) for name in ("run", "environment")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            if any_start:
                return None
            words = str(error) if isinstance(error, ValueError) else f"{path} is missing or damaged"
            go_on = "resume='always' goes on from the newest checkpoint all the same, "
            raise CheckpointError(
                f"{words}; {go_on if steps else ''}resume='never' removes that run and begins anew"
            ) from error

    def _later_changes(self, position: dict[str, Any], log: list[LogEntry]) -> list[LogEntry]:
        """The changes after a checkpoint, held against what the steps after it say they ran with.

        So a log that has lost its end is noticed as long as the ledger has not.
        """
        try:
            lines = read_lines(self.path / CONTROLS, start=position["controls_bytes"])
            later = [(x["step"], x["name"], x["old"], x["new"]) for x in lines]
        except (ValueError, KeyError) as error:
            raise CheckpointError(str(error)) from error
        try:
            steps = read_lines(self.path / LEDGER, start=position["num_bytes"])
        except ValueError:  # they will be trained again, and need not be whole
            return later
        for step in steps:
            for name, value in step.get("controls", {}).items():
                said = [new for at, n, _, new in (*log, *later) if n == name and at <= step["step"]]
                if said and said[-1] != value:
                    raise CheckpointError(
                        f"{self.path / CONTROLS} is damaged: step {step['step']} ran with "
                        f"{name}={value!r}, and the last change in it is to {said[-1]!r}"
                    )
        return later

    def _append(self, lines: Lines | None, values: Any) -> None:
        assert lines is not None
        with _writing(lines.path):
            lines.append(values)

    def _check_is_ours(self) -> None:
        others = [
            entry.name
            for entry in self.path.iterdir()
            if not entry.name.startswith(".")
            and entry.name not in (*_OURS, CHECKPOINTS, ANALYSIS, FIGURES)
        ]
        if others and self.is_new:
            raise ValueError(
                f"folder={str(self.path)!r} holds other things ({sorted(others)[0]!r}): a run "
                "needs a folder of its own"
            )

    def _remove_parts(self) -> None:
        """What a killed process left half written; nobody else writes here now."""
        checkpoints = self.path / CHECKPOINTS
        for part in checkpoints.glob(f".step-*{PART}") if checkpoints.is_dir() else ():
            rescue(part, checkpoints / part.name.removeprefix(".").partition(".")[0])
        for folder in (self.path, checkpoints):
            for name in (f".*{PART}", f".*{GONE}"):
                for part in folder.glob(name):
                    remove_path(part)


def _open_lines(path: Path, *, keep: int | None = None) -> Lines:
    with _writing(path):
        return Lines(path, keep=keep)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{path} could not be written: {error}") from error


def _entry_line(entry: LogEntry) -> dict[str, Any]:
    return dict(zip(("step", "name", "old", "new"), entry, strict=True))
