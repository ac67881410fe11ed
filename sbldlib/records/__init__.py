"""The frozen records that pass between rooms, with JSON in and out.

Every record says what was applied, not what was asked.
"""

from __future__ import annotations

from .analysis import LayerLists, PilotData, SensitivityData, check_num_layers
from .base import FORMAT, Record
from .training import RunRecord, StepRecord

__all__ = [
    "FORMAT",
    "LayerLists",
    "PilotData",
    "Record",
    "RunRecord",
    "SensitivityData",
    "StepRecord",
    "check_num_layers",
]
