"""What a training of one of the kit's GPTs is asked to be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..data.hub import DATASETS
from ..data.lesson import LessonData
from ..errors import (
    check_choice,
    check_kind,
    check_path,
    check_positive_int,
    check_range,
    check_seed,
    items,
    shown,
)
from ..methods import METHODS, check_saving
from ..models.conv_gpt import ConvGPT
from ..models.diverging_gpt import DivergingGPT
from ..models.gpt import GPT
from ..records import Record
from ..storage.checkpoints import CheckpointError
from .text import OnProgress, Shape, dataset_of, text_for

ASKED = "pretraining.json"  # in a run's analysis folder
VALIDATION_LOSS, ACCURACY = "validation_loss", "accuracy"
OF_DATA = ("corpus", "dataset", "columns", "max_bytes")
DEVICES = ("cpu", "cuda")
MODELS = {"gpt": GPT, "conv": ConvGPT, "diverging": DivergingGPT}
# Of the large ones: Brown et al. 2020, table 2.1 [S].
LEARNING_RATES = {"tiny": 3e-3, "small": 3e-3, "gpt2-124m": 6e-4}
LARGE_LEARNING_RATE = 3e-4
T = TypeVar("T", bound=Record)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """One training of one of the kit's GPTs; the defaults take minutes on two cores.

    Attributes:
        model: a name in MODELS.
        preset: of the model, a name in its `presets`.
        steps: of the run.
        method: a name in `METHODS`.
        saving: mean drop over layers and time, in [0, 1); "none" drops nothing whatever it is.
        seed: of weights, data order and draws.
        learning_rate: the base rate; None is the preset's.
        batch_size: rows of a micro-batch; half of them hold arithmetic where the model is small
            and learns no dataset.
        accumulate: micro-batches a step.
        evaluate_every: steps between evaluations; 0 evaluates at the end alone.
        warmup_steps: of the model whose sensitivities are measured, for sbld.
        sensitivity_batches: that they are measured on, >= 2.
        corpus: a folder of your own text; None for Python's standard library.
        dataset: read in place of a corpus: a name in `DATASETS`, which needs the network once, or
            your own Parquet or JSON files, and folders of them; () for a corpus.
        columns: of the dataset, that are text; None for its own, and "text" in files.
        max_bytes: of the dataset's text, at the most; None for 100 MB.
    """

    model: str = "gpt"
    preset: str = "tiny"
    steps: int = 500
    method: str = "sbld"
    saving: float = 0.25
    seed: int = 0
    learning_rate: float | None = None
    batch_size: int = 16
    accumulate: int = 1
    evaluate_every: int = 100
    warmup_steps: int = 150
    sensitivity_batches: int = 32
    corpus: str | None = None
    dataset: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        check_choice("model", self.model, MODELS)
        check_choice("preset", self.preset, MODELS[self.model].presets)
        check_choice("method", self.method, METHODS)
        plain: dict[str, Any] = {
            "saving": check_saving(self.saving),
            "seed": check_seed("seed", self.seed),
        }
        least = {"evaluate_every": 0, "sensitivity_batches": 2}
        for name in ("steps", "batch_size", "accumulate", "warmup_steps", *least):
            value = getattr(self, name)
            plain[name] = check_positive_int(name, value, minimum=least.get(name, 1))
        if self.learning_rate is not None:
            plain["learning_rate"] = check_range(
                "learning_rate", self.learning_rate, 0, math.inf, low_open=True, high_open=True
            )
        if self.corpus is not None:
            plain["corpus"] = str(check_path("corpus", self.corpus))
        plain |= self._checked_dataset()
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> Shape:
        """Of the model."""
        return MODELS[self.model].presets[self.preset]

    @property
    def base_rate(self) -> float:
        """The learning rate that it has or that its preset gives."""
        if self.learning_rate is not None:
            return self.learning_rate
        return LEARNING_RATES.get(self.preset, LARGE_LEARNING_RATE)

    @property
    def named(self) -> str:
        """Model and preset in a word; the baseline goes by its preset alone."""
        return self.preset if self.model == "gpt" else f"{self.model}-{self.preset}"

    def data(self, on_progress: OnProgress | None = None) -> LessonData:
        """The text and problems that it trains on.

        Args:
            on_progress: told the rows and the bytes of text so far, while a dataset is prepared.
        """
        return text_for(
            self.shape,
            batch_size=self.batch_size,
            seed=self.seed,
            corpus=self.corpus,
            dataset=dataset_of(self.dataset, self.columns) if self.dataset else None,
            max_bytes=self.max_bytes,
            on_progress=on_progress,
        )

    def _checked_dataset(self) -> dict[str, Any]:
        """The fields of a dataset as plain values; what lies on the disk is looked at later."""
        named = self.dataset if not isinstance(self.dataset, str) else (self.dataset,)
        dataset = tuple(str(check_path("dataset", name)) for name in items("dataset", named))
        if dataset and self.corpus is not None:
            raise ValueError(
                f"dataset={shown(dataset)} and corpus={shown(self.corpus)}: give one of them"
            )
        for field in ("columns", "max_bytes"):
            if getattr(self, field) is not None and not dataset:
                raise ValueError(
                    f"{field}={shown(getattr(self, field))} is of a dataset; name one, such as "
                    f"{next(iter(DATASETS))!r}, or a file"
                )
        plain: dict[str, Any] = {"dataset": dataset}
        if self.columns is not None:
            plain["columns"] = tuple(
                check_kind("columns", name, str, "the names of columns, such as ('text',)")
                for name in items("columns", self.columns)
            )
        if self.max_bytes is not None:
            plain["max_bytes"] = check_positive_int("max_bytes", self.max_bytes)
        return plain


@dataclass(frozen=True, kw_only=True)
class Asked(Record):
    """What a folder's run was asked to be.

    Attributes:
        config: a PretrainConfig, as plain values.
        data_sha256: of all that decides the batches.
    """

    config: dict[str, Any]
    data_sha256: str

    @classmethod
    def of(cls, config: PretrainConfig, data: LessonData) -> Asked:
        """What this configuration asks."""
        asked = {**dataclasses.asdict(config), "learning_rate": config.base_rate}
        return cls(config=asked, data_sha256=data.fingerprint)

    def differences(self, other: Asked) -> dict[str, tuple[Any, Any]]:
        """Field -> its value here and there, where they differ."""
        # The same text may lie in another place: its digest says whether it is the same.
        is_same_data = self.data_sha256 == other.data_sha256
        names = [name for name in self.config if not (is_same_data and name in OF_DATA)]
        there = {**dataclasses.asdict(PretrainConfig()), **other.config}  # a field may be newer
        sides = {name: (self.config[name], there.get(name)) for name in names}
        sides["data_sha256"] = (self.data_sha256, other.data_sha256)
        return {name: both for name, both in sides.items() if both[0] != both[1]}


def check_device(device: str) -> str:
    """Return `device`, or raise ValueError where it is not one or not here."""
    check_choice("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda', but torch finds no CUDA device; use 'cpu'")
    return device


def load_config(path: Path) -> PretrainConfig:
    """The configuration in a file of an `Asked`, or CheckpointError where it is damaged."""
    with _damage_told(path):
        return PretrainConfig(**Asked.load(path).config)


def load_record(kind: type[T], path: Path) -> T:
    """A record that was written here, or CheckpointError where it is damaged."""
    with _damage_told(path):
        return kind.load(path)


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); resume='never' removes that run and begins anew"
        ) from error
