"""One checkpoint: a folder of four files that is whole or absent, and verified when it is read.

`model.safetensors` holds the model's state by its own names, `training.safetensors` all other
tensors, `state.json` everything that is not a tensor, and `manifest.json`, written last, the size
and SHA-256 of each. The folder is written under another name, synced, and renamed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from .files import GONE, read_plain, remove_path, sha256_of, sync_file, sync_folder, temporary_name
from .trees import TreeError, pack, unpack

FORMAT = 1
MODEL, TRAINING, STATE, MANIFEST = (
    "model.safetensors",
    "training.safetensors",
    "state.json",
    "manifest.json",
)
CONTENT = (MODEL, TRAINING, STATE)
MAX_MANIFEST_BYTES = 10_000
_MODEL_PREFIX = "model."


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; what, where and which other one is whole."""


def write_checkpoint(target: Path, tree: dict[str, Any]) -> Path:
    """Write a tree as a checkpoint; `tree["model"]` is the model's state by name.

    What is there under this name already is replaced.

    Raises:
        TreeError: a value that cannot be kept.
        CheckpointError: the disk refused it; nothing of it is left.
    """
    packed, tensors = pack(tree)
    temporary = temporary_name(target)
    try:
        temporary.mkdir(parents=True)
        _write_content(temporary, packed, tensors)
        _put_in_place(temporary, target)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(_refused(target, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _write_content(folder: Path, packed: Any, tensors: dict[str, Tensor]) -> None:
    model = {n: t for n, t in tensors.items() if n.startswith(_MODEL_PREFIX)}
    save_file({n.removeprefix(_MODEL_PREFIX): t for n, t in model.items()}, folder / MODEL)
    save_file({n: t for n, t in tensors.items() if n not in model}, folder / TRAINING)
    (folder / STATE).write_text(json.dumps(packed, allow_nan=False))
    for name in CONTENT:
        sync_file(folder / name)
    files = {
        name: {"num_bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
        for name in CONTENT
    }
    (folder / MANIFEST).write_bytes(_manifest(files))
    sync_file(folder / MANIFEST)
    sync_folder(folder)


def _put_in_place(temporary: Path, target: Path) -> None:
    if target.exists():
        old = temporary_name(target)
        os.replace(target, old)
        os.replace(temporary, target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(temporary, target)
    sync_folder(target.parent)


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The tree that `write_checkpoint` was given, its tensors on the CPU.

    Nothing of it is used before all of it was held against the manifest.

    Raises:
        CheckpointError: a file is missing, damaged, or not what was written; it is named.
    """
    content = {name: _verified(folder, name, facts) for name, facts in read_manifest(folder)}
    try:
        tensors = {f"{_MODEL_PREFIX}{n}": t for n, t in load(content[MODEL]).items()}
        tensors |= load(content[TRAINING])
        tree = unpack(json.loads(content[STATE]), tensors)
        if not isinstance(tree, dict):
            raise TreeError("no state")
    # What is parsed here was made to look right: anything may be raised by what is inside.
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise CheckpointError(f"{folder} is not a checkpoint of this kit ({reason})") from error
    return tree


def check_checkpoint(folder: Path) -> None:
    """Raise CheckpointError where a file is not what was written, without loading it."""
    for name, facts in read_manifest(folder):
        _check_size(folder, name, facts)
        if sha256_of(folder / name) != facts["sha256"]:
            raise CheckpointError(_damaged(folder / name))


def rescue(part: Path, target: Path) -> None:
    """Of a save that was killed: put it in place where it is whole and nothing else is there."""
    if target.exists() or not part.is_dir():
        remove_path(part)
        return
    try:
        check_checkpoint(part)
    except CheckpointError:
        remove_path(part)
    else:
        os.replace(part, target)


def remove_checkpoint(folder: Path) -> None:
    """Remove it under another name: a kill leaves none that is half there under its own."""
    going = temporary_name(folder, GONE)
    try:
        os.replace(folder, going)
    except OSError:  # gone already, or held by a system that keeps it
        return
    remove_path(going)


def read_manifest(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name, size and SHA-256 of each file of a checkpoint.

    Raises:
        CheckpointError: it is missing, damaged, or names other files than a checkpoint's.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError("not a manifest")
        text = read_plain(path)
        body = json.loads(text)
        files = {name: body["files"][name] for name in CONTENT}
        # Byte for byte: a flipped bit in the manifest itself is found as well.
        if body["format"] == FORMAT and _manifest(files) == text:
            return list(files.items())
        found = body["format"]
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is no whole checkpoint: it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__})") from None
    if found != FORMAT and isinstance(found, int):
        raise CheckpointError(f"format={found} of {path} is not this version's {FORMAT}")
    raise CheckpointError(_damaged(path))


def _manifest(files: dict[str, dict[str, Any]]) -> bytes:
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    body = {"format": FORMAT, "files": files, "sha256": digest}
    return json.dumps(body, indent=1).encode()


def _verified(folder: Path, name: str, facts: dict[str, Any]) -> bytes:
    """The file's content, read once, so that what is used is what was verified."""
    _check_size(folder, name, facts)
    try:
        content = read_plain(folder / name)
    except (OSError, MemoryError) as error:
        reason = error if isinstance(error, OSError) else "it does not fit in memory"
        raise CheckpointError(f"{folder / name} cannot be read ({reason})") from error
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise CheckpointError(_damaged(folder / name))
    return content


def _check_size(folder: Path, name: str, facts: dict[str, Any]) -> None:
    path = folder / name
    if not path.is_file() or path.is_symlink():
        raise CheckpointError(f"{folder} is no whole checkpoint: it has no {name}")
    if (found := path.stat().st_size) != facts["num_bytes"]:
        raise CheckpointError(
            f"{path} is damaged: it holds {found} bytes where {facts['num_bytes']} were written"
        )


def _damaged(path: Path) -> str:
    return f"{path} is damaged: its SHA-256 is not the one that was written"


def _refused(target: Path, error: Exception) -> str:
    free = shutil.disk_usage(_existing(target)).free / 2**20
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    full = full or "No space left" in str(error) or "File too large" in str(error)
    reason = "the disk is full" if full else "the disk refused it"
    return f"{target} could not be written: {reason} ({free:.0f} MiB free; {error})"


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
