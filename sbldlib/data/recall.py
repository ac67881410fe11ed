"""Recall: one marked symbol, many that are not, and the question which one was marked.

Tokens 0..S-1 are the symbols, S..2S-1 the same symbols marked, 2S is the question. A row is
unmarked symbols drawn at random, one of them marked `distance` tokens before the question, which
comes last; its answer, the symbol without its mark, is the only target. Who cannot carry the
symbol over that distance can only guess: one in S is right.

Legend: B batch, T tokens, V vocabulary, S symbols.

Source: [S] the long-lag tasks of Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural
Computation 9(8), 1997, doi 10.1162/neco.1997.9.8.1735; [O] this form of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import check_kind, check_positive_int, check_seed, items, shown
from .batches import IGNORE, Batch
from .draws import Draws

MAX_SYMBOLS = 2**20


@dataclass(frozen=True, kw_only=True)
class RecallTask:
    """Batches of the recall task, each a pure function of (seed, step, micro-batch).

    Attributes:
        num_symbols: S, >= 2.
        context_length: T, tokens a row, the question among them, >= 2.
        batch_size: B, rows a batch.
        distances: tokens from the marked symbol to the question, each in 1..T-1; every row draws
            one of them. () is all of them.
        seed: a whole number >= 0.

    Raises:
        ValueError: a value outside its range, named with its field.
    """

    num_symbols: int = 8
    context_length: int
    batch_size: int = 32
    distances: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        symbols = check_positive_int(
            "num_symbols", self.num_symbols, minimum=2, maximum=MAX_SYMBOLS
        )
        object.__setattr__(self, "num_symbols", symbols)
        length = check_positive_int("context_length", self.context_length, minimum=2)
        object.__setattr__(self, "context_length", length)
        object.__setattr__(self, "batch_size", check_positive_int("batch_size", self.batch_size))
        named = tuple(items("distances", self.distances)) or range(1, length)
        distances = tuple(check_distance("distances", each, length) for each in named)
        object.__setattr__(self, "distances", distances)
        object.__setattr__(self, "seed", check_seed("seed", self.seed))

    @property
    def vocabulary_size(self) -> int:
        """V: the symbols, the same marked, and the question."""
        return 2 * self.num_symbols + 1

    @property
    def question(self) -> int:
        """The token that asks."""
        return 2 * self.num_symbols

    @property
    def chance_level(self) -> float:
        """The share that a guess gets right."""
        return 1 / self.num_symbols

    def batch(self, step: int, micro_batch: int = 0) -> Batch:
        """B rows at distances of their own; targets are -100 but for each row's last."""
        draws = Draws("recall", self.seed, micro_batch, step)
        places = draws.integers(len(self.distances), self.batch_size)
        return self._rows(draws, [self.distances[place] for place in places])

    def examples(self, distance: int, num: int, seed: int = 0) -> Batch:
        """Rows at one distance that training is not drawn from.

        Args:
            distance: in 1..T-1; it need not be one of `distances`.
            num: rows, >= 1.
            seed: other rows for another one; a whole number >= 0.

        Raises:
            ValueError: a distance that does not fit the row, or a value out of range.
        """
        distance = check_distance("distance", distance, self.context_length)
        num = check_positive_int("num", num)
        draws = Draws("recall examples", self.seed, check_seed("seed", seed), distance)
        return self._rows(draws, [distance] * num)

    def _rows(self, draws: Draws, distances: list[int]) -> Batch:
        B, T, S = len(distances), self.context_length, self.num_symbols
        inputs_BT = torch.from_numpy(draws.integers(S, B * T).reshape(B, T))
        rows_B = torch.arange(B)
        marked_B = T - 1 - torch.tensor(distances)
        answers_B = inputs_BT[rows_B, marked_B]
        inputs_BT[rows_B, marked_B] = answers_B + S
        inputs_BT[:, -1] = self.question
        targets_BT = torch.full_like(inputs_BT, IGNORE)
        targets_BT[:, -1] = answers_B
        return inputs_BT, targets_BT


def check_distance(field: str, distance: int, context_length: int) -> int:
    """The distance, or ValueError where no row of this length holds it."""
    number = check_positive_int(field, distance)
    if number >= context_length:
        raise ValueError(
            f"{field}={shown(distance)} does not fit a row of context_length={context_length}, "
            f"whose question comes last; the furthest is {context_length - 1}"
        )
    return number


def recall_accuracy(
    model: nn.Module,
    task: RecallTask,
    distances: Iterable[int] | None = None,
    *,
    num_rows: int = 256,
    batch_size: int = 64,
    seed: int = 0,
) -> dict[int, float]:
    """Distance -> the share of rows whose likeliest symbol is the marked one, in [0, 1].

    The model runs in evaluation mode, restored after. With n rows at accuracy a the standard error
    is (a (1 - a) / n) ** 0.5.

    Args:
        model: maps tokens [B, T] to logits [B, T, V], or to an output with `.logits`.
        task: gives the rows; none of them is one that training draws.
        distances: those asked; None is the task's own.
        num_rows: rows a distance.
        batch_size: rows a forward pass.
        seed: of the rows.

    Raises:
        ValueError: no distance, one that does not fit, or a value out of range.
    """
    task = check_kind("task", task, RecallTask, "a RecallTask")
    named = task.distances if distances is None else tuple(items("distances", distances))
    if not named:
        raise ValueError("distances=() names no distance; at least one is needed")
    asked = [check_distance("distances", each, task.context_length) for each in named]
    batch_size = check_positive_int("batch_size", batch_size)
    was_training = model.training
    model.eval()
    try:
        return {
            distance: _share_right(model, task.examples(distance, num_rows, seed), batch_size)
            for distance in asked
        }
    finally:
        model.train(was_training)


@torch.no_grad()
def _share_right(model: nn.Module, batch: Batch, batch_size: int) -> float:
    inputs_BT, targets_BT = batch
    device, right = next(model.parameters()).device, 0
    parts = zip(inputs_BT.split(batch_size), targets_BT.split(batch_size), strict=True)
    for tokens_BT, answers_BT in parts:
        output = model(tokens_BT.to(device))
        logits_BTV: Tensor = getattr(output, "logits", output)
        right += int((logits_BTV[:, -1].argmax(-1).cpu() == answers_BT[:, -1]).sum())
    return right / len(inputs_BT)
