"""Everything that decides how a run goes on, taken out of it and put back."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..environment import installed_version
from ..errors import check_positive_int
from ..storage.checkpoints import CheckpointError
from .callbacks import Callback
from .checkpoints import put_weights
from .controls import Controls
from .run import Run

FORMAT = 1
_LIKE_WEIGHT = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


def capture(run: Run, controls: Controls | None) -> dict[str, Any]:
    """The run's state at a step boundary, as a tree of plain values and tensors.

    All ranks have to call this.
    """
    return {
        "format": FORMAT,
        "model": dict(run.model.state_dict()),
        "optimizer": run.optimizer.state_dict(),
        "progress": {
            "steps": run.steps,
            "flops": run.flops,
            "seconds": run.seconds,
            "parts": run.parts,
        },
        "generators": generators(run),
        "callbacks": [_state_of(callback) for callback in run.callbacks],
        "data": _state_of(run.data),
        "controls": controls.state_dict() if controls is not None else None,
        "conditions": conditions(run),
    }


def restore(run: Run, tree: dict[str, Any], controls: Controls | None, *, where: str) -> None:
    """Put a captured state back.

    Raises:
        CheckpointError: it does not fit the run; what was put back by then stays.
    """
    if tree.get("format") != FORMAT:
        raise CheckpointError(f"format={tree.get('format')!r} of {where} is not {FORMAT}")
    try:
        before = _trained(run.model)
        for target, state in zip(run.callbacks, tree["callbacks"], strict=True):
            _load(target, state)  # first, for one of them may let the model grow
        if _trained(run.model) != before:
            run.count_again()
        put_weights(run.model, tree["model"], where)
        _put_optimizer(run.optimizer, tree["optimizer"])
        progress = tree["progress"]
        check_positive_int("steps", progress["steps"], minimum=0)
        run.steps, run.parts = int(progress["steps"]), int(progress["parts"])
        run.flops, run.seconds = float(progress["flops"]), float(progress["seconds"])
        _load(run.data, tree["data"])
        if controls is not None and tree["controls"] is not None:
            controls.load_state_dict(tree["controls"])
        put_generators(run, tree["generators"])
    # Made to look right, a state may raise anything in what reads its parts.
    except Exception as error:
        if isinstance(error, CheckpointError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{where} does not fit this run ({reason})") from error


def generators(run: Run) -> dict[str, Any]:
    """The states of every generator that a model or a data source may draw from unasked.

    Each rank has torch's of its own; all of them have to call this.
    """
    name, keys, *rest = np.random.get_state(legacy=True)
    mine = torch.get_rng_state()
    if run.device.type == "cuda":
        mine = torch.cat([mine, torch.cuda.get_rng_state(run.device)])
    told = run.workers.gather(mine.numpy().tobytes())
    return {
        "torch": [torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in told],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        "python": random.getstate(),
    }


def put_generators(run: Run, states: dict[str, Any]) -> None:
    """Put the states back that `generators` gave."""
    of_ranks = states["torch"]
    mine = of_ranks[min(run.workers.index, len(of_ranks) - 1)]
    num_bytes = len(torch.get_rng_state())
    torch.set_rng_state(mine[:num_bytes].clone())
    name, keys, *rest = states["numpy"]
    if not 0 <= rest[0] <= len(keys):  # numpy would read there, whatever lies there
        raise ValueError(f"{rest[0]} is no place in numpy's random state")
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(states["python"])
    if run.device.type == "cuda" and len(mine) > num_bytes:
        torch.cuda.set_rng_state(mine[num_bytes:].clone(), run.device)


def conditions(run: Run) -> dict[str, Any]:
    """What else decides the last bit: a run goes on exactly where these are equal."""
    return {
        "torch": installed_version("torch"),
        "sbldlib": installed_version("sbldlib"),
        "device": str(run.device.type),
        "threads": torch.get_num_threads(),
        "processes": run.workers.count,
        "deterministic": run.device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
    }


def why_not_exact(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What keeps a run from going on exactly as it would have; empty where nothing does."""
    if not now["deterministic"]:
        return "torch.use_deterministic_algorithms(True) was not asked for"
    differing = [name for name in now if before.get(name) != now[name]]
    return ", ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in differing)


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of names, types, shapes and content of a model's state."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(tensor_bytes(value))
    return digest.hexdigest()


def batch_sha256(batch: Any) -> str:
    """SHA-256 of a batch's tensors, in their order."""
    digest = hashlib.sha256()
    for tensor in _tensors(batch):
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """Type, shape and content, as bytes."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    content = plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return f"{tensor.dtype} {tuple(tensor.shape)}".encode() + content


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    parts: Sequence[Any] = ()
    if isinstance(batch, (tuple, list)):
        parts = batch
    elif hasattr(batch, "items"):
        parts = [value for _, value in sorted(batch.items())]
    return [tensor for part in parts for tensor in _tensors(part)]


def _trained(model: nn.Module) -> list[int]:
    """The weights that are trained, each by its place in memory."""
    return [id(weight) for weight in model.parameters() if weight.requires_grad]


def _put_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    mine = optimizer.state_dict()["param_groups"]
    theirs = state["param_groups"]
    sizes = [[len(group["params"]) for group in groups] for groups in (mine, theirs)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"the optimizer has groups of {sizes[0]} weights, the file {sizes[1]}")
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for here, there in zip(mine, theirs, strict=True):
        _check_options(here, there)
    for index, values in state["state"].items():
        if type(index) is not int or not 0 <= index < len(weights):
            raise ValueError(f"the optimizer has no weight {index!r}")
        _check_moments(optimizer, weights[index], values)
    optimizer.load_state_dict(state)


def _check_options(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Numbers may have changed in the run; nothing else may."""
    for name in mine.keys() | theirs.keys():
        pair = mine.get(name), theirs.get(name)
        are_numbers = all(type(value) in (int, float) for value in pair)
        if are_numbers and not math.isfinite(float(theirs[name])):
            raise ValueError(f"{name}={pair[1]} of the optimizer is not finite")
        if not (are_numbers or all(map(torch.is_tensor, pair)) or pair[0] == pair[1]):
            raise ValueError(f"{name}={pair[0]!r} in this optimizer, {pair[1]!r} in the file")


def _check_moments(optimizer: torch.optim.Optimizer, weight: Tensor, values: Any) -> None:
    """What an optimizer of a known kind remembers of a weight; of others nothing is known."""
    is_adam = isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW))
    if is_adam and values and not {"step", "exp_avg", "exp_avg_sq"} <= values.keys():
        raise ValueError(f"the optimizer remembers only {[*values]} of a weight")
    for name, value in values.items():
        if name in _LIKE_WEIGHT and not (torch.is_tensor(value) and value.shape == weight.shape):
            raise ValueError(f"{name} of the optimizer is not like its weight")
        if name == "step" and not (torch.is_tensor(value) or type(value) in (int, float)):
            raise ValueError(f"step={value!r} of the optimizer is no number")


def _state_of(part: Any) -> Any:
    return part.state_dict() if hasattr(part, "state_dict") else None


def _load(part: Callback | Any, state: Any) -> None:
    if state is not None and hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
