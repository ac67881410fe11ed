"""sbldlib: Sensitivity-Based Layer Dropping for any transformer, measured and taught.

The face of the library: the eight commands and the types they pass. Nothing is defined here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Loaded at first use, so that one room can be used where another's packages are not installed.
_HOMES = {
    "train": "training.loop",
    "skip_layers": "dropping.skipping",
    "sbld": "methods",
    "adjust_probability": "methods",
    "calculate_sensitivity": "sensitivity",
    "create_block_allow_lists": "dropping.lists",
    "create_variance_based_scheduler": "dropping.variance",
    "update_keep_probability": "dropping.allocation",
    "calculate_sensitivities": "sensitivity",
    "make_method": "methods",
    "make_optimizer": "training.optimizer",
    "run_pilot": "methods.pilot",
    "compare": "comparison",
    "Comparison": "comparison",
    "prune": "dropping.export",
    "early_exit": "dropping.export",
    "Budget": "training.config",
    "CheckpointConfig": "training.checkpoints",
    "TrainConfig": "training.config",
    "Controls": "training.controls",
    "SensitivityData": "records",
    "LayerLists": "records",
    "PilotData": "records",
    "StepRecord": "records",
    "RunRecord": "records",
    "GPT": "models.gpt",
    "GPTConfig": "models.gpt",
}

__all__ = [
    "GPT",
    "Budget",
    "CheckpointConfig",
    "Comparison",
    "Controls",
    "GPTConfig",
    "LayerLists",
    "PilotData",
    "RunRecord",
    "SensitivityData",
    "StepRecord",
    "TrainConfig",
    "__version__",
    "adjust_probability",
    "calculate_sensitivities",
    "calculate_sensitivity",
    "compare",
    "create_block_allow_lists",
    "create_variance_based_scheduler",
    "early_exit",
    "make_method",
    "make_optimizer",
    "prune",
    "run_pilot",
    "sbld",
    "skip_layers",
    "train",
    "update_keep_probability",
]

if TYPE_CHECKING:
    from .comparison import Comparison, compare
    from .dropping.allocation import update_keep_probability
    from .dropping.export import early_exit, prune
    from .dropping.lists import create_block_allow_lists
    from .dropping.skipping import skip_layers
    from .dropping.variance import create_variance_based_scheduler
    from .methods import adjust_probability, make_method, sbld
    from .methods.pilot import run_pilot
    from .models.gpt import GPT, GPTConfig
    from .records import LayerLists, PilotData, RunRecord, SensitivityData, StepRecord
    from .sensitivity import calculate_sensitivities, calculate_sensitivity
    from .training.checkpoints import CheckpointConfig
    from .training.config import Budget, TrainConfig
    from .training.controls import Controls
    from .training.loop import train
    from .training.optimizer import make_optimizer


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'sbldlib' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
