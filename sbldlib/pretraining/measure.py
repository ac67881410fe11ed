"""How sensitive the layers of a trained model are: what `sbld sensitivity` measures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..errors import check_path, check_positive_int
from ..models import files
from ..models.language_model import LanguageModel
from ..records import SensitivityData
from ..sensitivity import calculate_sensitivities
from ..training.checkpoints import load_weights
from ..training.folder import ANALYSIS
from .config import ASKED, MODELS, PretrainConfig, load_config
from .parts import make_model
from .text import text_for, unseen_batches


def measure_sensitivities(
    folder: str | Path,
    *,
    step: int | str | None = None,
    method: str = "loss_delta",
    num_batches: int = 32,
    corpus: str | Path | None = None,
) -> SensitivityData:
    """The sensitivities of a trained model's layers, on batches that no step of its run drew.

    Args:
        folder: of a run of `pretrain`, or of a model that its `save` wrote.
        step: of the run's checkpoint; None is the newest, "best" the one with the lowest
            validation loss.
        method: a name in `sbldlib.sensitivity.ESTIMATORS`.
        num_batches: to measure on, >= 2.
        corpus: a folder of text; None is the run's, and Python's standard library for a model.

    Raises:
        ValueError: neither a run nor a model is there, or a value out of range.
        CheckpointError: the run has no such checkpoint, or a damaged one.
    """
    path = check_path("folder", folder)
    check_positive_int("num_batches", num_batches, minimum=2)
    text = None if corpus is None else str(check_path("corpus", corpus))
    if (path / files.CONFIG).is_file():
        if step is not None:
            raise ValueError(f"step={step!r} is for a run; {str(path)!r} holds a model alone")
        model, done = _load(path), None
        data = text_for(model.config, corpus=text)
    else:
        model, config, done = load_pretrained(path, step=step)
        if text is not None:
            none = {"dataset": (), "columns": None, "max_bytes": None}
            config = dataclasses.replace(config, corpus=text, **none)
        data = config.data()
    return calculate_sensitivities(
        model, batches=unseen_batches(data, num_batches), method=method, iteration=done
    )


def load_pretrained(
    folder: str | Path, *, step: int | str | None = None
) -> tuple[LanguageModel, PretrainConfig, int]:
    """The model of a run of `pretrain`, how it was trained, and for how many steps so far.

    Args:
        folder: of the run; it may be training.
        step: as for `measure_sensitivities`.

    Raises:
        ValueError: no such run is there.
        CheckpointError: it has no such checkpoint, or a damaged one.
    """
    path = check_path("folder", folder)
    asked = path / ANALYSIS / ASKED
    if not asked.is_file():
        raise ValueError(
            f"folder={str(path)!r} holds neither a run of `sbld train` nor a model of GPT.save"
        )
    config = load_config(asked)
    model = make_model(config)
    return model, config, load_weights(model, path, step=step)


def _load(folder: Path) -> LanguageModel:
    """A model's own folder: its configuration's fields say which kind it is."""
    fields = files.load_model(folder)[0].keys()
    for kind in MODELS.values():
        if fields == {field.name for field in dataclasses.fields(kind.config_class)}:
            return kind.load(folder)
    return MODELS["gpt"].load(folder)  # says which fields it lacks
