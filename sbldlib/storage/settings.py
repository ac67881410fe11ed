"""Settings on disk: with their own digest, and compared field by field."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .files import read_plain, write_atomically

DIGEST = "sha256"


def write_signed(path: Path, body: dict[str, Any]) -> Path:
    """Write a JSON object with the digest of its content."""
    body = plain(body)
    text = json.dumps({DIGEST: sha256_of_values(body), **body}, indent=1)
    return write_atomically(path, text.encode())


def read_signed(path: Path) -> dict[str, Any]:
    """The object that `write_signed` wrote.

    Raises:
        ValueError: the file is not what was written.
    """
    try:
        body = json.loads(read_plain(path))
        sha256 = body.pop(DIGEST)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__})") from None
    if sha256 != sha256_of_values(body):
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one written in it")
    return body


def first_difference(there: dict[str, Any], asked: dict[str, Any]) -> tuple[str, str, str] | None:
    """Name, value there and value asked, as JSON text, of a field that differs; digests last.

    A digest says the least, so another field is named wherever there is one.
    """
    before, here = _flat(there), _flat(plain(asked))
    for field in sorted(before.keys() | here.keys(), key=lambda name: (DIGEST in name, name)):
        if before.get(field) != here.get(field):
            return field, before.get(field, "nothing"), here.get(field, "nothing")
    return None


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives them back; what JSON cannot hold as text."""
    return json.loads(json.dumps(values, default=str))


def sha256_of_values(values: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _flat(values: dict[str, Any], above: str = "") -> dict[str, str]:
    """Dotted field names to their values as JSON text."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{above}{name}.")
        else:
            found[above + name] = json.dumps(value)
    return found
