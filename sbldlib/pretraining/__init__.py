"""Train one of the kit's GPTs in a folder that keeps it, and measure it: `sbld train` and after."""

from __future__ import annotations

from .config import PretrainConfig
from .measure import load_pretrained, measure_sensitivities
from .run import prepare, pretrain
from .text import text_for

__all__ = [
    "PretrainConfig",
    "load_pretrained",
    "measure_sensitivities",
    "prepare",
    "pretrain",
    "text_for",
]
