"""Batches as pure functions of (seed, step, micro-batch, rank): nothing to save, exact resume.

Legend: B batch (rows), T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..errors import check_choice, check_kind, check_positive_int, check_seed, items, shown
from .arithmetic import check_depth, check_kinds, draw_problem
from .draws import Draws
from .tokenizer import Tokenizer
from .tokens import TokenFile

Batch = tuple[Tensor, Tensor]
IGNORE = -100  # a target that carries no loss, torch's own default
LOSSES = ("answers", "all")


@runtime_checkable
class BatchSource(Protocol):
    """Anything that gives (inputs_BT, targets_BT), int64, as a pure function of the arguments."""

    def batch(self, step: int, micro_batch: int = 0) -> Batch:
        """The batch of this step and micro-batch."""
        ...


def check_vocabulary(source: TokenFile | Tokenizer | int, vocabulary_size: int) -> None:
    """Raise ValueError where tokens of the source could lie outside a model's vocabulary.

    Args:
        source: whatever has a vocabulary_size, or that number.
        vocabulary_size: of the model; a larger one than the source's is fine (padding).
    """
    right = "a number of tokens, a Tokenizer or a TokenFile"
    known = (TokenFile, Tokenizer)
    is_number = hasattr(source, "__index__")
    if not is_number:
        check_kind("source", source, known, right)
    needed = check_positive_int("source", source if is_number else source.vocabulary_size)  # pyright: ignore
    if needed > check_positive_int("vocabulary_size", vocabulary_size):
        raise ValueError(
            f"vocabulary_size={vocabulary_size} of the model is smaller than the tokens' {needed}; "
            f"build the model with vocabulary_size={needed}"
        )


class TokenBatches:
    """Blocks of a long text at places drawn anew for every batch.

    Args:
        tokens: a token file, or token numbers in one dimension.
        context_length: T, tokens a row.
        batch_size: B, rows a batch.
        seed: a whole number >= 0.
        rank: this process's number; each rank draws other places.
        vocabulary_size: the model's, where it should be held against the tokens'.
        offset: how many tokens after an input its target stands, >= 1; another one than 1 is for
            models that predict further ahead.

    Raises:
        ValueError: a text shorter than one block, a size below 1, or tokens that the model's
            vocabulary lacks.
    """

    def __init__(
        self,
        tokens: TokenFile | np.ndarray | Tensor,
        *,
        context_length: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        vocabulary_size: int | None = None,
        offset: int = 1,
    ) -> None:
        self.context_length = check_positive_int("context_length", context_length)
        self.batch_size = check_positive_int("batch_size", batch_size)
        self.seed, self.rank = check_seed("seed", seed), check_seed("rank", rank)
        self.offset = check_positive_int("offset", offset)
        self.tokens = _token_array(tokens, context_length, self.offset)
        if vocabulary_size is not None:
            known = isinstance(tokens, TokenFile)
            check_vocabulary(tokens if known else int(self.tokens.max()) + 1, vocabulary_size)

    def batch(self, step: int, micro_batch: int = 0) -> Batch:
        """B rows of T tokens, each target the token `offset` places after its input."""
        draws = Draws("tokens", self.seed, self.rank, micro_batch, step)
        num_places = len(self.tokens) - self.context_length - self.offset + 1
        starts_B = draws.integers(num_places, self.batch_size)
        return _blocks(self.tokens, starts_B, self.context_length, self.offset)


class ProblemBatches:
    """Arithmetic problems of the train split, other ones every step, several packed into a row.

    Args:
        tokenizer: turns prompts and answers into tokens.
        kinds, depth: as in `generate_problems`.
        context_length: T, tokens a row; what no problem fills is padding without loss.
        batch_size: B, rows a batch.
        seed: a whole number >= 0.
        rank: this process's number; each rank draws other problems.
        loss_on: "answers", or "all" to learn the prompts as well.

    Raises:
        ValueError: an unknown kind or loss_on, a size below 1; from `batch`, a problem that is
            longer than a row.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        kinds: str | Sequence[str],
        depth: int = 1,
        context_length: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        loss_on: str = "answers",
    ) -> None:
        right = "a Tokenizer, as train_tokenizer returns it"
        self.tokenizer = check_kind("tokenizer", tokenizer, Tokenizer, right)
        self.kinds = check_kinds(kinds)
        self.depth = check_depth(depth)
        self.context_length = check_positive_int("context_length", context_length)
        self.batch_size = check_positive_int("batch_size", batch_size)
        self.seed, self.rank = check_seed("seed", seed), check_seed("rank", rank)
        self.loss_on = check_choice("loss_on", loss_on, LOSSES)

    def batch(self, step: int, micro_batch: int = 0) -> Batch:
        """B rows of T tokens; targets are -100 where no loss is asked."""
        draws = Draws("problem batches", self.seed, self.rank, micro_batch, step)
        shape = (self.batch_size, self.context_length + 1)
        tokens_BT = torch.full(shape, self.tokenizer.end_of_text, dtype=torch.int64)
        targets_BT = torch.full(shape, IGNORE, dtype=torch.int64)
        for row in range(self.batch_size):
            tokens, targets = self._row(draws)
            tokens_BT[row, : len(tokens)] = torch.tensor(tokens)
            targets_BT[row, : len(targets)] = torch.tensor(targets)
        return tokens_BT[:, :-1].contiguous(), targets_BT[:, 1:].contiguous()

    def _row(self, draws: Draws) -> tuple[list[int], list[int]]:
        """As many problems as fit, and what is to be learnt of them."""
        tokens: list[int] = []
        targets: list[int] = []
        while True:
            kind = self.kinds[draws.below(len(self.kinds))]
            problem = draw_problem(kind, self.depth, "train", draws)
            prompt = self.tokenizer.encode(problem.prompt)
            answer = self.tokenizer.encode(problem.answer)
            if len(tokens) + len(prompt) + len(answer) > self.context_length + 1:
                if tokens:
                    return tokens, targets
                raise ValueError(
                    f"context_length={self.context_length} is too short for "
                    f"{problem.prompt + problem.answer!r} of {len(prompt) + len(answer)} tokens"
                )
            tokens += prompt + answer
            targets += (prompt if self.loss_on == "all" else [IGNORE] * len(prompt)) + answer


class MixedBatches:
    """A fixed number of rows of each source, in their order.

    Args:
        sources: each gives at least its number of rows, all of one context length.
        num_rows: rows of each source, >= 1.

    Raises:
        ValueError: lengths that differ, a number below 1; from `batch`, a source with too few
            rows or another context length.
    """

    def __init__(self, sources: Sequence[BatchSource], num_rows: Sequence[int]) -> None:
        self.sources = tuple(items("sources", sources))
        self.num_rows = tuple(
            check_positive_int("num_rows", num) for num in items("num_rows", num_rows)
        )
        if not self.sources or len(self.sources) != len(self.num_rows):
            raise ValueError(
                f"num_rows={self.num_rows!r} must hold one number for each of the "
                f"{len(self.sources)} sources, and there must be one"
            )
        for place, source in enumerate(self.sources):
            if not isinstance(source, BatchSource):
                raise ValueError(f"sources[{place}]={shown(source)} must have .batch(step)")
        self.batch_size = sum(self.num_rows)

    def batch(self, step: int, micro_batch: int = 0) -> Batch:
        """The sources' rows of this step, one below the other."""
        parts = [source.batch(step, micro_batch) for source in self.sources]
        for place, ((inputs_BT, _), num) in enumerate(zip(parts, self.num_rows, strict=True)):
            if len(inputs_BT) < num:
                raise ValueError(
                    f"sources[{place}] gives {len(inputs_BT)} rows where num_rows asks for {num}"
                )
        widths = sorted({inputs_BT.shape[1] for inputs_BT, _ in parts})
        if len(widths) > 1:
            raise ValueError(f"the sources' context lengths differ: {widths}")
        pairs = [
            (inputs_BT[:num], targets_BT[:num])
            for (inputs_BT, targets_BT), num in zip(parts, self.num_rows, strict=True)
        ]
        inputs, targets = zip(*pairs, strict=True)
        return torch.cat(inputs), torch.cat(targets)


def sequential_batches(
    tokens: TokenFile | np.ndarray | Tensor,
    context_length: int,
    batch_size: int,
    num_batches: int | None = None,
    *,
    offset: int = 1,
) -> tuple[Batch, ...]:
    """The first batches of a text, in order and without overlap: the same ones for everyone.

    Args:
        tokens: a token file, or token numbers in one dimension.
        context_length, batch_size: T tokens a row, B rows a batch.
        num_batches: how many; None for all whole ones.
        offset: how many tokens after an input its target stands, >= 1.

    Raises:
        ValueError: a size below 1, or a text too short for the batches asked.
    """
    context_length = check_positive_int("context_length", context_length)
    batch_size = check_positive_int("batch_size", batch_size)
    offset = check_positive_int("offset", offset)
    array = _token_array(tokens, context_length, offset)
    available = (len(array) - offset) // context_length // batch_size
    asked = check_positive_int(
        "num_batches", max(available, 1) if num_batches is None else num_batches
    )
    if asked > available:
        needed = asked * batch_size * context_length + offset
        raise ValueError(
            f"num_batches={asked} of batch_size={batch_size} and context_length={context_length} "
            f"need {needed} tokens; the text has {len(array)}, enough for {available}"
        )
    starts = np.arange(asked * batch_size) * context_length
    return tuple(
        _blocks(array, starts_B, context_length, offset)
        for starts_B in starts.reshape(asked, batch_size)
    )


def _token_array(
    tokens: TokenFile | np.ndarray | Tensor, context_length: int, offset: int
) -> np.ndarray:
    """The tokens in one dimension, at least one block and its last target long."""
    array = tokens.tokens if isinstance(tokens, TokenFile) else np.asarray(tokens)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"tokens={shown(tokens)} of shape {array.shape} and type {array.dtype} must be whole "
            "numbers in one dimension"
        )
    if array.dtype.kind == "i" and len(array) and array.min() < 0:
        raise ValueError(f"tokens={shown(tokens)} hold {array.min()}; each must be at least 0")
    if len(array) < context_length + offset:
        raise ValueError(
            f"context_length={context_length} needs {context_length + offset} tokens; the text has "
            f"{len(array)}: give more text or a shorter context"
        )
    return array


def _blocks(array: np.ndarray, starts_B: np.ndarray, context_length: int, offset: int) -> Batch:
    rows = np.stack([array[start : start + context_length + offset] for start in starts_B])
    rows_BT = torch.from_numpy(rows.astype(np.int64))
    return rows_BT[:, :-offset].contiguous(), rows_BT[:, offset:].contiguous()
