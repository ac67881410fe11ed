"""A live session as files: its record, and its picture."""

from __future__ import annotations

from pathlib import Path

from ..errors import check_path
from ..live.record import LIVE, LiveRecord
from ..storage.files import write_atomically

PICTURE = "live.png"


def save_live(record: LiveRecord, picture: bytes, folder: str | Path) -> tuple[Path, Path]:
    """Write live.json and live.png into a folder; their paths."""
    folder = check_path("folder", folder)
    return record.save(folder / LIVE), write_atomically(folder / PICTURE, picture)
