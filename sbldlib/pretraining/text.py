"""The text that a model of some shape learns: Python's own source, your own, or a dataset's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..data.batches import Batch
from ..data.hub import DATASETS, HubDataset, prepare_hub_tokens
from ..data.hub.asked import MAX_BYTES
from ..data.hub.dataset import kind_of
from ..data.lesson import LessonData, prepare_lesson_data
from ..errors import shown, unknown_name
from ..models.conv_gpt import ConvGPTConfig
from ..models.gpt import GPTConfig

UNREACHED = 1_000_000  # a step beyond every run
MAX_VOCABULARY = 16_384  # there is not text enough for more words
TEXT_BYTES = 4_000_000  # of Python's source, for the models that learn it in minutes
COLUMNS = ("text",)  # of files that nobody named the columns of
Shape = GPTConfig | ConvGPTConfig
OnProgress = Callable[[int, int], object]  # the rows and the bytes of text so far


def text_for(
    shape: Shape,
    *,
    batch_size: int = 16,
    seed: int = 0,
    corpus: str | None = None,
    dataset: HubDataset | None = None,
    max_bytes: int | None = None,
    on_progress: OnProgress | None = None,
) -> LessonData:
    """Text for a model of this shape; half of it arithmetic problems where the model is small.

    One that predicts further ahead than the next token learns text alone, and so does one that
    learns a dataset.

    Args:
        corpus: a folder of your own text; None for Python's standard library.
        dataset: of the Hub, or of files like its; read in place of a corpus.
        max_bytes: of the dataset's text, at the most; None for 100 MB.
        on_progress: told the rows and the bytes of text so far, while a dataset is prepared.
    """
    vocabulary_size = min(shape.vocabulary_size, MAX_VOCABULARY)
    if dataset is not None:
        prepared = prepare_hub_tokens(
            dataset,
            vocabulary_size=vocabulary_size,
            max_bytes=MAX_BYTES if max_bytes is None else max_bytes,
            on_progress=on_progress,
        )
        return prepared.lesson(
            context_length=shape.context_length,
            batch_size=batch_size,
            seed=seed,
            offset=shape.offset,
        )
    large = is_large(shape)
    return prepare_lesson_data(
        vocabulary_size=vocabulary_size,
        context_length=shape.context_length,
        batch_size=batch_size,
        seed=seed,
        arithmetic_rows=0 if large or shape.offset > 1 else batch_size // 2,
        offset=shape.offset,
        max_bytes=None if large or corpus is not None else TEXT_BYTES,
        root=corpus,
    )


def dataset_of(names: Sequence[str], columns: Sequence[str] | None = None) -> HubDataset:
    """The dataset that these names stand for.

    Args:
        names: one of `DATASETS`; or your own files, Parquet or JSON, and folders of such files.
        columns: that are text; None for the named dataset's own, and `COLUMNS` of files.

    Raises:
        ValueError: a name that stands for nothing, or columns that cannot be.
    """
    if names[0] in DATASETS and len(names) == 1:
        known = DATASETS[names[0]]
        return known if columns is None else replace(known, columns=tuple(columns), template=None)
    files = tuple(file for name in names for file in _files_of(name))
    return HubDataset(files=files, columns=COLUMNS if columns is None else tuple(columns))


def unseen_batches(data: LessonData, num_batches: int) -> list[Batch]:
    """Batches of the training text that no step of any run draws."""
    return [data.train.batch(UNREACHED + place) for place in range(num_batches)]


def is_large(shape: Shape) -> bool:
    """Whether it is a model for more text than arithmetic."""
    return shape.vocabulary_size > MAX_VOCABULARY


def _files_of(name: str) -> list[Path]:
    """The file of that name, or the files of the folder of that name, in their names' order."""
    path = Path(name)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:  # such as a name that is too long, or a folder that may not be entered
        is_folder = is_file = False
    if is_file:
        kind_of(path)
        return [path]
    if not is_folder:
        alone = "; it goes alone" if name in DATASETS else ""
        raise ValueError(
            f"{unknown_name('dataset', name, DATASETS)}{alone}; or give files of your own, Parquet "
            "or JSON, or a folder of them"
        )
    files = sorted(file for file in path.iterdir() if file.is_file() and _is_data(file))
    if not files:
        raise ValueError(f"dataset={shown(name)} is a folder without a Parquet or JSON file")
    return files


def _is_data(file: Path) -> bool:
    try:
        return bool(kind_of(file))
    except ValueError:
        return False
