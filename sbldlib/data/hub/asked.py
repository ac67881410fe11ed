"""What `prepare_hub_tokens` is asked for, checked at the door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import check_kind, check_positive_int, shown
from ..reading import check_shares
from ..tokenizer import Tokenizer, check_vocabulary_size
from ..writing import FORMAT, fingerprint_of
from .dataset import HubDataset, find_dataset

MAX_BYTES = 100_000_000
VOCABULARY_SIZE = 4096


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be prepared; two that differ lie in different folders."""

    dataset: HubDataset
    tokenizer: Tokenizer | None
    vocabulary_size: int
    max_bytes: int
    shares: dict[str, float]

    @property
    def key(self) -> str:
        """SHA-256 of all of it."""
        of, tokenizer = self.dataset, self.tokenizer
        parts = [
            [of.path, [str(file.absolute()) for file in of.files], of.configuration],
            [of.split, of.revision, of.columns, of.template],
            [None if tokenizer is None else tokenizer.fingerprint, self.vocabulary_size],
            [self.max_bytes, self.shares],
        ]
        return fingerprint_of(["hub", FORMAT, parts])


def ask(
    dataset: Any,
    tokenizer: Any,
    vocabulary_size: Any,
    max_bytes: Any,
    validation_fraction: Any,
    test_fraction: Any,
) -> Asked:
    """The arguments of `prepare_hub_tokens`, or ValueError for one that is none."""
    found = find_dataset(dataset)
    for file in found.files:
        if not file.is_file():
            raise ValueError(f"files: {shown(str(file))} is no file; name one that is there")
    if len({file.absolute() for file in found.files}) < len(found.files):
        raise ValueError(f"files={shown([str(file) for file in found.files])} names one twice")
    if tokenizer is not None:
        check_kind("tokenizer", tokenizer, Tokenizer, "a Tokenizer, as train_tokenizer returns it")
        if vocabulary_size is not None:
            raise ValueError(
                f"vocabulary_size={shown(vocabulary_size)} is for a tokenizer that is trained "
                "here; the tokenizer given has its own size: leave one of them out"
            )
        # As it will be read again: its name must not depend on how its JSON was laid out.
        tokenizer = Tokenizer.from_json(tokenizer.backend.to_str())
        vocabulary_size = tokenizer.vocabulary_size
    size = VOCABULARY_SIZE if vocabulary_size is None else vocabulary_size
    return Asked(
        dataset=found,
        tokenizer=tokenizer,
        vocabulary_size=check_vocabulary_size(size),
        max_bytes=check_positive_int("max_bytes", max_bytes),
        shares=check_shares(validation_fraction, test_fraction),
    )
