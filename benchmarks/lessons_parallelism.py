"""What must wait for what, and how far each model looks: the figures of the first lesson.

`python -m benchmarks.lessons_parallelism cpu` measures what is missing and keeps each number as
soon as it is known, so a call that was stopped goes on where it was. Four parts:

- counts: longest path, operations and FLOPs of a forward pass against its tokens; exact.
- seconds: of a step at one number of tokens, cut into sequences of several lengths, with one thread
  and with two, or on a GPU.
- alone: the recall task at one distance a training, and how far the gradient reaches before and
  after it.
- together: the same with all distances in one training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from sbldlib.data.recall import RecallTask, recall_accuracy
from sbldlib.losses import next_token_loss
from sbldlib.measure import measure_parallelism, measure_reach
from sbldlib.models.recurrent import KINDS, SequenceConfig, SequenceModel, same_budget
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

from .lessons_files import Cell, file_of, run_script, short
from .lessons_files import LessonResults as LessonResults
from .lessons_sizes import SIZES, VARIANTS, Size
from .results import FOLDER
from .timing import interleave

SCRIPT = "lessons_parallelism"
REACH_ROWS = 8  # a distance


def result_path(size: str, folder: Path = FOLDER) -> Path:
    """Where this size's numbers lie among the results."""
    return file_of(SCRIPT, size, folder)


def base_config(size: Size, num_tokens: int) -> SequenceConfig:
    """Attention's, whose number of weights the other kinds meet."""
    vocabulary_size = RecallTask(num_symbols=size.num_symbols, context_length=2).vocabulary_size
    return SequenceConfig(
        kind="attention",
        vocabulary_size=vocabulary_size,
        context_length=num_tokens,
        width=size.width,
    )


def configs_at(size: Size, num_tokens: int) -> dict[str, SequenceConfig]:
    """Every kind for sequences of this length, at the widths that the task's length gives them."""
    widths = same_budget(base_config(size, size.context_length), tolerance=0.2)
    return {kind: replace(widths[kind], context_length=num_tokens) for kind in KINDS}


def random_batch(config: SequenceConfig, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and targets; counts and speed do not depend on what they say."""
    generator = torch.Generator().manual_seed(0)
    shape = (rows, config.context_length + 1)
    tokens_BT = torch.randint(config.vocabulary_size, shape, generator=generator)
    return tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()


def count_cells(size: Size) -> Iterator[Cell]:
    """One a kind and length."""
    for num_tokens in size.count_lengths:
        for kind, config in configs_at(size, num_tokens).items():
            yield f"counts/{kind}/{num_tokens}", partial(_counts, config)


def _counts(config: SequenceConfig) -> dict[str, Any]:
    rows = 2  # one row alone would let torch fold its matrices otherwise
    counted = measure_parallelism(SequenceModel(config), random_batch(config, rows))
    kept = ("longest_path", "num_nodes", "num_operations", "flops")
    values = {name: getattr(counted, name) for name in kept}
    per_step = counted.flops_per_step
    return {**values, "flops_per_step": per_step, "rows": rows, "config": asdict(config)}


def time_cells(size: Size) -> Iterator[Cell]:
    """One a kind and length, all numbers of threads in it, round after round in turn."""
    for num_tokens in size.time_lengths:
        for kind, config in configs_at(size, num_tokens).items():
            yield f"seconds/{kind}/{num_tokens}", partial(_seconds, size, config)


def _seconds(size: Size, config: SequenceConfig) -> dict[str, Any]:
    rows = max(1, size.tokens_per_step // config.context_length)
    model = SequenceModel(config).to(size.device)
    inputs_BT, targets_BT = (part.to(size.device) for part in random_batch(config, rows))

    def step() -> None:
        model.zero_grad(set_to_none=True)
        next_token_loss(model, (inputs_BT, targets_BT)).backward()

    arms = {str(threads): _with_threads(threads, step) for threads in size.threads}
    wait = torch.cuda.synchronize if size.device == "cuda" else lambda: None
    rounds = interleave(arms, rounds=size.rounds, wait=wait)
    return {"rows": rows, "seconds_by_threads": rounds, "config": asdict(config)}


def _with_threads(threads: int, step: Callable[[], None]) -> Callable[[], None]:
    """The step on so many threads; the process has its own number again after it."""

    def timed() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            step()
        finally:
            torch.set_num_threads(before)

    return timed


def alone_cells(size: Size) -> Iterator[Cell]:
    """One a variant, distance and seed: a training on rows that are no longer than the distance."""
    for seed, distance, variant in product(size.seeds, size.distances, VARIANTS):
        name, asked = f"alone/{variant}/{distance}/{seed}", (distance,)
        yield name, partial(_recall, size, variant, seed, distance + 1, asked)


def together_cells(size: Size) -> Iterator[Cell]:
    """One a variant and seed: a training on all distances at once, the near ones to learn from."""
    for seed, variant in product(size.seeds, VARIANTS):
        name = f"together/{variant}/{seed}"
        yield name, partial(_recall, size, variant, seed, size.context_length, size.distances)


def _recall(
    size: Size, variant: str, seed: int, context_length: int, distances: tuple[int, ...]
) -> dict[str, Any]:
    kind, changes = VARIANTS[variant]
    config = replace(configs_at(size, context_length)[kind], **changes)
    task = RecallTask(
        num_symbols=size.num_symbols,
        context_length=context_length,
        batch_size=size.batch_size,
        distances=distances,
        seed=seed,
    )
    model = SequenceModel(config, seed).to(size.device)
    untrained = _reach(model, task, seed)
    optimizer = make_optimizer(model, learning_rate=size.learning_rate)
    run = train(
        model,
        task,
        optimizer,
        config=TrainConfig(budget=Budget(steps=size.num_steps), precision="float32"),
    )
    accuracy = recall_accuracy(model, task, num_rows=size.num_rows, seed=seed)
    return {
        "untrained": untrained,
        "trained": _reach(model, task, seed),
        "accuracy": {str(distance): share for distance, share in accuracy.items()},
        "chance_level": task.chance_level,
        "losses_nats": short(record.loss_nats for record in run.steps),
        "training_seconds": run.seconds,
        "num_parameters": model.num_parameters(),
        "config": asdict(config),
    }


def _reach(model: SequenceModel, task: RecallTask, seed: int) -> dict[str, Any]:
    """Relative gradients: of every distance, and of those at which the marked symbol lies.

    A model that has learnt where to look reaches far where the mark is far, and not elsewhere: so
    the rows are those of all the task's distances in turn.
    """
    measured = {
        distance: measure_reach(model, task.examples(distance, REACH_ROWS, seed)[0], seed=seed)
        for distance in task.distances
    }
    profiles = [reach.relative for reach in measured.values()]
    return {
        "reach": short(fmean(values) for values in zip(*profiles, strict=True)),
        "reach_at_mark": {str(d): reach.relative[d] for d, reach in measured.items()},
    }


CELLS = {
    "counts": count_cells,
    "seconds": time_cells,
    "alone": alone_cells,
    "together": together_cells,
}


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_script(SCRIPT, SIZES, lambda _: CELLS, arguments)


if __name__ == "__main__":
    sys.exit(main())
