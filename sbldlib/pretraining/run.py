"""One run in a folder that keeps it, and what its method needs to know before.

A run's own files are `sbldlib.training.folder`'s. Beside them, in analysis/:

pretraining.json   what was asked, and a digest of the data: enough to build model and data again
sensitivity.json   of a throwaway model after a short warm-up, for sbld
lists.json         its block and allow lists
warm-up/           that model's own run, until it was measured
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ..dropping.lists import create_block_allow_lists
from ..errors import check_path
from ..methods import LayerDropping, make_method
from ..models.language_model import LanguageModel
from ..records import LayerLists, RunRecord, SensitivityData, StepRecord
from ..sensitivity import calculate_sensitivities
from ..storage.checkpoints import CheckpointError
from ..training.checkpoints import CheckpointConfig
from ..training.config import Budget, TrainConfig
from ..training.door import check_resume
from ..training.folder import ANALYSIS, RunFolder, RunMismatchError
from ..training.launch import Workers
from ..training.loop import train
from ..training.optimizer import make_optimizer
from .config import ASKED, VALIDATION_LOSS, Asked, PretrainConfig, check_device, load_record
from .parts import make_model, make_parts
from .text import OnProgress, unseen_batches

SENSITIVITY, LISTS, WARM_UP = "sensitivity.json", "lists.json", "warm-up"
OnStage = Callable[[str, int], None]  # what begins, and how many steps it takes
OnStep = Callable[[StepRecord], None]


def pretrain(
    config: PretrainConfig | None = None,
    *,
    folder: str | Path,
    checkpoints: CheckpointConfig | None = None,
    resume: str | int = "auto",
    device: str = "cpu",
    workers: Workers | None = None,
    on_stage: OnStage | None = None,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
) -> RunRecord:
    """Train a GPT of the kit in a folder; called again, it goes on where it was.

    For sbld, a throwaway model is warmed up and measured before, once a folder.

    Args:
        config: what to train.
        folder: of this run alone.
        checkpoints: when it is saved, and what stays; by default every ten minutes, and the two
            newest and the one of the lowest validation loss stay.
        resume: as for `train`.
        device: "cpu" or "cuda"; a run may go on on the other one, though not bit for bit.
        workers: the processes that train the run together, as for `train`; the first one alone
            measures what is needed before.
        on_stage: told the name and number of steps of each part as it begins.
        on_step: told every training step.
        on_progress: told the rows and the bytes of text so far, while a dataset is prepared.

    Raises:
        RunMismatchError: the folder holds a run of other settings; the field is named.
        ValueError: a value out of range, or a saving that the method cannot hold on this model.
        RunBusyError, CheckpointError, TrainingInterrupted, NotFiniteError: as for `train`.
        HubError, ModuleNotFoundError: as for `prepare_hub_tokens`.
    """
    run = _Pretraining(
        config,
        folder,
        checkpoints,
        resume,
        device,
        workers,
        on_stage=on_stage,
        on_step=on_step,
        on_progress=on_progress,
    )
    run.prepare()
    return run.train()


def prepare(
    config: PretrainConfig | None = None,
    *,
    folder: str | Path,
    checkpoints: CheckpointConfig | None = None,
    resume: str | int = "auto",
    device: str = "cpu",
    on_stage: OnStage | None = None,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """What `pretrain` does before the run: refuse what it would, and measure what it needs.

    Arguments and errors are `pretrain`'s.
    """
    _Pretraining(
        config,
        folder,
        checkpoints,
        resume,
        device,
        None,
        on_stage=on_stage,
        on_step=on_step,
        on_progress=on_progress,
    ).prepare()


class _Pretraining:
    """One call of `pretrain`."""

    def __init__(
        self,
        config: PretrainConfig | None,
        folder: str | Path,
        checkpoints: CheckpointConfig | None,
        resume: str | int,
        device: str,
        workers: Workers | None,
        *,
        on_stage: OnStage | None,
        on_step: OnStep | None,
        on_progress: OnProgress | None = None,
    ):
        self.config = config = config or PretrainConfig()
        self.folder = check_path("folder", folder)
        self.checkpoints = checkpoints or CheckpointConfig(keep_best=VALIDATION_LOSS)
        self.resume, self.device = resume, check_device(device)
        self.workers = workers or Workers()
        self.on_stage, self.on_step = on_stage or (lambda *_: None), on_step
        check_resume(resume)
        # Refused here where the layers cannot hold it, and not after the warm-up.
        ranks = tuple(map(float, range(config.shape.num_layers)))
        errors = (0.0,) * len(ranks)
        made_up = SensitivityData(values=ranks, standard_errors=errors)
        self._method(self._model(), sensitivity_data=made_up)
        self.on_stage("text and problems", 0)
        if self.workers.index == 0:  # the others find what it has prepared
            self.data = config.data(on_progress)
        self.workers.wait()
        if self.workers.index > 0:
            self.data = config.data()

    def prepare(self) -> None:
        """Hold the run against what the folder has, and measure what its method needs to know."""
        if self.workers.index == 0:
            self._prepare()
        self.workers.wait()

    def _prepare(self) -> None:
        with closing(RunFolder(self.folder, self.checkpoints)) as there:
            if self.resume == "never":
                there.clear()
                shutil.rmtree(self._analysis, ignore_errors=True)
            elif self.resume != "auto" and not there.checkpoints.steps:
                raise CheckpointError(
                    f"resume={self.resume!r}, but {self.folder} holds no checkpoint"
                )
            self._check_asked(is_new=there.is_new)
            if self.config.method == "sbld":
                self._analyse()

    def train(self) -> RunRecord:
        """The run itself."""
        config = self.config
        parts = make_parts(config, device=self.device, data=self.data)
        method = self._method(parts.model, **self._measured())
        self.on_stage(f"{config.named}, {config.method}", config.steps)
        return train(
            parts.model,
            parts.data.train,
            parts.optimizer,
            config=parts.config,
            callbacks=[*parts.callbacks, method],
            evaluations=parts.evaluations,
            on_step=self.on_step,
            folder=self.folder,
            checkpoints=self.checkpoints,
            resume=self.resume,
            workers=self.workers,
        )

    @property
    def _analysis(self) -> Path:
        return self.folder / ANALYSIS

    def _model(self) -> LanguageModel:
        return make_model(self.config, self.device)

    def _method(self, model: LanguageModel, **known: Any) -> LayerDropping:
        config = self.config
        return make_method(config.method, model, saving=config.saving, seed=config.seed, **known)

    def _check_asked(self, *, is_new: bool) -> None:
        """Refuse a folder of another run; write down what this one is where there is none."""
        path, asked = self._analysis / ASKED, Asked.of(self.config, self.data)
        if path.exists():
            for field, (mine, there) in asked.differences(load_record(Asked, path)).items():
                raise RunMismatchError(
                    f"{field}={mine!r} is asked for, the run in {str(self.folder)!r} has "
                    f"{there!r}: give another folder, or resume='never' to remove that run and "
                    "begin anew"
                )
        elif is_new:
            asked.save(path)
        else:
            raise RunMismatchError(
                f"folder={str(self.folder)!r} holds a run without {ANALYSIS}/{ASKED}, so not one "
                "of this kind: give another folder, or resume='never' to remove that run"
            )

    def _analyse(self) -> None:
        """Sensitivities and lists, where their files are not there yet."""
        measured, lists = self._analysis / SENSITIVITY, self._analysis / LISTS
        if not measured.exists():
            self._measure().save(measured)
        if not lists.exists():
            create_block_allow_lists(load_record(SensitivityData, measured)).save(lists)
        shutil.rmtree(self._analysis / WARM_UP, ignore_errors=True)

    def _measured(self) -> dict[str, Any]:
        """What the method is told of them."""
        if self.config.method != "sbld":
            return {}
        return {
            "sensitivity_data": load_record(SensitivityData, self._analysis / SENSITIVITY),
            "lists": load_record(LayerLists, self._analysis / LISTS),
        }

    def _measure(self) -> SensitivityData:
        """Of a throwaway model after its warm-up, which goes on too where it was stopped."""
        config, model = self.config, self._model()
        self.on_stage("warm-up of a model to measure", config.warmup_steps)
        train(
            model,
            self.data.train,
            make_optimizer(model, learning_rate=config.base_rate),
            config=TrainConfig(
                budget=Budget(steps=config.warmup_steps), accumulate=config.accumulate
            ),
            on_step=self.on_step,
            folder=self._analysis / WARM_UP,
            checkpoints=CheckpointConfig(every_minutes=self.checkpoints.every_minutes),
        )
        self.on_stage("sensitivities", 0)
        batches = unseen_batches(self.data, config.sensitivity_batches)
        return calculate_sensitivities(model, batches=batches, iteration=config.warmup_steps)
