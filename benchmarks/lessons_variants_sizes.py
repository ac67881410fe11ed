"""How much the comparison of the GPT variants measures, which models take part, and their text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from sbldlib.data.batches import IGNORE, Batch, TokenBatches
from sbldlib.data.text import load_corpus
from sbldlib.data.tokenizer import Tokenizer
from sbldlib.data.tokens import TokenFile, cached_tokenizer, prepare_tokens
from sbldlib.models.conv_gpt import ConvGPT
from sbldlib.models.diverging_gpt import DivergingGPT
from sbldlib.models.gpt import GPT, PRESETS
from sbldlib.models.recurrent import KINDS, SequenceConfig, SequenceModel, fit_width

NUM_HEADS = 4  # of "attention" among the kit's other models
PLAIN: dict[str, Any] = {"rank": 0, "freeze_attention": False}
# Arm -> its class, what follows the preset's name, and fields that differ from the preset's.
ARMS: dict[str, tuple[type[Any], str, dict[str, Any]]] = {
    "gpt": (GPT, "", {}),
    "gpt-shallow": (GPT, "", {}),
    "gpt-outer": (GPT, "", {}),
    "conv": (ConvGPT, "", {}),
    "conv-ahead": (ConvGPT, "-ahead", {}),
    "conv-leak": (ConvGPT, "", {}),
    "diverging": (DivergingGPT, "", {}),
    "diverging-plain": (DivergingGPT, "", PLAIN),
    "stack": (DivergingGPT, "", {**PLAIN, "growth": "stack"}),
}
# Half the layers from the first step on: does growing beat being small?
SHALLOW = "gpt-shallow"
# The blocks of "conv" at the tokens' own level, and nothing inside: what does merging add?
OUTER, NUM_OUTER = "gpt-outer", 2
AHEAD = "gpt-ahead"  # a GPT with the target of "conv-ahead": what does that target cost?
# Arm -> the family whose search gives its learning rate.
FAMILIES = {
    "gpt": "gpt",
    "gpt-ahead": "gpt",
    "gpt-shallow": "gpt",
    "gpt-outer": "conv",
    "conv": "conv",
    "conv-ahead": "conv-ahead",
    "conv-leak": "conv",
    "diverging": "diverging",
    "diverging-plain": "diverging",
    "stack": "diverging",
}


@dataclass(frozen=True, kw_only=True)
class VariantSize:
    """How much is measured.

    Attributes:
        device: "cpu" or "cuda".
        preset: of the models.
        vocabulary_size, max_bytes: of the tokenizer, and of the text; None is all of it.
        context_length: tokens a row, of every arm but one.
        short_context: of that one, a GPT with as many tokens a step.
        rows: a step, at context_length.
        num_steps: GPT's, which are the budget of every arm.
        seeds: of weights and batches; one training each.
        longer: times num_steps, for the arms that are trained longer.
        longer_arms: these, with a control that has a state and no attention.
        search_seed, search_steps, rates: of the search of the learning rate, on other text.
        first_target, num_targets: the tokens of new text that every model is scored on.
        num_points: at which a training is scored, about.
        pad_shares: of the rows that are padding. The first has every seed.
        pad_steps: of these trainings.
        other_models: of the kit, for the one table.
        other_rate: their learning rate, which was not searched.
        bert_steps, pair_steps: of the two models that have a task of their own.
        lengths: tokens a row, for seconds and bytes; tokens_per_step are cut into them.
        rounds: that are timed.
    """

    device: str = "cpu"
    preset: str = "tiny"
    vocabulary_size: int = 512
    max_bytes: int | None = 4_000_000
    context_length: int = 256
    short_context: int = 64
    rows: int = 2
    num_steps: int = 1000
    seeds: tuple[int, ...] = (0, 1, 2)
    longer: int = 4
    longer_arms: tuple[str, ...] = (
        "gpt", "gpt-shallow", "gpt-outer", "conv", "diverging", "stack", "gru",
    )  # fmt: skip
    search_seed: int = 100
    search_steps: int = 250
    rates: tuple[float, ...] = (2e-3, 4e-3, 8e-3)
    first_target: int = 64
    num_targets: int = 16_384
    num_points: int = 8
    pad_shares: tuple[float, ...] = (0.5, 0.25, 0.75)
    pad_steps: int = 500
    other_models: tuple[str, ...] = (*KINDS, "bert", "encoder_decoder")
    other_rate: float = 3e-3
    bert_steps: int = 2000
    pair_steps: int = 700
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    tokens_per_step: int = 4096
    rounds: int = 7

    @property
    def short(self) -> str:
        """The name of the arm with the short context."""
        return f"gpt-{self.short_context}"

    def context_of(self, arm: str) -> int:
        """Tokens a row of this arm."""
        return self.short_context if arm == self.short else self.context_length

    def rows_of(self, arm: str) -> int:
        """Rows a step of this arm: as many tokens a step for all."""
        return self.rows * self.context_length // self.context_of(arm)


CPU = VariantSize()
SIZES = {
    "smoke": VariantSize(
        vocabulary_size=300,
        max_bytes=100_000,
        context_length=32,
        short_context=16,
        rows=2,
        num_steps=4,
        seeds=(0,),
        longer=2,
        longer_arms=("gpt", "lstm"),
        search_steps=1,
        rates=(2e-3, 5e-3),
        num_targets=128,
        num_points=2,
        pad_shares=(0.5, 0.25),
        pad_steps=1,
        other_models=("lstm", "bert", "encoder_decoder"),
        bert_steps=1,
        pair_steps=1,
        lengths=(16, 64),
        tokens_per_step=64,
        rounds=2,
    ),
    "cpu": CPU,
    "gpu": replace(
        CPU,
        device="cuda",
        preset="small",
        vocabulary_size=4096,
        max_bytes=None,
        context_length=1024,
        short_context=256,
        rows=8,
        num_steps=4000,
        search_steps=600,
        rates=(6e-4, 1.5e-3, 4e-3),
        num_targets=196_608,
        pad_steps=2000,
        other_models=(*KINDS, "bert"),  # the pairs need num2words, which a GPU's machine may lack
        other_rate=1e-3,
        bert_steps=6000,
        lengths=(256, 512, 1024, 2048, 4096, 8192, 16384),
        tokens_per_step=16384,
        rounds=15,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Text:
    """Python's own source as tokens; every model reads the same."""

    tokenizer: Tokenizer
    train: TokenFile
    validation: TokenFile
    test: TokenFile


@lru_cache(maxsize=2)
def text_of(size: VariantSize) -> Text:
    """The text of this size; some seconds at first, then cached."""
    corpus = load_corpus(max_bytes=size.max_bytes)
    tokenizer = cached_tokenizer(corpus, size.vocabulary_size)
    return Text(tokenizer=tokenizer, **prepare_tokens(corpus, tokenizer))


def make_model(size: VariantSize, arm: str, seed: int, *, context_length: int | None = None) -> Any:
    """A new model of this arm, in training mode, on its device.

    Args:
        context_length: another than the arm's own.
    """
    context = context_length or size.context_of(arm)
    common: dict[str, Any] = {"vocabulary_size": size.vocabulary_size, "context_length": context}
    if arm in KINDS:
        model: nn.Module = SequenceModel(_sequence_config(size, arm, common), seed)
    else:
        make, suffix, changes = ARMS["gpt" if arm in (size.short, AHEAD) else arm]
        if arm == SHALLOW:
            changes = {"num_layers": PRESETS[size.preset].num_layers // 2}
        if arm == OUTER:
            shape = ConvGPT.presets[size.preset]
            changes = {name: getattr(shape, name) for name in ("num_heads", "init_std")}
            changes |= {"num_layers": NUM_OUTER, "width": shape.widths[0]}
        model = make.from_preset(f"{size.preset}{suffix}", seed, **common, **changes)
    if isinstance(model, ConvGPT):
        # Not shifted, its groups hold tokens that are yet to be predicted.
        for compressor in model.compressors if arm == "conv-leak" else ():
            compressor.shift = 0  # pyright: ignore
    return model.to(size.device).train()


def _sequence_config(size: VariantSize, kind: str, common: dict[str, Any]) -> SequenceConfig:
    """As many weights as the GPT has."""
    budget = GPT.from_preset(size.preset, **common).num_parameters()
    config = SequenceConfig(kind=kind, width=NUM_HEADS, num_heads=NUM_HEADS, **common)
    return fit_width(config, budget)


def offset_of(size: VariantSize, arm: str) -> int:
    """How many tokens after a position the target of this arm stands."""
    if arm not in (AHEAD, "conv-ahead"):
        return 1
    return ConvGPT.presets[f"{size.preset}-ahead"].offset


def batches_of(size: VariantSize, arm: str, seed: int) -> TokenBatches:
    """Training batches: the same windows for every arm of one context, whatever its offset."""
    span, offset = offset_of(size, AHEAD), offset_of(size, arm)
    tokens = text_of(size).train.tokens
    return TokenBatches(
        tokens[: len(tokens) - (span - offset)],  # so that there are as many places to begin at
        context_length=size.context_of(arm),
        batch_size=size.rows_of(arm),
        seed=seed,
        offset=offset,
    )


class PaddedBatches:
    """Rows that begin with a short piece of text and end in padding.

    Args:
        size: gives rows, context and text.
        pad_share: of each row, in [0, 1).
        counted: whether the padding carries loss.
        seed: of the pieces.
    """

    def __init__(self, size: VariantSize, pad_share: float, *, counted: bool, seed: int) -> None:
        self.pad_share, self.counted = pad_share, counted
        self.context_length = size.context_length
        self.num_text = round((1 - pad_share) * size.context_length)
        text = text_of(size)
        self.padding = text.tokenizer.end_of_text
        self.pieces = TokenBatches(
            text.train, context_length=self.num_text, batch_size=size.rows, seed=seed
        )

    def batch(self, step: int, micro_batch: int = 0) -> Batch:
        """The pieces of this step, padded."""
        return self.padded(self.pieces.batch(step, micro_batch))

    def padded(self, pieces: Batch) -> Batch:
        """Pieces, filled up to the context."""
        room = (0, self.context_length - self.num_text)
        inputs_BT, targets_BT = pieces
        of_padding = self.padding if self.counted else IGNORE
        return (
            nn.functional.pad(inputs_BT, room, value=self.padding),
            nn.functional.pad(targets_BT, room, value=of_padding),
        )


def random_batch(rows: int, num_tokens: int, vocabulary_size: int) -> Batch:
    """Tokens and targets; counts and speed do not depend on what they say."""
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(vocabulary_size, (rows, num_tokens + 1), generator=generator)
    return tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()
