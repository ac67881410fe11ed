"""The two GPT variants beside the GPT, fairly: the same bytes of new text, and two budgets.

`python -m benchmarks.lessons_variants cpu` measures what is missing and keeps each number as soon
as it is known, so a call that was stopped goes on where it was. Its parts:

- unigram, bigram: the loss of guessing by frequency, and by the token before alone.
- rate: the search of each family's learning rate, with another seed and other text.
- causality: which arms' outputs depend on their targets.
- raw: all arms on the same windows of text, for as many steps.
- control: a GPT with the far target of "conv-ahead", as many steps as in "raw".
- padding: short pieces of text, padded; padding counted in the loss, and not.
- compute: arms trained for as many floating-point operations as the GPT of "raw".
- longer: some arms for several times as many steps as in "raw"; is the order still the same?
- longer_compute: some for as many operations as the GPT of "longer".
- model: the kit's other models, for one table of all of them.
- length: seconds, bytes and operations of a step against the length of its rows.
- latency: seconds of a batch and of a forward pass of one row, of every model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from sbldlib.data.batches import sequential_batches
from sbldlib.losses import evaluate_loss
from sbldlib.measure import measure_causality
from sbldlib.measure.scoring import score_frequencies, score_pairs
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

from .lessons_files import Cell, Parts, file_of, known_so_far, run_script
from .lessons_variants_models import latency_cells, length_cells, train_other
from .lessons_variants_sizes import (
    AHEAD,
    ARMS,
    FAMILIES,
    KINDS,
    SHALLOW,
    SIZES,
    PaddedBatches,
    VariantSize,
    batches_of,
    make_model,
    offset_of,
    random_batch,
    text_of,
)
from .lessons_variants_training import arm_cell, describe, score, trained
from .results import FOLDER

SCRIPT = "lessons_variants"
CAUSALITY_TOKENS = 64
Known = Callable[[], Mapping[str, Mapping[str, Any]]]  # the cells so far


def result_path(size: str, folder: Path = FOLDER) -> Path:
    """Where this size's numbers lie among the results."""
    return file_of(SCRIPT, size, folder)


def rate_cells(size: VariantSize) -> Iterator[Cell]:
    """One a family and rate."""
    for family, rate in product(dict.fromkeys(FAMILIES.values()), size.rates):
        yield f"rate/{family}/{rate:g}", partial(_rate, size, family, rate)


def _rate(size: VariantSize, family: str, rate: float) -> dict[str, Any]:
    model = make_model(size, family, size.search_seed)
    data = batches_of(size, family, size.search_seed)
    steps = size.search_steps
    asked: Any = {"budget": Budget(steps=steps), "num_steps": steps, "split": "validation"}
    run = trained(size, family, model, data, rate=rate, **asked)
    return {**describe(run, model), "learning_rate": rate, **run.final}


def best_rate(size: VariantSize, arm: str, known: Known) -> float:
    """The rate whose search ended lowest, for this arm's family.

    Raises:
        ValueError: the search is not there yet.
    """
    family, cells = FAMILIES["gpt" if arm == size.short else arm], known()
    found = {rate: cells.get(f"rate/{family}/{rate:g}") for rate in size.rates}
    if missing := [rate for rate, cell in found.items() if cell is None]:
        raise ValueError(
            f"rate: {family} was not trained with {missing} yet; `--only rate` does it"
        )
    return min(size.rates, key=lambda rate: found[rate]["bits_per_byte"])  # pyright: ignore


def causality_cells(size: VariantSize) -> Iterator[Cell]:
    """One an arm, of untrained weights: what may be seen is decided by the shape."""
    for arm in ARMS:
        yield f"causality/{arm}", partial(_causality, size, arm)


def _causality(size: VariantSize, arm: str) -> dict[str, Any]:
    model = make_model(size, arm, 0)
    length = min(CAUSALITY_TOKENS, size.context_length)
    tokens_BT, _ = random_batch(1, length, size.vocabulary_size)
    found = measure_causality(model, tokens_BT, offset=offset_of(size, arm))
    return {
        "offset": found.offset,
        "num_tokens": found.num_tokens,
        "num_leaks": len(found.leaks),
        "lookahead": found.lookahead,
        "is_causal": found.is_causal,
    }


def padding_cells(size: VariantSize, known: Known) -> Iterator[Cell]:
    """One a share, whether padding is counted, and seed."""
    for share in size.pad_shares:
        seeds = size.seeds if share == size.pad_shares[0] else size.seeds[:1]
        for seed, counted in product(seeds, (True, False)):
            name = f"padding/{share:g}/{'counted' if counted else 'ignored'}/{seed}"
            yield name, partial(_padding, size, share, counted, seed, known)


def _padding(
    size: VariantSize, share: float, counted: bool, seed: int, known: Known
) -> dict[str, Any]:
    model, rate = make_model(size, "conv", seed), best_rate(size, "conv", known)
    data = PaddedBatches(size, share, counted=counted, seed=seed)
    run = train(
        model,
        data,
        make_optimizer(model, learning_rate=rate),
        config=TrainConfig(budget=Budget(steps=size.pad_steps)),
    )
    num_text, tokens = data.num_text, text_of(size).test.tokens[size.first_target - 1 :]
    num_batches = max(1, size.num_targets // (num_text * size.rows))
    pieces = sequential_batches(tokens, num_text, size.rows, num_batches)
    as_counted = evaluate_loss(model, [data.padded(batch) for batch in pieces])
    on_text = score(size, model, context_length=num_text)
    return {
        **describe(run, model),
        "pad_share": 1 - num_text / size.context_length,
        "counted": counted,
        "learning_rate": rate,
        "loss_as_counted": as_counted,
        "loss_on_text": on_text.nats,
        "bits_per_byte_on_text": on_text.bits_per_byte,
        "accuracy_on_text": on_text.accuracy,
        "num_targets": on_text.num_targets,
        "num_bytes": on_text.num_bytes,
    }


def model_cells(size: VariantSize) -> Iterator[Cell]:
    """One of each of the kit's other models."""
    for name in size.other_models:
        once: Any = {"rate": lambda: size.other_rate, "budget": "steps"}
        measure = (
            partial(arm_cell, size, name, 0, **once)
            if name in KINDS
            else partial(train_other, size, name)
        )
        yield f"model/{name}/0", measure


def _counted_cells(size: VariantSize, *, part: str) -> Iterator[Cell]:
    def measure() -> dict[str, Any]:
        text, score_counts = text_of(size), {"unigram": score_frequencies, "bigram": score_pairs}
        asked = {"first_target": size.first_target, "num_targets": size.num_targets}
        return asdict(score_counts[part](text.train, text.test, text.tokenizer, **asked))

    yield part, measure


def _arm_cells(size: VariantSize, known: Known, *, part: str) -> Iterator[Cell]:
    compared = ("conv", "stack", size.short, SHALLOW, "diverging", "conv-ahead")
    arms = {"raw": tuple(ARMS), "compute": compared, "control": (AHEAD,)}[part]
    budget = "flops" if part == "compute" else "steps"
    order = [(seed, arm) for seed in size.seeds for arm in arms]
    if part == "compute":  # seeds of the arms that may gain by it first
        order = [(seed, arm) for arm in arms for seed in size.seeds]
    for seed, arm in order:
        rate = partial(best_rate, size, arm, known)
        yield f"{part}/{arm}/{seed}", partial(arm_cell, size, arm, seed, rate=rate, budget=budget)


def longer_cells(size: VariantSize, known: Known, *, part: str) -> Iterator[Cell]:
    """One an arm and seed, each at the rate of the shorter trainings; a sequence model has one."""
    budget, arms = {
        "longer": ("steps", size.longer_arms),
        "longer_compute": ("flops", ("conv", "stack", SHALLOW, size.short)),
    }[part]
    for arm in arms:
        searched = partial(best_rate, size, arm, known)
        rate = (lambda: size.other_rate) if arm in KINDS else searched
        asked: Any = {"rate": rate, "budget": budget, "times": size.longer}
        for seed in size.seeds[:1] if arm in KINDS else size.seeds:
            yield f"{part}/{arm}/{seed}", partial(arm_cell, size, arm, seed, **asked)


def cells_at(path: Path) -> Parts:
    """Every part's cells; those that rest on others read them in this file."""

    def known_at(size: VariantSize) -> Known:
        return lambda: known_so_far(size, path).cells

    return {
        "unigram": partial(_counted_cells, part="unigram"),
        "bigram": partial(_counted_cells, part="bigram"),
        "causality": causality_cells,
        "rate": rate_cells,
        "raw": lambda size: _arm_cells(size, known_at(size), part="raw"),
        "control": lambda size: _arm_cells(size, known_at(size), part="control"),
        "padding": lambda size: padding_cells(size, known_at(size)),
        "compute": lambda size: _arm_cells(size, known_at(size), part="compute"),
        "longer": lambda size: longer_cells(size, known_at(size), part="longer"),
        "longer_compute": lambda size: longer_cells(size, known_at(size), part="longer_compute"),
        "model": model_cells,
        "length": length_cells,
        "latency": latency_cells,
    }


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_script(SCRIPT, SIZES, cells_at, arguments)


if __name__ == "__main__":
    sys.exit(main())
