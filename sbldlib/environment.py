"""What a run ran on: versions and machine, without names of people, hosts or folders."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sys
from typing import Any

PACKAGES = ("torch", "numpy", "scipy", "pandas", "matplotlib", "ipywidgets", "ipykernel")
PACKAGES += ("jupyterlab", "tokenizers", "safetensors", "transformers")


def environment() -> dict[str, Any]:
    """Versions and machine as plain values, for records and reports."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": device,
        "packages": {name: v for name in PACKAGES if (v := installed_version(name)) is not None},
    }


def installed_version(package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_colab() -> bool:
    """Whether this Python is a Google Colab kernel."""
    return "google.colab" in sys.modules
