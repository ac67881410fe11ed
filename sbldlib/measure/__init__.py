"""What a step costs: operations block by block, memory, what must wait, and how far it sees."""

from __future__ import annotations

from .causality import Causality, measure_causality
from .flops import FlopCount, count_flops
from .graph import (
    AutogradGraph,
    Parallelism,
    count_operations,
    measure_parallelism,
    trace_graph,
)
from .reach import Reach, measure_reach
from .saved import SavedBytes, count_saved_bytes
from .step import first_tensor, peak_memory_bytes

__all__ = [
    "AutogradGraph",
    "Causality",
    "FlopCount",
    "Parallelism",
    "Reach",
    "SavedBytes",
    "count_flops",
    "count_operations",
    "count_saved_bytes",
    "first_tensor",
    "measure_causality",
    "measure_parallelism",
    "measure_reach",
    "peak_memory_bytes",
    "trace_graph",
]
