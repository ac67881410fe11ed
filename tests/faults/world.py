"""The small world of one fuzzed call: a model of three layers, data, and records of them."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sbldlib
from sbldlib.comparison import ARMS, Subject, Table
from sbldlib.comparison.costs import Prices
from sbldlib.data import TokenFile, Tokenizer, train_tokenizer
from sbldlib.dropping.skipping import attach
from sbldlib.environment import environment
from sbldlib.losses import evaluate_loss
from sbldlib.methods import uniform
from sbldlib.methods.base import _ON_MODEL

NUM_LAYERS = 3
CONFIG = sbldlib.GPTConfig(
    vocabulary_size=16,
    context_length=8,
    num_layers=NUM_LAYERS,
    num_heads=2,
    width=8,
    init_std=0.3,
)
SENSITIVITY = sbldlib.SensitivityData(
    values=(0.9, 0.1, 0.3),
    standard_errors=(0.1, 0.01, 0.02),
    num_batches=2,
    samples=((1.0, 0.8), (0.09, 0.11), (0.28, 0.32)),
)
STEP = sbldlib.StepRecord(
    step=0, progress=0.0, loss_nats=2.5, learning_rate=1e-3, gradient_norm=1.0, seconds=0.1,
    tokens=8, flops=10.0, flops_full=12.0, layers_run=(0, 2),
)  # fmt: skip
PILOT = sbldlib.PilotData(
    baseline_losses=tuple(
        tuple(3 - 0.05 * t + 0.01 * pair for t in range(24)) for pair in range(2)
    ),
    dropping_losses=tuple(
        tuple(3 - 0.05 * t + 0.1 * np.sin(t + pair) for t in range(24)) for pair in range(2)
    ),
    seeds=(0, 1),
    mean_keep=0.8,
    seconds=1.0,
)
PRICES = Prices(
    block_forward=0.001, block_backward=0.002, outside=0.006, fit=0.01, clock="process", rounds=1,
    machine=environment(),
)  # fmt: skip
COMPARISON = sbldlib.Comparison(
    name="fuzzed",
    tables=(Table(budget="steps", arms=(ARMS["full depth"], ARMS["uniform"])),),
    seeds=(0,),
    steps=1,
    model={"num_layers": NUM_LAYERS, "width": 8, "num_heads": 2},
    warmup_steps=1,
    sensitivity_batches=2,
    pilot_pairs=1,
    pilot_steps=20,
)


@cache
def plain_bytes() -> Tokenizer:
    """The tokenizer that needs no text."""
    return train_tokenizer([], 256)


class Source:
    """A batch source of a few tokens."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def batch(self, step: int, micro_batch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(self.seed % 1000 + step + 100 * micro_batch)
        tokens_BT = torch.randint(0, CONFIG.vocabulary_size, (2, 9), generator=generator)
        return tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()


class World:
    """What one call may be given, each made when it is first asked for.

    Attributes:
        folder: empty, of this call alone.
        has_method: whether a dropping method is on the model already.
    """

    def __init__(self, folder: Path, *, has_method: bool = False):
        self.folder = folder
        self.has_method = has_method
        self.sensitivity_data, self.step_record, self.pilot = SENSITIVITY, STEP, PILOT
        self.prices = PRICES

    def gpt(self, seed: int = 0, **changes: Any) -> sbldlib.GPT:
        """A model of this world's size."""
        return sbldlib.GPT(replace(CONFIG, **changes), seed % 1000)

    @cached_property
    def model(self) -> sbldlib.GPT:
        """The model, in training mode."""
        model = self.gpt()
        if self.has_method:
            uniform(model, saving=0.3)
            attach(model).set_skipped({1})
        return model

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW on the model."""
        return sbldlib.make_optimizer(self.model, learning_rate=1e-3)

    @cached_property
    def batches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Two batches of two rows."""
        return [Source().batch(step) for step in range(2)]

    @cached_property
    def lists(self) -> sbldlib.LayerLists:
        """The most sensitive layer blocked."""
        return sbldlib.create_block_allow_lists(SENSITIVITY)

    @cached_property
    def scheduler(self) -> Any:
        """The variance-based scheduler of the pilot."""
        return sbldlib.create_variance_based_scheduler(
            PILOT, saving=0.2, mean_keep_min=0.5, num_starts=1
        )

    @cached_property
    def file(self) -> Path:
        """A file, where a folder is asked for."""
        path = self.folder / "a file"
        path.write_text("not a folder")
        return path

    @cached_property
    def empty(self) -> Path:
        """A folder without a file."""
        path = self.folder / "empty"
        path.mkdir()
        return path

    @cached_property
    def texts(self) -> Path:
        """A folder of small texts."""
        path = self.folder / "texts"
        path.mkdir()
        for place in range(40):
            (path / f"{place}.txt").write_text(f"{place} plus {place} is {2 * place}\n" * 20)
        return path

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Plain bytes."""
        return plain_bytes()

    @cached_property
    def token_file(self) -> TokenFile:
        """A hundred tokens below 16."""
        tokens = np.arange(100) % 16
        path = self.folder / "some.tokens"
        return TokenFile.write(path, tokens, num_bytes=100, tokenizer=self.tokenizer, name="fuzzed")

    @cached_property
    def source(self) -> Source:
        """A batch source."""
        return Source()

    @cached_property
    def subject(self) -> Subject:
        """What the comparison trains."""
        return Subject(
            make_model=lambda seed, num_layers: self.gpt(seed, num_layers=num_layers),
            make_data=Source,
            make_optimizer=lambda model, scale: sbldlib.make_optimizer(model),
            evaluations={"validation_loss": lambda model: evaluate_loss(model, self.batches)},
            key="fuzzed",
        )

    def held(self) -> dict[str, Any]:
        """All that a refused call must leave as it was."""
        skipping, method = attach(self.model), _ON_MODEL.get(self.model)
        return {
            "weights": tuple(weight.clone() for weight in self.model.state_dict().values()),
            "modes": tuple(module.training for module in self.model.modules()),
            "skipped": (skipping.skipped, skipping.dropped, skipping.evaluation_scale),
            "method": (id(method), None if method is None else method.keep_probability(0.5)),
            "optimizer": repr(self.optimizer.param_groups) if "optimizer" in vars(self) else "",
            **random_states(),
        }


def random_states() -> dict[str, Any]:
    """The random states that everything in the process shares."""
    kind, keys, *rest = np.random.get_state()
    return {
        "torch's random state": (torch.get_rng_state(),),
        "numpy's random state": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "Python's random state": random.getstate(),
        "torch's threads": torch.get_num_threads(),
    }


def lost(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what is not as it was."""
    return [name for name in before if not _same(before[name], after[name])]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
