"""One dataset on its way to token files: read in shards, joined, described."""

from __future__ import annotations

import datetime
import importlib.metadata
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from ...storage.files import remove_path
from ...storage.settings import read_signed, write_signed
from ..reading import SPLITS
from ..tokenizer import Tokenizer, train_tokenizer
from ..tokens import TokenFile
from ..writing import fingerprint_of
from .asked import Asked
from .dataset import EMPTY, NOT_TEXT
from .faults import HubError, disk_told
from .shards import Pile, Place, ShardFolder
from .tokens import TOKENIZER, DataCard, HubTokens

VERSIONS = ("datasets", "tokenizers")
SHARDS = "shards"  # their folder

logger = logging.getLogger(__name__)


class Rows(Protocol):
    """Rows in their order, each a dict of its columns; `place` is that of the next one."""

    place: Place

    def __iter__(self) -> Iterator[dict[str, Any]]: ...


class Source(Protocol):
    """Where rows come from; both raise `HubError` for what goes wrong there."""

    def facts(self) -> dict[str, Any]:
        """Its "revision", at which the rows never change, and its "licence"."""
        ...

    def rows(self, revision: str, after: Place) -> Rows:
        """Its rows from a place on."""
        ...


def find_finished(home: Path, asked: Asked, files: list[str]) -> HubTokens | None:
    """What an earlier call prepared, where it is whole and the files have not changed."""
    try:
        found = HubTokens.load(home, asked.tokenizer)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("damaged cache: %s; preparing it again", error)
        return None
    if files and found.card.revision != fingerprint_of(files):
        return None
    remove_path(home / SHARDS)  # of a call that was killed at its very end
    return found


class Preparation:
    """What stands between a source and the token files in `home`.

    Args:
        files: SHA-256 of each file of your own.
        on_progress: told the rows and the bytes of text so far.
    """

    def __init__(
        self,
        asked: Asked,
        source: Source,
        home: Path,
        files: list[str],
        on_progress: Callable[[int, int], object] | None,
    ) -> None:
        self._asked, self._source, self._home = asked, source, home
        self._on_progress = on_progress
        self._shards = ShardFolder(home / SHARDS, files)
        self._tokenizer = asked.tokenizer or self._trained_before()
        self._shards.find(self._tokenizer)
        if not self._shards.shards:  # what it was trained on is not there
            self._tokenizer = asked.tokenizer

    @property
    def kept(self) -> str:
        """What the next call starts from, in words."""
        if not self._shards.shards:
            return "nothing was prepared yet"
        return (
            f"{self._shards.counts['kept']} rows ({self._shards.num_bytes} bytes of text) are kept "
            f"in {self._home}, and the same call goes on after them"
        )

    def read(self) -> None:
        """Tokenize rows, shard by shard, until there are enough or no more."""
        if self._shards.is_done:
            return
        rows = self._source.rows(self._facts()["revision"], self._shards.after)
        while not self._shards.is_done:
            pile = Pile(after=rows.place)
            try:
                ended_by = self._fill(pile, rows)
            except HubError:
                # Not before the first whole shard, which a new tokenizer is learnt from.
                if self._tokenizer is not None and pile.counts["read"]:
                    self._write(pile, None)
                raise
            self._write(pile, ended_by)

    def finish(self) -> HubTokens:
        """Join the shards and write the card."""
        documents = self._documents()
        tokenizer = self._tokenizer
        assert tokenizer is not None, "shards were written with it"
        with disk_told(self._home):
            tokenizer.save(self._home / TOKENIZER)
            files = {
                split: self._shards.join(split, self._home / f"{split}.tokens", tokenizer)
                for split in SPLITS
            }
            card = self._card(files, documents, tokenizer)
            prepared = HubTokens(files=files, tokenizer=tokenizer, card=card, folder=self._home)
            prepared.save()
        self._shards.remove()
        return prepared

    def _fill(self, pile: Pile, rows: Rows) -> str | None:
        """Read until the pile is full; what ended the reading for good, or None."""
        rows_before, bytes_before = self._shards.counts["read"], self._shards.num_bytes
        room = self._asked.max_bytes - bytes_before
        for row in rows:
            if not pile.add(row, self._asked.dataset, self._asked.shares, room):
                return "max_bytes"
            pile.after = rows.place
            if self._on_progress is not None:
                self._on_progress(rows_before + pile.counts["read"], bytes_before + pile.num_bytes)
            if pile.is_full:
                return None
        pile.after = rows.place
        return "the end"

    def _write(self, pile: Pile, ended_by: str | None) -> None:
        with disk_told(self._home):
            if self._tokenizer is None:
                self._tokenizer = self._trained(pile)
            self._shards.write(pile, self._tokenizer, ended_by)

    def _trained(self, pile: Pile) -> Tokenizer:
        """A new tokenizer, kept for the shards that follow."""
        texts = pile.documents["train"]
        if not texts:
            raise ValueError(
                f"{self._asked.dataset.name} gives no text to train a tokenizer on: "
                f"{self._said(pile.counts)}"
            )
        path = self._home / TOKENIZER
        train_tokenizer(texts, self._asked.vocabulary_size).save(path)
        return Tokenizer.load(path)

    def _trained_before(self) -> Tokenizer | None:
        try:
            return Tokenizer.load(self._home / TOKENIZER)
        except (FileNotFoundError, ValueError):
            return None

    def _facts(self) -> dict[str, Any]:
        """The source's, asked for once: a dataset that changes on the Hub must not be mixed."""
        if self._asked.dataset.files:
            return self._source.facts()
        path = self._home / "source.json"
        try:
            return read_signed(path)
        except (FileNotFoundError, ValueError):
            facts = self._source.facts()
        with disk_told(self._home):
            write_signed(path, facts)
        return facts

    def _documents(self) -> dict[str, int]:
        """Split -> number of documents, or ValueError where one has none."""
        said, name = self._said(self._shards.counts), self._asked.dataset.name
        documents = {
            split: sum(shard.documents[split] for shard in self._shards.shards) for split in SPLITS
        }
        if not any(documents.values()):
            raise ValueError(f"{name} gives no text: {said}")
        for split, num in documents.items():
            if not num:
                raise ValueError(
                    f"split {split!r} of {name} is empty: {said}; rows are shared out by a hash of "
                    "their text: give more of them, raise max_bytes, or change the fractions"
                )
        return documents

    def _said(self, counts: Counter) -> str:
        return (
            f"{counts['read']} rows read, {counts[EMPTY]} of them empty and {counts[NOT_TEXT]} no "
            f"text, within max_bytes={self._asked.max_bytes}"
        )

    def _card(
        self, files: dict[str, TokenFile], documents: dict[str, int], tokenizer: Tokenizer
    ) -> DataCard:
        of, facts = self._asked.dataset, self._facts()
        splits = {
            split: {
                "documents": documents[split],
                "num_bytes": file.num_bytes,
                "num_tokens": file.num_tokens,
                "fingerprint": file.fingerprint,
                "sha256": file.sha256,
            }
            for split, file in files.items()
        }
        trained_on = "text of the train split" if self._asked.tokenizer is None else "other text"
        return DataCard(
            dataset=of.name,
            configuration=of.configuration,
            source_split=of.split,
            revision=facts["revision"],
            licence=facts["licence"],
            columns=of.columns,
            template=str(of.template),
            max_bytes=self._asked.max_bytes,
            ended_by=str(self._shards.shards[-1].ended_by),
            rows=dict(self._shards.counts),
            splits=splits,
            shares={split: self._asked.shares[split] for split in SPLITS},
            tokenizer={
                "vocabulary_size": tokenizer.vocabulary_size,
                "fingerprint": tokenizer.fingerprint,
                "trained_on": trained_on,
            },
            fingerprint=fingerprint_of([file.fingerprint for file in files.values()]),
            date=datetime.date.today().isoformat(),
            versions={name: importlib.metadata.version(name) for name in VERSIONS},
        )
