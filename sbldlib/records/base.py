"""What all records share: JSON text, and files that are whole or absent."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

from ..storage.files import write_atomically
from ..storage.settings import DIGEST, plain, sha256_of_values

FORMAT = 1  # raised whenever a field changes its meaning


@dataclass(frozen=True, kw_only=True)
class Record:
    """What all records share: JSON text, and files that are whole or absent."""

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON types, with its kind and format number."""
        body = dataclasses.asdict(self)
        return {"kind": type(self).__name__, "format": FORMAT, **body}

    def to_json(self) -> str:
        """The record as JSON text with its own digest; what is not finite is written as null."""
        body = plain(_finite(self.to_dict()))
        return json.dumps({DIGEST: sha256_of_values(body), **body}, indent=1, allow_nan=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]):
        """The record read from `to_dict`'s form.

        Raises:
            ValueError: another kind, another format, or fields that do not match.
        """
        body = dict(values)
        kind, version = body.pop("kind", None), body.pop("format", None)
        if kind != cls.__name__:
            raise ValueError(f"kind={kind!r} in this file, {cls.__name__!r} was asked for")
        if version != FORMAT:
            raise ValueError(f"format={version!r} of {kind} is not this version's {FORMAT}")
        fields = dataclasses.fields(cls)
        names = {f.name for f in fields}
        # A file from before a field was added holds its default.
        needed = {f.name for f in fields if f.default is MISSING and f.default_factory is MISSING}
        if odd := sorted((body.keys() - names) | (needed - body.keys())):
            raise ValueError(f"{kind}: fields {odd} are missing or unknown")
        return cls(**{name: _tuples(value) for name, value in body.items()})

    @classmethod
    def from_json(cls, text: str):
        """The record read from `to_json`'s text.

        Raises:
            ValueError: not a record of this kind, or its digest, where it has one, is of another.
        """
        body = json.loads(text)
        sha256 = body.pop(DIGEST, None) if isinstance(body, dict) else None
        if sha256 is not None and sha256 != sha256_of_values(body):
            raise ValueError("damaged: its SHA-256 is not the one written in it")
        return cls.from_dict(body)

    def save(self, path: str | Path) -> Path:
        """Write the record as JSON; the file appears whole or not at all."""
        return write_atomically(path, self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path):
        """Read a record that `save` wrote.

        Raises:
            ValueError: the file is damaged, or of another kind; it is named.
        """
        try:
            return cls.from_json(Path(path).read_bytes().decode())
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from None


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, so that a record read back equals the one written."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
