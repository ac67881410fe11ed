"""Which rows are text, and what text: of a dataset of the Hugging Face Hub, or of own files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from ...errors import check_kind, check_path, items, printable, shown, unknown_name

BLANK_LINE = "\n\n"  # between the columns where no template is given
KINDS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
PACKED = (".gz", ".bz2", ".xz", ".zst")
EMPTY, NOT_TEXT = "empty", "not_text"
_HUB_PATH = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """Rows that hold text in some of their columns: of the Hub, or of files of your own.

    Attributes:
        columns: the columns that are used, each of text.
        path: "owner/name" on the Hub; None where there are files.
        files: Parquet, JSON Lines or JSON files of one kind, read in this order. A JSON file that
            is one long list is held in memory as a whole.
        template: a row's document, with "{column}" for the text of each column; None puts a blank
            line between the columns.
        configuration: of a dataset that has several; None for its default one.
        split: of the dataset; the kit draws its own splits from the rows of this one.
        revision: a commit, tag or branch of the dataset; None for the newest at the first call.

    Raises:
        ValueError: neither a path nor files, a name that is none, or a template that does not use
            the columns.
    """

    columns: tuple[str, ...]
    path: str | None = None
    files: tuple[Path, ...] = ()
    template: str | None = None
    configuration: str | None = None
    split: str = "train"
    revision: str | None = None

    def __post_init__(self) -> None:
        columns = tuple(
            check_kind("columns", name, str, "the names of columns, such as ('text',)")
            for name in items("columns", self.columns)
        )
        if not columns or len(set(columns)) != len(columns):
            raise ValueError(f"columns={shown(columns)} must name one or more different columns")
        files = tuple(check_path("files", file) for file in items("files", self.files))
        _check_place(self.path, files)
        for field in ("configuration", "revision"):
            if getattr(self, field) is not None:
                check_kind(field, getattr(self, field), str, "text, or None")
        check_kind("split", self.split, str, "the name of a split of the dataset, such as 'train'")
        template = self.template
        if template is None:
            template = BLANK_LINE.join(f"{{{name}}}" for name in columns)
        _check_template(template, columns)
        for field, value in (("columns", columns), ("files", files), ("template", template)):
            object.__setattr__(self, field, value)

    @property
    def kind(self) -> str | None:
        """What the files are: "parquet" or "json"; None of the Hub."""
        return kind_of(self.files[0]) if self.files else None

    @property
    def name(self) -> str:
        """For people, in one line."""
        if self.path is not None:
            return self.path
        first = printable(self.files[0].name)
        return first if len(self.files) == 1 else f"{first} and {len(self.files) - 1} more"

    def why_left_out(self, row: Mapping[str, Any]) -> str | None:
        """Why a row is no document: one of `EMPTY` and `NOT_TEXT`; None where it is one."""
        reasons = [_why_no_text(row.get(column)) for column in self.columns]
        return next((reason for reason in reasons if reason is not None), None)

    def text_of(self, row: Mapping[str, str]) -> str:
        """A row's document."""
        parts = _parts(str(self.template))
        return "".join(text if column is None else text + row[column] for text, column in parts)


def find_dataset(dataset: str | HubDataset) -> HubDataset:
    """The dataset, by its name in `DATASETS` or itself.

    Raises:
        ValueError: a name that is not known.
    """
    if isinstance(dataset, HubDataset):
        return dataset
    if isinstance(dataset, str) and dataset in DATASETS:
        return DATASETS[dataset]
    error = unknown_name("dataset", dataset, DATASETS)
    raise ValueError(f"{error}; any other: HubDataset(path='owner/name', columns=['text'])")


def kind_of(file: Path) -> str:
    """What a file's name says that it holds: "parquet" or "json"."""
    ends = [end.lower() for end in file.suffixes]
    if ends and ends[-1] in PACKED:
        ends.pop()
    if not ends or ends[-1] not in KINDS:
        raise ValueError(
            f"files: {shown(str(file))} ends with none of {', '.join(KINDS)}, which "
            f"{', '.join(PACKED)} may follow"
        )
    return KINDS[ends[-1]]


def _check_place(path: Any, files: tuple[Path, ...]) -> None:
    if (path is None) == (not files):
        raise ValueError(
            f"path={shown(path)} and files={shown([str(file) for file in files])}: give one of them"
        )
    if path is not None:
        check_kind("path", path, str, "'owner/name' of a dataset on the Hub")
        if not _HUB_PATH.fullmatch(path):
            raise ValueError(
                f"path={shown(path)} must be 'owner/name' of a dataset on the Hub; your own files "
                "go into files=[...]"
            )
    kinds = sorted({kind_of(file) for file in files})
    if len(kinds) > 1:
        raise ValueError(f"files are of several kinds, {' and '.join(kinds)}; give one kind a call")


def _check_template(template: Any, columns: tuple[str, ...]) -> None:
    check_kind("template", template, str, "text with {column} in it")
    used = {column for _, column in _parts(template) if column is not None}
    if used != set(columns):
        raise ValueError(
            f"template={shown(template)} uses the columns {sorted(used)}, and columns names "
            f"{sorted(columns)}; they must be the same"
        )


def _parts(template: str) -> list[tuple[str, str | None]]:
    """Each text of a template, with the column behind it."""
    try:
        found = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template={shown(template)}: {error}; write a brace as two") from None
    return [
        (text, None if name is None else _whole_name(name, how, form))
        for text, name, form, how in found
    ]


def _whole_name(name: str, how: str | None, form: str | None) -> str:
    """All that stands between braces: "{text!r}" and "{text:>9}" are the names of no column."""
    return name + (f"!{how}" if how else "") + (f":{form}" if form else "")


def _why_no_text(value: Any) -> str | None:
    if value is None:
        return EMPTY
    try:
        value.encode()
    except (AttributeError, UnicodeEncodeError):  # another type; half a character
        return NOT_TEXT
    return None if value.strip() else EMPTY


# Last: what makes one is checked by what stands above.
OPEN_WEB_MATH = HubDataset(path="open-web-math/open-web-math", columns=("text",))
MATHS_COLLEGE = HubDataset(path="ajibawa-2023/Maths-College", columns=("instruction", "output"))
DATASETS = {"open-web-math": OPEN_WEB_MATH, "maths-college": MATHS_COLLEGE}
