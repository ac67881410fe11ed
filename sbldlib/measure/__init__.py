"""What a step costs: floating-point operations block by block, and memory."""

from __future__ import annotations

from .flops import FlopCount, count_flops
from .saved import SavedBytes, count_saved_bytes
from .step import first_tensor, peak_memory_bytes

__all__ = [
    "FlopCount",
    "SavedBytes",
    "count_flops",
    "count_saved_bytes",
    "first_tensor",
    "peak_memory_bytes",
]
