"""What comes of a prepared dataset: its token files with their data card, and batches of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import check_choice, check_positive_int, check_seed
from ...records import Record
from ...storage.files import write_atomically
from ..batches import TokenBatches, sequential_batches
from ..lesson import VALIDATION_BATCHES, LessonData
from ..reading import SPLITS
from ..tokenizer import Tokenizer
from ..tokens import TokenFile

CARD, CARD_TEXT, TOKENIZER = "card.json", "card.md", "tokenizer.json"
HOW_SPLIT = "by a SHA-256 of a row's text, so that equal texts lie in one split"


@dataclass(frozen=True, kw_only=True)
class DataCard(Record):
    """Where token files are from and how they were made.

    Attributes:
        dataset, configuration, source_split: on the Hub; the dataset is the files' names otherwise.
        revision: the commit of the Hub; a SHA-256 of the files otherwise.
        licence: as the dataset's own card gives it; None where it gives none.
        columns, template: what makes a row a document.
        max_bytes: of text, that were asked for.
        ended_by: "max_bytes", or "the end" of the dataset.
        rows: that were "read", and of them "kept"; left out as "empty", a column of them being so,
            or as "not_text"; and how often a text was "cut_anywhere", where tokens may differ.
        splits: split -> its "documents", "num_bytes" of text, "num_tokens", "fingerprint" and
            "sha256".
        shares: split -> its expected share of the rows.
        tokenizer: its "vocabulary_size", "fingerprint", and what it was "trained_on".
        fingerprint: SHA-256 of the splits' names.
        date: of the end of the preparation, as year-month-day.
        versions: of the libraries that decide what is read.
    """

    dataset: str
    configuration: str | None
    source_split: str
    revision: str
    licence: Any
    columns: tuple[str, ...]
    template: str
    max_bytes: int
    ended_by: str
    rows: dict[str, int]
    splits: dict[str, dict[str, Any]]
    shares: dict[str, float]
    tokenizer: dict[str, Any]
    fingerprint: str
    date: str
    versions: dict[str, str]

    @property
    def num_bytes(self) -> int:
        """Of text, in all splits."""
        return sum(facts["num_bytes"] for facts in self.splits.values())

    @property
    def num_tokens(self) -> int:
        """In all splits."""
        return sum(facts["num_tokens"] for facts in self.splits.values())

    def text(self) -> str:
        """The card in Markdown, for people."""
        left_out = ", ".join(
            f"{self.rows[name]} {words}"
            for name, words in (
                ("empty", "without text"),
                ("not_text", "with something else than text"),
            )
        )
        ended = "at the size limit" if self.ended_by == "max_bytes" else "at the end of the dataset"
        lines = [
            f"# {self.dataset}",
            "",
            f"- Source: split `{self.source_split}`, configuration "
            f"{self.configuration or 'default'}, revision `{self.revision}`.",
            f"- Licence, as the source gives it: {self.licence or 'none given'}.",
            f"- Columns: {', '.join(self.columns)}; a document is {json.dumps(self.template)}.",
            f"- Rows: {self.rows['read']:,} read, {self.rows['kept']:,} kept; left out: {left_out}."
            f" Reading ended {ended}.",
            f"- Size: {self.num_bytes:,} bytes of text (at most {self.max_bytes:,} asked), "
            f"{self.num_tokens:,} tokens.",
            f"- Tokenizer: {self.tokenizer['vocabulary_size']:,} tokens, "
            f"trained on {self.tokenizer['trained_on']}.",
            f"- Split: {HOW_SPLIT}.",
            f"- Made: {self.date}, fingerprint `{self.fingerprint}`.",
            "",
            "| split | documents | bytes | tokens | share |",
            "|---|---|---|---|---|",
        ]
        for split, facts in self.splits.items():
            numbers = (f"{facts[name]:,}" for name in ("documents", "num_bytes", "num_tokens"))
            lines.append(f"| {split} | {' | '.join(numbers)} | {self.shares[split]:.3g} |")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class HubTokens:
    """A prepared dataset.

    Attributes:
        files: "train", "validation" and "test" -> a token file.
        tokenizer: that made them.
        card: where they are from.
        folder: where they lie, with the card as JSON and as text.
    """

    files: Mapping[str, TokenFile] = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    card: DataCard = field(repr=False)
    folder: Path

    @classmethod
    def load(cls, folder: Path, tokenizer: Tokenizer | None = None) -> HubTokens:
        """Read what `prepare_hub_tokens` left in a folder.

        Args:
            tokenizer: that it was asked for with; None reads the one in the folder.

        Raises:
            FileNotFoundError: something is not there.
            ValueError: something is not what was written.
        """
        card = DataCard.load(folder / CARD)
        tokenizer = tokenizer or Tokenizer.load(folder / TOKENIZER)
        if tokenizer.fingerprint != card.tokenizer["fingerprint"]:
            raise ValueError(f"{folder / CARD} is of another tokenizer")
        files = {split: TokenFile.open(folder / f"{split}.tokens") for split in SPLITS}
        for split, file in files.items():
            if file.sha256 != card.splits[split]["sha256"]:
                raise ValueError(f"{file.path} is not the file of the card beside it")
        return cls(files=files, tokenizer=tokenizer, card=card, folder=folder)

    def save(self) -> None:
        """Write the card, the text before the JSON, which makes all of it count."""
        write_atomically(self.folder / CARD_TEXT, self.card.text().encode())
        self.card.save(self.folder / CARD)

    def batches(
        self,
        split: str = "train",
        *,
        context_length: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        offset: int = 1,
    ) -> TokenBatches:
        """Blocks of a split at places drawn anew for every batch; the arguments of TokenBatches."""
        return TokenBatches(
            self.files[check_choice("split", split, SPLITS)],
            context_length=context_length,
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            offset=offset,
        )

    def lesson(
        self, *, context_length: int, batch_size: int, seed: int = 0, offset: int = 1
    ) -> LessonData:
        """Everything to train and to evaluate on, as `prepare_lesson_data` gives; no arithmetic.

        Args:
            context_length, batch_size: tokens a row, rows a batch.
            seed: of the order of the batches; a whole number >= 0.
            offset: how many tokens after an input its target stands, >= 1.

        Raises:
            ValueError: a size out of range, or a split that is too short for it.
        """
        context_length = check_positive_int("context_length", context_length)
        batch_size = check_positive_int("batch_size", batch_size)
        seed = check_seed("seed", seed)
        offset = check_positive_int("offset", offset)
        validation = self.files["validation"]
        whole_batches = max(1, (validation.num_tokens - offset) // (context_length * batch_size))
        settings = [context_length, batch_size, seed, self.card.fingerprint]
        settings += [] if offset == 1 else [offset]
        return LessonData(
            tokenizer=self.tokenizer,
            train=self.batches(
                context_length=context_length, batch_size=batch_size, seed=seed, offset=offset
            ),
            validation=sequential_batches(
                validation,
                context_length,
                batch_size,
                min(VALIDATION_BATCHES, whole_batches),
                offset=offset,
            ),
            problems=(),
            bytes_per_token=validation.bytes_per_token,
            fingerprint=hashlib.sha256(json.dumps(settings).encode()).hexdigest(),
            description=(
                f"{self.card.rows['kept']} rows ({self.card.num_bytes / 1e6:.1f} MB) of "
                f"{self.card.dataset}; {self.tokenizer.vocabulary_size} tokens of "
                f"{validation.bytes_per_token:.2f} bytes; a batch is {batch_size} rows of "
                f"{context_length} tokens"
            ),
        )
