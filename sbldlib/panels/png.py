"""A PNG in the least processor time: a live panel encodes its picture three times a second."""

from __future__ import annotations

import struct
import zlib

import numpy as np

LEVEL = 3  # for flat pictures as fast as 1, and a third smaller


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG of RGBA pixels [row, column, 4] without its transparency.

    No row filter and fast compression: a third of an image library's time.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter, none
    rows[:, 1:].reshape(height, width, 3)[...] = pixels[..., :3]
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    body = zlib.compress(rows.data, LEVEL)
    parts = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in parts
    )
