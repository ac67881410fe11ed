"""A model as two files: its weights as safetensors, its configuration as JSON; nothing pickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from ..storage.files import write_atomically

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
FORMAT = 1


def save_model(folder: str | Path, config: dict[str, Any], weights: Mapping[str, Tensor]) -> Path:
    """Write both files into `folder`, each whole or not at all; returns the folder.

    The configuration comes last and carries the SHA-256 of the weights: two files of different
    saves, left by a crash between them, are never loaded together.
    """
    folder = Path(folder)
    content = save(_apart(weights))
    write_atomically(folder / WEIGHTS, content)
    sha256 = hashlib.sha256(content).hexdigest()
    body = {"format": FORMAT, "config": config, "weights_sha256": sha256}
    write_atomically(folder / CONFIG, json.dumps(body, indent=1).encode())
    return folder


def _apart(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each weight in a place of its own: a file has no room for one that stands under two names."""
    seen: set[int] = set()
    apart = {}
    for name, weight in weights.items():
        plain = weight.detach().contiguous()
        apart[name] = plain.clone() if plain.data_ptr() in seen else plain
        seen.add(plain.data_ptr())
    return apart


def load_model(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the weights that `save_model` wrote, on the CPU.

    Raises:
        ValueError: a file is missing, is not of this format, or is not the one that was saved.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"folder={str(folder)!r} holds no {name}; GPT.save writes one")
    config, sha256 = _read_config(folder / CONFIG)
    content = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{folder / WEIGHTS} is damaged or of another save than {CONFIG}: its SHA-256 differs "
            "from the one written there"
        )
    return config, load(content)


def check_shapes(asked: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> None:
    """Raise ValueError at the first weight whose shape is not the one the configuration asks."""
    for name in (*asked, *sorted(held.keys() - asked.keys())):
        shapes = [tuple(side[name].shape) if name in side else None for side in (asked, held)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{CONFIG} disagrees with {WEIGHTS} on {name}: the configuration asks for shape "
                f"{shapes[0]}, the file holds {shapes[1]}"
            )


def _read_config(path: Path) -> tuple[dict[str, Any], str]:
    try:
        body = json.loads(path.read_bytes())
        version, config, sha256 = body["format"], dict(body["config"]), body["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a configuration that GPT.save wrote: {error!r}") from None
    if version != FORMAT:
        raise ValueError(f"format={version!r} in {path} is not this version's {FORMAT}")
    return config, sha256
