"""Nested plain values and tensors as JSON and named tensors, and back: nothing is pickled.

A tree is made of None, booleans, numbers, text, lists, tuples, dicts with text or whole numbers as
keys, and tensors. What JSON cannot hold by itself is an object with one key that starts with "$".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

MARK = "$"
MAX_DEPTH = 50


class TreeError(ValueError):
    """Something that is no tree, or no packed one; its place is named."""


def pack(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """A tree as JSON's types, and its tensors on the CPU by the path at which each was met.

    A tensor that is met twice, as a tied weight is, is kept once.

    Raises:
        TreeError: a value that is none of a tree's types; its path and type are named.
    """
    packer = _Packer()
    return packer.pack(tree, ""), packer.tensors


class _Packer:
    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._met: dict[tuple, str] = {}
        self._kept: list[Tensor] = []  # so that no address is used twice meanwhile

    def pack(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, Tensor):
            return {"$tensor": self._tensor(value, path)}
        if isinstance(value, tuple):
            return {"$tuple": [self.pack(v, f"{path}.{i}") for i, v in enumerate(value)]}
        if isinstance(value, list):
            return [self.pack(v, f"{path}.{i}") for i, v in enumerate(value)]
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        raise TreeError(
            f"{path.lstrip('.')}: {type(value).__name__} cannot be kept in a checkpoint; only "
            "tensors, numbers, text, lists, tuples and dicts can"
        )

    def _mapping(self, value: Mapping[Any, Any], path: str) -> Any:
        items = [(key, self.pack(v, f"{path}.{key}")) for key, v in value.items()]
        for key, _ in items:
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise TreeError(f"{path.lstrip('.')}: key {key!r} must be text or a whole number")
        if all(isinstance(key, str) and not key.startswith(MARK) for key, _ in items):
            return dict(items)
        return {"$items": [[key, item] for key, item in items]}

    def _tensor(self, tensor: Tensor, path: str) -> str:
        plain = tensor.detach()
        place = (plain.device, plain.data_ptr(), plain.shape, plain.stride(), plain.dtype)
        if plain.numel() and place in self._met:
            return self._met[place]
        name = path.lstrip(".")
        while name in self.tensors:  # two paths may read alike where a key holds a dot
            name += "'"
        kept = plain.cpu().contiguous()
        # safetensors takes no two tensors of one storage, nor one that is part of a larger one.
        if kept.untyped_storage().nbytes() != kept.numel() * kept.element_size():
            kept = kept.clone()
        self.tensors[name] = kept
        self._kept.append(plain)
        self._met[place] = name
        return name


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that `pack` was given; a tensor that was met twice is one again.

    Raises:
        TreeError: not what `pack` makes, or a tensor that is not there.
    """
    return _unpack(packed, tensors, "", 0)


def _unpack(packed: Any, tensors: Mapping[str, Tensor], path: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise TreeError(f"{path.lstrip('.')[:80]}: nested more than {MAX_DEPTH} deep")
    if isinstance(packed, list):
        return [_unpack(v, tensors, f"{path}.{i}", depth + 1) for i, v in enumerate(packed)]
    if not isinstance(packed, dict):
        return packed
    if not any(key.startswith(MARK) for key in packed):
        return {k: _unpack(v, tensors, f"{path}.{k}", depth + 1) for k, v in packed.items()}
    try:
        ((kind, value),) = packed.items()
        return _marked(kind, value, tensors, path, depth)
    except (TypeError, ValueError, KeyError) as error:
        if isinstance(error, TreeError):
            raise
        where = path.lstrip(".")
        raise TreeError(f"{where}: {str(packed)[:60]} is nothing that was kept") from None


def _marked(kind: str, value: Any, tensors: Mapping[str, Tensor], path: str, depth: int) -> Any:
    if kind == "$tensor":
        if value not in tensors:
            raise TreeError(f"{path.lstrip('.')}: the tensor {value!r} is not there")
        return tensors[value]
    if kind == "$float":
        if value not in ("nan", "inf", "-inf"):
            raise TreeError(f"{path.lstrip('.')}: {value!r} is no number")
        return float(value)
    if kind == "$tuple":
        return tuple(_unpack(value, tensors, path, depth + 1))
    if kind == "$items":
        return {key: _unpack(v, tensors, f"{path}.{key}", depth + 1) for key, v in value}
    raise TreeError(f"{path.lstrip('.')}: {kind!r} is not known")
