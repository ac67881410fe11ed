"""Tokenized rows in shards of bounded size: each is whole on the disk with its facts, or not there.

A shard is a token file a split and, written last, a signed file of facts that makes them count. A
preparation that was stopped goes on after the last whole one; at its end they are joined.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ...storage.files import remove_path
from ...storage.settings import read_signed, write_signed
from ..reading import SPLITS, split_of
from ..stream import stream_tokens
from ..tokenizer import Tokenizer
from ..tokens import TokenFile
from ..writing import FORMAT, TokenWriter, fingerprint_of
from .dataset import EMPTY, NOT_TEXT, HubDataset

SHARD_BYTES = 8 * 2**20  # of text, held in memory until it is written
JOINED_TOKENS = 2**20  # copied at a time
COUNTS = ("read", "kept", EMPTY, NOT_TEXT, "cut_anywhere")

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where in a dataset the next row is: its file, and the rows before it in that file."""

    file: int = 0
    row: int = 0


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What is known about rows that are whole on the disk.

    Attributes:
        counts: of the rows, by `COUNTS`.
        num_bytes: of their text.
        documents: split -> how many of the rows.
        after: the place of the first row behind them.
        ended_by: why nothing comes after them, "max_bytes" or "the end"; None where more does.
        files: SHA-256 of the files of your own that the rows are from, and of those before.
        tokenizer: its fingerprint.
    """

    counts: dict[str, int]
    num_bytes: int
    documents: dict[str, int]
    after: Place
    ended_by: str | None
    files: tuple[str, ...]
    tokenizer: str


@dataclass
class Pile:
    """Rows that were read and are on no disk yet; `after` is the place of the next one."""

    after: Place
    documents: dict[str, list[str]] = field(default_factory=lambda: {s: [] for s in SPLITS})
    counts: Counter = field(default_factory=lambda: Counter(dict.fromkeys(COUNTS, 0)))
    num_bytes: int = 0

    def add(
        self, row: dict[str, Any], dataset: HubDataset, shares: dict[str, float], room: int
    ) -> bool:
        """Take a row, or count why not; False where the pile would grow beyond the room, in bytes.

        Its split is a hash of its text, so that equal texts lie in one.
        """
        reason = dataset.why_left_out(row)
        if reason is None:
            text = dataset.text_of(row)
            num_bytes = len(text.encode())
            if self.num_bytes + num_bytes > room:
                return False
            self.documents[split_of(text, shares)].append(text)
            self.num_bytes += num_bytes
        for name in ("read", reason or "kept"):
            self.counts[name] += 1
        return True

    @property
    def is_full(self) -> bool:
        """Whether it is time to write it."""
        return self.num_bytes >= SHARD_BYTES


class ShardFolder:
    """The shards of one preparation, in their order.

    Args:
        folder: theirs alone; it may be new.
        files: SHA-256 of the files of your own that the rows come from, as they are now.
    """

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self._folder, self._files = folder, tuple(files)
        self.shards: list[Shard] = []

    @property
    def counts(self) -> Counter:
        """Of all rows so far, by `COUNTS`."""
        return Counter({name: sum(s.counts[name] for s in self.shards) for name in COUNTS})

    @property
    def num_bytes(self) -> int:
        """Of the text of all rows so far."""
        return sum(shard.num_bytes for shard in self.shards)

    @property
    def after(self) -> Place:
        """The place of the first row that is in no shard."""
        return self.shards[-1].after if self.shards else Place()

    @property
    def is_done(self) -> bool:
        """Whether the last shard is there."""
        return bool(self.shards) and self.shards[-1].ended_by is not None

    def find(self, tokenizer: Tokenizer | None) -> None:
        """Take up the shards that are whole and of this tokenizer; what follows them is removed."""
        self.shards = []
        while tokenizer is not None and not self.is_done:
            try:
                self.shards.append(self._read(len(self.shards), tokenizer))
            except FileNotFoundError:
                break
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("shard %d is made again: %s", len(self.shards), error)
                break
        for path in self._folder.glob("*"):
            number = path.name.partition("-")[0].partition(".")[0]
            if not number.isdecimal() or int(number) >= len(self.shards):
                remove_path(path)

    def write(self, pile: Pile, tokenizer: Tokenizer, ended_by: str | None) -> None:
        """Tokenize a pile into the next shard; `ended_by` as in `Shard`."""
        number, after, counts = len(self.shards), pile.after, Counter(pile.counts)
        for split, texts in pile.documents.items():
            if texts:
                cut: Counter = Counter()
                stream_tokens(texts, tokenizer, self._tokens(number, split), counts=cut)
                counts["cut_anywhere"] += cut["cut_anywhere"]
        shard = Shard(
            counts=dict(counts),
            num_bytes=pile.num_bytes,
            documents={split: len(texts) for split, texts in pile.documents.items()},
            after=after,
            ended_by=ended_by,
            files=self._files[: after.file + bool(after.row)],
            tokenizer=tokenizer.fingerprint,
        )
        write_signed(self._facts(number), asdict(shard))
        self.shards.append(shard)

    def join(self, split: str, path: Path, tokenizer: Tokenizer) -> TokenFile:
        """One token file of a split's documents in all shards; its name is of its content."""
        digest = hashlib.sha256()
        with TokenWriter(path, tokenizer) as writer:
            for number, shard in enumerate(self.shards):
                if not shard.documents[split]:
                    continue
                part = TokenFile.open(self._tokens(number, split))
                for start in range(0, part.num_tokens, JOINED_TOKENS):
                    tokens = part.tokens[start : start + JOINED_TOKENS]
                    digest.update(tokens.tobytes())
                    writer.add_tokens(tokens)
                writer.num_bytes += part.num_bytes
            parts = ["hub", FORMAT, split, digest.hexdigest(), tokenizer.fingerprint]
            return TokenFile(path=path, **writer.finish(fingerprint_of(parts)))

    def remove(self) -> None:
        """Remove them all, once they are joined."""
        remove_path(self._folder)

    def _read(self, number: int, tokenizer: Tokenizer) -> Shard:
        if not self._facts(number).is_file():
            raise FileNotFoundError(self._facts(number))
        body = read_signed(self._facts(number))
        place, files = Place(*body.pop("after")), tuple(body.pop("files"))
        shard = Shard(after=place, files=files, **body)
        if shard.tokenizer != tokenizer.fingerprint:
            raise ValueError("it is of another tokenizer")
        if shard.files != self._files[: len(shard.files)]:
            raise ValueError("a file that it is from has changed")
        for split, num in shard.documents.items():
            if num:
                TokenFile.open(self._tokens(number, split), verify=True)
        return shard

    def _facts(self, number: int) -> Path:
        return self._folder / f"{number:06}.json"

    def _tokens(self, number: int, split: str) -> Path:
        return self._folder / f"{number:06}-{split}.tokens"
