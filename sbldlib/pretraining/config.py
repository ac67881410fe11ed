"""What a training of one of the kit's GPTs is asked to be, and the text that it reads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..data.batches import Batch
from ..data.lesson import LessonData, prepare_lesson_data
from ..errors import check_choice, check_path, check_positive_int, check_range, check_seed
from ..methods import METHODS, check_saving
from ..models.conv_gpt import ConvGPT, ConvGPTConfig
from ..models.diverging_gpt import DivergingGPT
from ..models.gpt import GPT, GPTConfig
from ..records import Record
from ..storage.checkpoints import CheckpointError

ASKED = "pretraining.json"  # in a run's analysis folder
VALIDATION_LOSS, ACCURACY = "validation_loss", "accuracy"
UNREACHED = 1_000_000  # a step beyond every run
MAX_VOCABULARY = 16_384  # there is not text enough for more words
TEXT_BYTES = 4_000_000  # of Python's source, for the models that learn it in minutes
DEVICES = ("cpu", "cuda")
MODELS = {"gpt": GPT, "conv": ConvGPT, "diverging": DivergingGPT}
Shape = GPTConfig | ConvGPTConfig
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
        batch_size: rows of a micro-batch; half of them hold arithmetic where the model is small.
        accumulate: micro-batches a step.
        evaluate_every: steps between evaluations; 0 evaluates at the end alone.
        warmup_steps: of the model whose sensitivities are measured, for sbld.
        sensitivity_batches: that they are measured on, >= 2.
        corpus: a folder of your own text; None for Python's standard library.
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

    def data(self) -> LessonData:
        """The text and problems that it trains on."""
        return text_for(self.shape, batch_size=self.batch_size, seed=self.seed, corpus=self.corpus)


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
        names = [name for name in self.config if name != "corpus"]
        there = {**dataclasses.asdict(PretrainConfig()), **other.config}  # a field may be newer
        sides = {name: (self.config[name], there.get(name)) for name in names}
        sides["data_sha256"] = (self.data_sha256, other.data_sha256)
        return {name: both for name, both in sides.items() if both[0] != both[1]}


def text_for(
    shape: Shape, *, batch_size: int = 16, seed: int = 0, corpus: str | None = None
) -> LessonData:
    """Text for a model of this shape; half of it arithmetic problems where the model is small.

    One that predicts further ahead than the next token learns text alone.

    Args:
        corpus: a folder of your own text; None for Python's standard library.
    """
    large, offset = is_large(shape), shape.offset
    return prepare_lesson_data(
        vocabulary_size=min(shape.vocabulary_size, MAX_VOCABULARY),
        context_length=shape.context_length,
        batch_size=batch_size,
        seed=seed,
        arithmetic_rows=0 if large or offset > 1 else batch_size // 2,
        offset=offset,
        max_bytes=None if large or corpus is not None else TEXT_BYTES,
        root=corpus,
    )


def unseen_batches(data: LessonData, num_batches: int) -> list[Batch]:
    """Batches of the training text that no step of any run draws."""
    return [data.train.batch(UNREACHED + place) for place in range(num_batches)]


def is_large(shape: Shape) -> bool:
    """Whether it is a model for more text than arithmetic."""
    return shape.vocabulary_size > MAX_VOCABULARY


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
