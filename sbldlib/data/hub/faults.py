"""What can go wrong between a dataset and its token files, in one sentence each."""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import printable, shown
from .dataset import HubDataset

SHOWN_CHARACTERS = 300  # of another library's message
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# By the beginning of their names, httpx2 too: they are imported where a dataset is read, not here.
NETWORK_LIBRARIES = ("aiohttp", "httpcore", "httpx", "requests", "urllib3")
NO_DATASET = {"RepositoryNotFoundError", "DatasetNotFoundError"}
NO_ANSWER = {"HfHubHTTPError", "LocalEntryNotFoundError", "OfflineModeIsEnabled"}
NOT_OF_THE_DATASET = ("Bad split", "BuilderConfig")  # how the library says so


class HubError(RuntimeError):
    """A dataset cannot be read, or its tokens not written; what, where, and what is kept."""


def in_words(error: Exception, dataset: HubDataset, file: str | None) -> Exception:
    """What to raise in place of an error met while a dataset was read.

    Args:
        file: what was read, where that is known.
    """
    chain = list(_chain(error))
    names = {type(one).__name__ for one in chain}
    reason = f"{type(error).__name__}: {printable(str(error))[:SHOWN_CHARACTERS]}"
    if dataset.path is not None:
        if "RevisionNotFoundError" in names:
            return ValueError(f"revision={shown(dataset.revision)} is none of {dataset.name}")
        if "GatedRepoError" in names:
            return HubError(
                f"{dataset.name} asks who reads it: agree to its terms at https://huggingface.co/"
                f"datasets/{dataset.path} and log in with `hf auth login`"
            )
        if any(map(_is_of_the_network, chain)):
            return HubError(
                f"{dataset.name} cannot be reached: no network, or the Hub does not answer "
                f"({reason})"
            )
        if names & NO_DATASET:
            return ValueError(
                f"path={shown(dataset.path)} is no dataset of the Hub, or one that needs `hf auth "
                "login`"
            )
    if any(words in str(error) for words in NOT_OF_THE_DATASET):
        return ValueError(f"{dataset.name}: {printable(str(error))[:SHOWN_CHARACTERS]}")
    where = dataset.name if file is None else printable(file)
    return HubError(f"{where} is broken, or was cut off ({reason}); put a whole file in its place")


@contextmanager
def disk_told(folder: Path) -> Iterator[None]:
    """Where the disk refuses a write within this `with`, that is said in words."""
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(_existing(folder)).free / 2**20
        is_full = error.errno in FULL
        reason = "the disk is full; make room" if is_full else "the disk refused it"
        raise HubError(
            f"{folder} could not be written: {reason} ({free:.0f} MiB free; {error})"
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it came from."""
    met: set[int] = set()
    while error is not None and id(error) not in met:
        met.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_of_the_network(error: BaseException) -> bool:
    kinds = type(error).__mro__
    if any(kind.__name__ in NO_DATASET for kind in kinds):
        return False
    return (
        isinstance(error, (ConnectionError, TimeoutError, socket.gaierror))
        or any(kind.__name__ in NO_ANSWER for kind in kinds)
        or type(error).__module__.startswith(NETWORK_LIBRARIES)
    )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
