"""BERT's batches: pairs of sentences in a row, one token in seven hidden, to be found again.

A batch is a dict with the names that `transformers.BertForPreTraining` takes:
    input_ids            [B, T] int64, [CLS] first [SEP] second [SEP] and padding
    token_type_ids       [B, T] int64, 0 in the first segment and in padding, 1 in the second
    attention_mask       [B, T] int64, 1 where a token counts, 0 in padding
    labels               [B, T] int64, the hidden token where one is to be found, -100 elsewhere
    next_sentence_label  [B] int64, 0 where the second segment follows the first, 1 where not

Legend: B batch, T tokens.

Source: [S] Devlin et al. 2018, arXiv 1810.04805, section 3.1 and appendix A.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import check_folder, check_kind, check_positive_int, check_seed, items
from .batches import IGNORE
from .draws import Draws
from .pairs import LineFile, PairDraws, Symbols, line_files, pair_row, sentences
from .text import Corpus, corpus_from_texts, load_corpus
from .tokenizer import Tokenizer, check_vocabulary_size
from .tokens import cached_tokenizer
from .writing import fingerprint_of

MaskedBatch = dict[str, Tensor]

MASK_TEXT = "[MASK]"
MASKED_SHARE = 0.15  # of a row's ordinary tokens
TO_MASK, TO_RANDOM = 0.8, 0.1  # of the chosen ones; the rest stay as they are
VALIDATION_FRACTION = 0.15
VALIDATION_SEED = 2**32  # far from a reader's own seeds
FINE = 2**53  # as many numbers as float64 tells apart in [0, 1)


@dataclass(frozen=True, kw_only=True)
class PairData:
    """Pairs of sentences, ready to train BERT and to evaluate it on files it never saw.

    Attributes:
        tokenizer: for sentences of your own; `vocabulary_size` counts the special tokens too.
        symbols: the special tokens, whose names are those of BertConfig's fields.
        train: a batch source.
        validation: batches of files that training never sees.
        train_files, validation_files: the files; no path is in both.
        fingerprint: SHA-256 of all that decides the batches.
        description: the same in words.
    """

    tokenizer: Tokenizer
    symbols: Symbols
    train: PairBatches
    validation: tuple[MaskedBatch, ...] = field(repr=False)
    train_files: tuple[LineFile, ...] = field(repr=False)
    validation_files: tuple[LineFile, ...] = field(repr=False)
    fingerprint: str
    description: str

    @property
    def vocabulary_size(self) -> int:
        """What the model's vocabulary must hold: the tokenizer's and the special tokens."""
        return max(self.symbols) + 1

    def encode(self, text: str) -> list[int]:
        """Tokens of a text in which each "[MASK]" is one hidden token, with the space before it.

        Raises:
            ValueError: no word in it.
        """
        words = check_kind("text", text, str, "text").split()
        if not words:
            raise ValueError(f"text={text!r} holds no word")
        first, *others = f" {' '.join(words)}".split(MASK_TEXT)
        tokens = self.tokenizer.encode(first.removesuffix(" ") if others else first)
        for place, part in enumerate(others, start=1):
            is_last = place == len(others)
            part = part if is_last else part.removesuffix(" ")
            tokens += [self.symbols.mask, *self.tokenizer.encode(part)]
        return tokens


class PairBatches:
    """Batches of pairs with hidden tokens, each a pure function of (seed, step, micro-batch).

    Args:
        files: two or more, see `PairDraws`.
        symbols: the special tokens, which follow the ordinary ones.
        context_length: T, tokens a row.
        batch_size: B, rows a batch.
        seed: a whole number >= 0.

    Raises:
        ValueError: a size out of range, or files that no pair can be drawn from.
    """

    def __init__(
        self,
        files: Sequence[LineFile],
        *,
        symbols: Symbols,
        context_length: int,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        self.symbols = check_kind("symbols", symbols, Symbols, "Symbols, see Symbols.after")
        self.pairs = PairDraws(files, context_length=context_length)
        self.context_length = self.pairs.context_length
        self.batch_size = check_positive_int("batch_size", batch_size)
        self.seed = check_seed("seed", seed)

    def batch(self, step: int, micro_batch: int = 0) -> MaskedBatch:
        """B rows of T tokens, as the head of this file says."""
        draws = Draws("pairs", self.seed, micro_batch, step)
        pairs = [self.pairs.pair(draws) for _ in range(self.batch_size)]
        rows = [(pair.first, pair.second) for pair in pairs]
        batch = collate(rows, symbols=self.symbols, context_length=self.context_length)
        hiding = Draws("masks", self.seed, micro_batch, step)
        batch |= hide_tokens(batch["input_ids"], symbols=self.symbols, draws=hiding)
        batch["next_sentence_label"] = torch.tensor([int(not pair.follows) for pair in pairs])
        return batch


def prepare_pairs(
    *,
    vocabulary_size: int = 1024,
    context_length: int = 64,
    batch_size: int = 32,
    validation_batches: int = 32,
    seed: int = 0,
    max_bytes: int | None = 4_000_000,
    folder: str | Path | None = None,
    root: str | Path | None = None,
) -> PairData:
    """Python's own source as BERT's batches; some seconds at first, then the tokenizer is cached.

    Args:
        vocabulary_size: of the tokenizer, without the four special tokens; 256 for plain bytes.
        context_length, batch_size: T tokens a row, B rows a batch.
        validation_batches: how many; each of B rows.
        seed: of the training batches; the validation batches are the same for every seed.
        max_bytes: the most text to use; None for all.
        folder: the cache; None for `default_cache_folder()`.
        root: a folder of your own text; None for the standard library.

    Raises:
        ValueError: a size out of range, or text that is missing or too short.
    """
    vocabulary_size = check_vocabulary_size(vocabulary_size)
    validation_batches = check_positive_int("validation_batches", validation_batches)
    folder = None if folder is None else check_folder("folder", folder)
    corpus = load_corpus(root, max_bytes=max_bytes, validation_fraction=VALIDATION_FRACTION)
    tokenizer = cached_tokenizer(_of_sentences(corpus), vocabulary_size, folder)
    symbols = Symbols.after(tokenizer.vocabulary_size)
    least = 4 * check_positive_int("context_length", context_length)
    files = {
        split: line_files(corpus, split, tokenizer, min_tokens=least)
        for split in ("train", "validation")
    }
    sources = {
        split: PairBatches(
            files[split],
            symbols=symbols,
            context_length=context_length,
            batch_size=batch_size,
            seed=seed if split == "train" else VALIDATION_SEED,
        )
        for split in files
    }
    settings = [context_length, batch_size, seed, corpus.fingerprint, tokenizer.fingerprint]
    return PairData(
        tokenizer=tokenizer,
        symbols=symbols,
        train=sources["train"],
        validation=tuple(sources["validation"].batch(step) for step in range(validation_batches)),
        train_files=files["train"],
        validation_files=files["validation"],
        fingerprint=fingerprint_of(settings),
        description=(
            f"{len(files['train'])} files of {corpus.source} to train on and "
            f"{len(files['validation'])} others to evaluate on; {tokenizer.vocabulary_size} tokens "
            f"and {len(symbols)} special ones; a batch is {batch_size} pairs of {context_length} "
            f"tokens at the most, {MASKED_SHARE:.0%} of them hidden"
        ),
    )


def collate(
    rows: Sequence[tuple[Sequence[int] | np.ndarray, Sequence[int] | np.ndarray | None]],
    *,
    symbols: Symbols,
    context_length: int,
) -> MaskedBatch:
    """Rows of one or two sentences as input_ids, token_type_ids and attention_mask.

    Args:
        rows: (first, second) token numbers; a second of None is a row of one sentence.
        symbols: the special tokens.
        context_length: T; every row is filled up to it.

    Raises:
        ValueError: no row, an empty sentence, an unknown token, or a row too long.
    """
    given = list(items("rows", rows))
    if not given:
        raise ValueError("rows=[] holds no row")
    input_ids = torch.full((len(given), context_length), symbols.padding)
    token_type_ids = torch.zeros_like(input_ids)
    for place, (first, second) in enumerate(given):
        tokens, segments = pair_row(first, second, symbols=symbols, context_length=context_length)
        input_ids[place, : len(tokens)] = torch.tensor(tokens)
        token_type_ids[place, : len(tokens)] = torch.tensor(segments)
    attention_mask = (input_ids != symbols.padding).long()
    return {
        "input_ids": input_ids,
        "token_type_ids": token_type_ids,
        "attention_mask": attention_mask,
    }


def hide_tokens(tokens_BT: Tensor, *, symbols: Symbols, draws: Draws) -> MaskedBatch:
    """Hide tokens of each row: input_ids, and labels with what was there.

    15 % of the ordinary tokens are chosen, one at least. Of those, 80 % become [MASK], 10 % a
    random token, and 10 % stay: the model is not told which, so that it must know every token.

    Args:
        tokens_BT: rows with one ordinary token at least each.
        symbols: the special tokens, which are never chosen.
        draws: where the choice comes from.

    Raises:
        ValueError: a row of special tokens alone.
    """
    tokens, ordinary = tokens_BT.numpy(), min(symbols)
    can_hide = tokens < ordinary
    counts_B = can_hide.sum(axis=1)
    if not counts_B.all():
        raise ValueError(f"row {int(counts_B.argmin())} holds no ordinary token that can be hidden")
    asked_B = np.maximum(1, np.round(MASKED_SHARE * counts_B))
    order_BT = np.where(can_hide, _uniform(draws, tokens.shape), 2.0)
    rank_BT = order_BT.argsort(axis=1).argsort(axis=1)
    chosen = rank_BT < asked_B[:, None]
    fate = _uniform(draws, tokens.shape)
    random_tokens = draws.integers(ordinary, tokens.size).reshape(tokens.shape)
    to_random = chosen & (fate >= TO_MASK) & (fate < TO_MASK + TO_RANDOM)
    hidden = np.where(chosen & (fate < TO_MASK), symbols.mask, tokens)
    hidden = np.where(to_random, random_tokens, hidden)
    labels = np.where(chosen, tokens, IGNORE)
    return {"input_ids": torch.from_numpy(hidden), "labels": torch.from_numpy(labels)}


def _uniform(draws: Draws, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1)."""
    return draws.integers(FINE, int(np.prod(shape))).reshape(shape) / FINE


def _of_sentences(corpus: Corpus) -> Corpus:
    """What the tokenizer is trained on: the training files' sentences."""
    texts = ["".join(sentences(document.text)) for document in corpus.splits["train"]]
    return corpus_from_texts({"train": texts}, source=corpus.source)
