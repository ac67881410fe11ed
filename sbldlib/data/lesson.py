"""One call for everything that the lessons and the demo train on, without a network."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import check_folder, check_positive_int, check_seed
from .arithmetic import Problem, chance_level, generate_problems
from .batches import (
    Batch,
    BatchSource,
    MixedBatches,
    ProblemBatches,
    TokenBatches,
    sequential_batches,
)
from .text import load_corpus
from .tokenizer import Tokenizer, check_vocabulary_size
from .tokens import TokenFile, cached_tokenizer, prepare_tokens

LESSON_KINDS = ("copy", "compare", "max")  # learnt by 8 layers of width 64 in some 400 steps
LESSON_DEPTH = 1
PROBLEMS_A_KIND = 64
VALIDATION_BATCHES = 64


@dataclass(frozen=True, kw_only=True)
class LessonData:
    """Text and arithmetic, ready to train and to evaluate on.

    Attributes:
        tokenizer: for prompts, samples and `exact_match`.
        train: a batch source; the rows of text first, then the rows of arithmetic.
        validation: batches of text that training never sees.
        problems: different problems of the validation split, for `exact_match`.
        bytes_per_token: of the validation text; bits per byte = nats / bytes_per_token / ln 2.
        fingerprint: SHA-256 of all that decides the batches.
        description: the same in words.
    """

    tokenizer: Tokenizer
    train: BatchSource
    validation: tuple[Batch, ...] = field(repr=False)
    problems: tuple[Problem, ...] = field(repr=False)
    bytes_per_token: float
    fingerprint: str
    description: str

    @property
    def vocabulary_size(self) -> int:
        """What the model's vocabulary must hold at least."""
        return self.tokenizer.vocabulary_size


def prepare_lesson_data(
    *,
    vocabulary_size: int = 512,
    context_length: int = 64,
    batch_size: int = 16,
    seed: int = 0,
    max_bytes: int | None = 4_000_000,
    arithmetic_rows: int = 8,
    offset: int = 1,
    folder: str | Path | None = None,
    root: str | Path | None = None,
) -> LessonData:
    """Python's own source and arithmetic problems as batches; some seconds at first, then cached.

    Args:
        vocabulary_size: of the tokenizer; 256 for plain bytes.
        context_length, batch_size: tokens a row, rows a batch.
        seed: of the order of the batches; a whole number >= 0.
        max_bytes: the most text to use; None for all.
        arithmetic_rows: rows of each batch that hold problems, in 0..batch_size - 1.
        offset: how many tokens of text after an input its target stands; above 1 there can be no
            rows of arithmetic.
        folder: the cache; None for `default_cache_folder()`.
        root: a folder of your own text; None for the standard library.

    Raises:
        ValueError: a size out of range, or text that is missing or too short.
    """
    context_length = check_positive_int("context_length", context_length)
    batch_size = check_positive_int("batch_size", batch_size)
    seed = check_seed("seed", seed)
    arithmetic_rows = check_positive_int("arithmetic_rows", arithmetic_rows, minimum=0)
    folder = None if folder is None else check_folder("folder", folder)
    if arithmetic_rows >= batch_size:
        raise ValueError(
            f"arithmetic_rows={arithmetic_rows} leaves no row of text; batch_size={batch_size} "
            f"has room for 0..{batch_size - 1}"
        )
    if check_positive_int("offset", offset) > 1 and arithmetic_rows:
        raise ValueError(
            f"offset={offset} is for text; arithmetic_rows={arithmetic_rows} must then be 0"
        )
    vocabulary_size = check_vocabulary_size(vocabulary_size)
    corpus = load_corpus(root, max_bytes=max_bytes)
    tokenizer = cached_tokenizer(corpus, vocabulary_size, folder)
    files = prepare_tokens(corpus, tokenizer, folder)
    train = _train_batches(
        files["train"],
        tokenizer,
        context_length=context_length,
        num_rows=(batch_size - arithmetic_rows, arithmetic_rows),
        seed=seed,
        offset=offset,
    )
    validation = files["validation"]
    whole_batches = max(1, (validation.num_tokens - offset) // (context_length * batch_size))
    problems = _problems()
    settings = [context_length, batch_size, arithmetic_rows, seed, LESSON_KINDS, LESSON_DEPTH]
    settings += [] if offset == 1 else [offset]
    names = [file.fingerprint for file in files.values()]
    return LessonData(
        tokenizer=tokenizer,
        train=train,
        validation=sequential_batches(
            validation,
            context_length,
            batch_size,
            min(VALIDATION_BATCHES, whole_batches),
            offset=offset,
        ),
        problems=problems,
        bytes_per_token=validation.bytes_per_token,
        fingerprint=hashlib.sha256(json.dumps([settings, names]).encode()).hexdigest(),
        description=(
            f"{corpus.counts['kept']} files ({sum(corpus.num_bytes.values()) / 1e6:.1f} MB) of "
            f"{corpus.source}; {tokenizer.vocabulary_size} tokens of "
            f"{validation.bytes_per_token:.2f} bytes; a batch is "
            f"{batch_size - arithmetic_rows} rows of text and {arithmetic_rows} of arithmetic "
            f"({', '.join(LESSON_KINDS)}) of {context_length} tokens; {len(problems)} problems to "
            f"evaluate on, chance level {chance_level(problems):.2f}"
        ),
    )


def _train_batches(
    text: TokenFile,
    tokenizer: Tokenizer,
    *,
    context_length: int,
    num_rows: tuple[int, int],
    seed: int,
    offset: int,
) -> BatchSource:
    """Rows of text, and below them rows of arithmetic where any are asked."""
    text_rows, arithmetic_rows = num_rows
    of_text = TokenBatches(
        text, context_length=context_length, batch_size=text_rows, seed=seed, offset=offset
    )
    if not arithmetic_rows:
        return of_text
    of_arithmetic = ProblemBatches(
        tokenizer,
        kinds=LESSON_KINDS,
        depth=LESSON_DEPTH,
        context_length=context_length,
        batch_size=arithmetic_rows,
        seed=seed,
    )
    return MixedBatches([of_text, of_arithmetic], num_rows)


def _problems() -> tuple[Problem, ...]:
    """Different problems of the validation split, the same ones for every seed of training."""
    num = PROBLEMS_A_KIND * len(LESSON_KINDS)
    return tuple(dict.fromkeys(generate_problems(LESSON_KINDS, LESSON_DEPTH, num, "validation")))
