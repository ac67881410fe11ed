"""Datasets of the Hugging Face Hub, and files like theirs, to token files in flat memory.

Rows come through the `datasets` library, which this module alone knows, and imports where it reads.
They are tokenized in shards that stay when a preparation stops: the same call goes on after them.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...errors import check_callable, check_folder, shown
from ...storage.files import sha256_of
from ...storage.lock import FolderLock
from ..tokenizer import Tokenizer
from ..tokens import default_cache_folder
from ..writing import fingerprint_of
from .asked import MAX_BYTES, ask
from .dataset import HubDataset
from .faults import HubError, disk_told, in_words
from .preparation import Preparation, find_finished
from .shards import Place
from .tokens import HubTokens

JSON_CHUNK_BYTES = 2**20  # read at a time; of a broken file, what is before the chunk is kept
SECONDS_TO_ANSWER = 30
TEXT_KINDS = ("string", "large_string", "string_view", "null")


def prepare_hub_tokens(
    dataset: str | HubDataset,
    *,
    tokenizer: Tokenizer | None = None,
    vocabulary_size: int | None = None,
    max_bytes: int = MAX_BYTES,
    validation_fraction: float = 0.05,
    test_fraction: float = 0.05,
    folder: str | Path | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> HubTokens:
    """The first rows of a dataset as token files, `end_of_text` after each row's document.

    A row's split is a hash of its text: the same whatever the size, and equal texts lie in one.
    What was prepared is kept: called again after an interruption, it goes on behind the last whole
    shard and comes to the same files; called again after the end, it reads them and needs no
    network.

    Args:
        dataset: a name in `DATASETS`, such as "open-web-math", or a `HubDataset`.
        tokenizer: None trains one on the text of the train split in the first shard (8 MiB).
        vocabulary_size: of the tokenizer that is trained; None for 4096.
        max_bytes: the most text; rows are taken in their order until one does not fit.
        validation_fraction, test_fraction: expected share of the rows, in (0, 1), together < 1.
        folder: the cache; None for `default_cache_folder()`.
        on_progress: told the rows and the bytes of text so far, after each row.

    Raises:
        ValueError: an argument that is none, a column that is not there or holds no text, or too
            few rows with text for three splits.
        HubError: no network, a broken file, a full disk; it says what is kept.
        ModuleNotFoundError: the datasets library is not installed; the message says how to.
        RunBusyError: another process prepares the same.
    """
    asked = ask(dataset, tokenizer, vocabulary_size, max_bytes, validation_fraction, test_fraction)
    if on_progress is not None:
        check_callable("on_progress", on_progress, "a function of the rows and bytes so far")
    cache = default_cache_folder() if folder is None else check_folder("folder", folder)
    home = cache / f"hub-{asked.key[:16]}"
    with disk_told(home):
        home.mkdir(parents=True, exist_ok=True)
    files = [sha256_of(file) for file in asked.dataset.files]
    found = find_finished(home, asked, files)  # any number of processes may read it
    if found is not None:
        return found
    with FolderLock(home):
        found = find_finished(home, asked, files)  # another one may have been at its end
        if found is not None:
            return found
        source = _Source(asked.dataset, files)
        preparation = Preparation(asked, source, home, files, on_progress)
        try:
            preparation.read()
            return preparation.finish()
        except HubError as error:
            raise HubError(f"{error}; {preparation.kept}") from error.__cause__


class _Source:
    """A dataset as the datasets library reads it.

    Args:
        files: SHA-256 of each file of your own.
    """

    def __init__(self, dataset: HubDataset, files: list[str]) -> None:
        self._dataset, self._files = dataset, files

    def facts(self) -> dict[str, Any]:
        """The commit and the licence that the Hub names; the files' own digest and no licence."""
        if self._dataset.files:
            return {"revision": fingerprint_of(self._files), "licence": None}
        _library()
        from huggingface_hub import HfApi

        try:
            info = HfApi().dataset_info(
                str(self._dataset.path),
                revision=self._dataset.revision,
                timeout=SECONDS_TO_ANSWER,
            )
        except Exception as error:  # of whatever library lies beneath
            raise in_words(error, self._dataset, None) from error
        return {"revision": info.sha, "licence": getattr(info.card_data, "license", None)}

    def rows(self, revision: str, after: Place) -> _Rows:
        """The rows of this commit from a place on."""
        dataset, library = self._dataset, _library()
        named, first = self._named(revision), str(dataset.files[0]) if dataset.files else None
        try:
            builder = _in_little_memory(library.load_dataset_builder(**named))
            stream = builder.as_streaming_dataset(split=dataset.split)
            names = list((builder.config.data_files or {}).get(dataset.split, ()))
        except Exception as error:  # of whatever library lies beneath
            raise in_words(error, dataset, first) from error
        return _Rows(dataset, _with_columns(stream, dataset), names, after)

    def _named(self, revision: str) -> dict[str, Any]:
        """The dataset in the library's words."""
        of = self._dataset
        if of.path is None:
            # The library takes a file's name for a pattern.
            files = [glob.escape(str(file.absolute())) for file in of.files]
            named = {"path": of.kind, "data_files": {of.split: files}}
            return {**named, **({"chunksize": JSON_CHUNK_BYTES} if of.kind == "json" else {})}
        if Path(of.path).exists():  # the library would read that in place of the Hub's
            raise ValueError(f"path={shown(of.path)} is here on the disk: name its files as files=")
        return {"path": of.path, "name": of.configuration, "revision": revision}


class _Rows:
    """The rows of a stream from a place on, file by file; `place` is that of the next one."""

    def __init__(self, dataset: HubDataset, stream: Any, names: list[str], after: Place) -> None:
        self._dataset, self._stream, self._names = dataset, stream, names
        self._num_files = stream.num_shards
        self._rows: Iterator[dict[str, Any]] | None = None
        self.place = after

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> dict[str, Any]:
        while self.place.file < self._num_files:
            row = self._next_of_file()
            if row is None:
                self.place, self._rows = Place(self.place.file + 1, 0), None
                continue
            if self._stream.column_names is None:
                _check_columns(self._dataset, list(row))
            self.place = Place(self.place.file, self.place.row + 1)
            return row
        raise StopIteration

    def _next_of_file(self) -> dict[str, Any] | None:
        """The next row of the file that is being read; None after its last."""
        try:
            if self._rows is None:
                part = self._stream.shard(num_shards=self._num_files, index=self.place.file)
                self._rows = iter(part.skip(self.place.row) if self.place.row else part)
            return next(self._rows, None)
        except Exception as error:  # of whatever library lies beneath
            is_known = len(self._names) == self._num_files
            file = str(self._names[self.place.file]) if is_known else None
            raise in_words(error, self._dataset, file) from error


def _in_little_memory(builder: Any) -> Any:
    """The builder, told not to hold what it has read of a Parquet file until the file's end."""
    if hasattr(builder.config, "fragment_scan_options"):
        from pyarrow.dataset import ParquetFragmentScanOptions

        builder.config.fragment_scan_options = ParquetFragmentScanOptions(pre_buffer=False)
    return builder


def _with_columns(stream: Any, dataset: HubDataset) -> Any:
    """The stream with the dataset's columns alone, where it knows what it has."""
    if stream.column_names is None:
        return stream
    _check_columns(dataset, stream.column_names)
    for column in dataset.columns:
        found = stream.features[column]
        if isinstance(found, _library().Value) and found.dtype not in TEXT_KINDS:
            raise ValueError(
                f"columns: {column!r} of {dataset.name} holds {found.dtype}, not text; its columns "
                f"are {_listed(stream.column_names)}"
            )
    return stream.select_columns(list(dataset.columns))


def _check_columns(dataset: HubDataset, names: list[str]) -> None:
    for column in dataset.columns:
        if column not in names:
            raise ValueError(
                f"columns: {shown(column)} is no column of {dataset.name}; its columns are "
                f"{_listed(names)}"
            )


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))


def _library() -> Any:
    try:
        import datasets
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "datasets of the Hub, and files like theirs, need the datasets library: "
            "pip install datasets",
            name="datasets",
        ) from None
    return datasets
