"""Datasets of the Hugging Face Hub, and files like theirs, as the kit's token files."""

from __future__ import annotations

from .dataset import DATASETS, HubDataset
from .faults import HubError
from .prepare import prepare_hub_tokens
from .tokens import DataCard, HubTokens

__all__ = ["DATASETS", "DataCard", "HubDataset", "HubError", "HubTokens", "prepare_hub_tokens"]
