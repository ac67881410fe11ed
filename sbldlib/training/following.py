"""A run of several ranks is kept by the first of them; the others do what it needs of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..records import RunRecord, StepRecord
from ..storage.checkpoints import CheckpointError
from .checkpoints import CHECKPOINTS, CheckpointConfig, CheckpointStore
from .controls import Controls
from .keeping import Keeper, is_agreed
from .ledger import read_ledger
from .run import Run
from .state import generators, restore

_STEP, _REFUSED = struct.Struct("<q"), -1  # how rank 0 tells the others where to go on


class Follower(Keeper):
    """What a rank that writes nothing does where rank 0 keeps the run."""

    def __init__(self, folder: str | Path, run: Run, controls: Controls | None):
        self._path, self._run, self._controls = Path(folder), run, controls
        self.resumes, self.evaluation_due = [], False

    @property
    def path(self) -> Path:
        """Of the folder."""
        return self._path

    @property
    def last_checkpoint(self) -> str | None:
        """Rank 0 says it."""
        return None

    def take_up(self, step: int) -> None:
        """Read the checkpoint that rank 0 has taken up."""
        store = CheckpointStore(self._path / CHECKPOINTS, CheckpointConfig())
        _, tree = store.load(step)
        restore(self._run, tree, self._controls, where=str(store.path(step)))
        self.evaluation_due = tree["evaluation_due"]

    def origin(self) -> dict[str, Any]:
        """Rank 0's record has it."""
        return {}

    def steps(self) -> list[StepRecord]:
        """Every step so far, as rank 0 wrote it."""
        return read_ledger(self._path)

    def add_changes(self) -> None:
        """Rank 0 writes them."""

    def add_step(self, record: StepRecord, *, evaluation_due: bool) -> None:
        """Save when rank 0 does."""
        self.evaluation_due = evaluation_due
        if is_agreed(self._run, False):
            self.save()

    def add_evaluations(self, evaluations: dict[str, float]) -> None:
        """Rank 0 writes them."""
        self.evaluation_due = False

    def save(self) -> None:
        """Tell rank 0 what it needs."""
        if not is_agreed(self._run, False):
            generators(self._run)

    def finish(self, record: RunRecord) -> None:
        """Rank 0 writes it."""

    def close(self) -> None:
        """There is nothing to give back."""


def keep(
    folder: str | Path,
    run: Run,
    controls: Controls | None,
    config: CheckpointConfig,
    *,
    evaluations: Iterable[str],
    resume: str | int,
) -> Keeper:
    """The run's keeper; on several ranks all of them go on from where the first one does."""
    if run.workers.index > 0:
        follower = Follower(folder, run, controls)
        (step,) = _STEP.unpack(run.workers.gather(_STEP.pack(0))[0])
        if step == _REFUSED:
            raise CheckpointError(f"rank 0 refused folder={str(folder)!r}; it says why")
        if step > 0:
            follower.take_up(step)
        run.workers.wait()  # until then rank 0 saves and removes nothing
        return follower
    try:
        keeper = Keeper(folder, run, controls, config, evaluations=evaluations, resume=resume)
    except BaseException:
        run.workers.gather(_STEP.pack(_REFUSED))
        raise
    run.workers.gather(_STEP.pack(run.steps))
    run.workers.wait()
    return keeper
