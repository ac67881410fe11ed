"""The kit's models with a task of their own, and what every model's steps and passes take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from statistics import fmean
from typing import Any

import torch
from torch import nn

from sbldlib.data.masking import PairData, prepare_pairs
from sbldlib.data.number_words import generate_pairs
from sbldlib.data.translation import (
    TranslationBatches,
    Vocabulary,
    encode_pairs,
    exact_match_by_direction,
    make_vocabulary,
)
from sbldlib.losses import next_token_loss
from sbldlib.measure import count_flops, count_saved_bytes
from sbldlib.models.bert import Bert
from sbldlib.models.bert_objectives import bert_loss, score_bert
from sbldlib.models.diverging_gpt import DivergingGPT
from sbldlib.models.encoder_decoder import EncoderDecoder, shift_right, translation_loss
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

from .common import Setting, bare_step
from .lessons_files import Cell
from .lessons_variants_sizes import KINDS, VariantSize, make_model, random_batch
from .lessons_variants_training import end_of
from .timing import interleave

PAIR_CONTEXT, PAIR_ROWS, HIGHEST = 16, 64, 999
DIRECTIONS = ("en-de", "digits-en")
BERT_CONTEXT, BERT_ROWS, BERT_EVALUATED = 64, 8, 128
LATENT = ("gpt", "conv", "conv-ahead", "diverging", "stack")
COUNTED = (1, 2)  # multiples of the innermost group at which operations are counted


def train_other(size: VariantSize, name: str) -> dict[str, Any]:
    """Train BERT, or the encoder-decoder, on its own task, and judge it there."""
    return _train_bert(size) if name == "bert" else _train_pairs(size)


def _train_bert(size: VariantSize) -> dict[str, Any]:
    data = _pair_data(size)
    model = _bert(size, data)
    found = _trained(size, model, data.train, bert_loss, size.bert_steps)
    scores = score_bert(model, data.validation)
    return {
        **found,
        "context_length": BERT_CONTEXT,
        "rows": BERT_ROWS,
        "masked_nats": scores.masked_nats,
        "masked_accuracy": scores.masked_accuracy,
        "at_mask_accuracy": scores.at_mask_accuracy,
        "most_frequent": scores.most_frequent,
        "next_sentence_accuracy": scores.next_sentence_accuracy,
        "num_masked": scores.num_masked,
    }


def _train_pairs(size: VariantSize) -> dict[str, Any]:
    vocabulary = make_vocabulary("word")
    model = _encoder_decoder(size, vocabulary)
    data = TranslationBatches(
        vocabulary,
        directions=DIRECTIONS,
        highest=HIGHEST,
        context_length=PAIR_CONTEXT,
        batch_size=PAIR_ROWS,
    )
    found = _trained(size, model, data, translation_loss, size.pair_steps)
    pairs = generate_pairs(DIRECTIONS, None, "test", highest=HIGHEST)
    right = exact_match_by_direction(model, pairs, vocabulary)
    return {
        **found,
        "context_length": PAIR_CONTEXT,
        "rows": PAIR_ROWS,
        "exact_match": fmean(right.values()),
        "num_pairs": len(pairs),
    }


def _trained(size: VariantSize, model: Any, data: Any, loss: Any, num_steps: int) -> dict[str, Any]:
    """Train for so many steps; what a cell says of it."""
    run = train(
        model,
        data,
        make_optimizer(model, learning_rate=size.other_rate),
        config=TrainConfig(budget=Budget(steps=num_steps)),
        loss=loss,
    )
    return {
        "steps": num_steps,
        "learning_rate": size.other_rate,
        "num_parameters": model.num_parameters(),
        "train_nats": end_of(run.losses),
        "training_seconds": run.seconds,
    }


@lru_cache(maxsize=2)
def _pair_data(size: VariantSize) -> PairData:
    """Sentences of the same library; a tokenizer of their own."""
    return prepare_pairs(
        vocabulary_size=size.vocabulary_size,
        context_length=BERT_CONTEXT,
        batch_size=BERT_ROWS,
        validation_batches=BERT_EVALUATED,
        max_bytes=size.max_bytes,
    )


def _bert(size: VariantSize, data: PairData) -> Bert:
    model = Bert.from_preset(
        "tiny",
        vocabulary_size=data.vocabulary_size,
        context_length=BERT_CONTEXT,
        **data.symbols._asdict(),
    )
    return model.to(size.device).train()


def _encoder_decoder(size: VariantSize, vocabulary: Vocabulary) -> EncoderDecoder:
    model = EncoderDecoder.from_preset(
        "tiny", vocabulary_size=vocabulary.vocabulary_size, context_length=PAIR_CONTEXT
    )
    return model.to(size.device).train()


def length_cells(size: VariantSize) -> Iterator[Cell]:
    """One a model and length; all of them are timed in turn, with the first that is missing."""
    for length in size.lengths:
        for arm in ("gpt", "conv"):
            yield f"length/{arm}/{length}", partial(_length, size, arm, length)


def _length(size: VariantSize, arm: str, length: int) -> dict[str, Any]:
    rows = max(1, size.tokens_per_step // length)
    model = make_model(size, arm, 0, context_length=length)
    batch = random_batch(rows, length, size.vocabulary_size)
    return {
        "seconds": seconds_by_length(size)[f"{arm}/{length}"],
        "saved_bytes": count_saved_bytes(model, batch).full,
        "flops": rows * length * flops_a_token(size, arm, length),
        "tokens": rows * length,
    }


@lru_cache(maxsize=1)
def seconds_by_length(size: VariantSize) -> dict[str, list[float]]:
    """Forward and backward of one step of each model at each length, interleaved."""
    arms: dict[str, Callable[[], object]] = {}
    setting = _setting(size)
    for length in size.lengths:
        rows = max(1, size.tokens_per_step // length)
        for arm in ("gpt", "conv"):
            model = make_model(size, arm, 0, context_length=length)
            batch = _moved(random_batch(rows, length, size.vocabulary_size), size)
            arms[f"{arm}/{length}"] = bare_step(model, batch, setting)
    return interleave(arms, rounds=size.rounds, warmup=1, clock=setting.clock, wait=setting.wait)


def flops_a_token(size: VariantSize, arm: str, length: int) -> float:
    """Operations of forward and backward a token: a line in the length, counted at two lengths.

    So that no T x T matrix of a long row must be held to count it.
    """
    span = getattr(make_model(size, "conv", 0).config, "span", 1)
    short, longer = (multiple * span for multiple in COUNTED)
    counted = []
    for each in (short, longer):
        batch = random_batch(1, each, size.vocabulary_size)
        model = make_model(size, arm, 0, context_length=each)
        counted.append(count_flops(model, batch).full / each)
    slope = (counted[1] - counted[0]) / (longer - short)
    return counted[0] + slope * (length - short)


def latency_cells(size: VariantSize) -> Iterator[Cell]:
    """One for all models, that they may be timed in turn."""
    yield "latency", partial(_latency, size)


def _latency(size: VariantSize) -> dict[str, Any]:
    """A whole training step on one batch, and a forward pass of one row, of every model."""
    steps, forwards = {}, {}
    setting = _setting(size)
    for name, (model, batch, loss, forward) in _timed_models(size).items():
        optimizer = make_optimizer(model)
        steps[name] = bare_step(model, batch, setting, optimizer=optimizer, loss=loss)
        forwards[name] = _forward(model, forward, setting)
    arms = {f"{name} batch": step for name, step in steps.items()}
    arms |= {f"{name} forward": forward for name, forward in forwards.items()}
    rounds = interleave(arms, rounds=size.rounds, clock=setting.clock, wait=setting.wait)
    seconds = {
        name: {what: rounds[f"{name} {what}"] for what in ("batch", "forward")} for name in steps
    }
    return {"seconds": seconds, "clock": setting.clock_name}


def _timed_models(size: VariantSize) -> dict[str, tuple[Any, Any, Any, Callable[[Any], Any]]]:
    """Name -> model, a batch, its loss, and a forward pass of one row."""
    found: dict[str, tuple[Any, Any, Any, Callable[[Any], Any]]] = {}
    for name in (*LATENT, size.short, *(kind for kind in size.other_models if kind in KINDS)):
        model = make_model(size, name, 0)
        if isinstance(model, DivergingGPT):
            while model.stage < model.num_stages - 1:
                model.grow()
        shape = (size.rows_of(name), size.context_of(name))
        batch = _moved(random_batch(*shape, size.vocabulary_size), size)
        found[name] = (model, batch, next_token_loss, _on_first_row(batch[0]))
    if "bert" in size.other_models:
        data = _pair_data(size)
        batch = {key: value.to(size.device) for key, value in data.train.batch(0).items()}
        found["bert"] = (_bert(size, data), batch, bert_loss, _on_first_row(batch["input_ids"]))
    if "encoder_decoder" in size.other_models:
        vocabulary = make_vocabulary("word")
        pairs = generate_pairs(DIRECTIONS, PAIR_ROWS, highest=HIGHEST)
        batch = _moved(encode_pairs(pairs, vocabulary, context_length=PAIR_CONTEXT), size)
        read = shift_right(batch[1], start=vocabulary.start, padding=vocabulary.padding)
        forward = _on_first_row(batch[0], read)
        found["encoder_decoder"] = (
            _encoder_decoder(size, vocabulary),
            batch,
            translation_loss,
            forward,
        )
    return found


def _on_first_row(*inputs: torch.Tensor) -> Callable[[nn.Module], object]:
    rows = [tensor[:1] for tensor in inputs]
    return lambda model: model(*rows)


def _forward(
    model: nn.Module, forward: Callable[[nn.Module], object], setting: Setting
) -> Callable[[], None]:
    def timed() -> None:
        with torch.no_grad(), setting.autocast():
            forward(model)

    return timed


def _setting(size: VariantSize) -> Setting:
    """What times a step at this size: its clock, and its precision."""
    return Setting(
        name=size.preset,
        preset=size.preset,
        batch_size=size.rows,
        num_tokens=size.context_length,
        device=size.device,
    )


def _moved(batch: tuple[torch.Tensor, torch.Tensor], size: VariantSize) -> Any:
    return tuple(part.to(size.device) for part in batch)
