"""Data parallelism: the ranks of one run hold against one another what they are about to do.

Each rank runs its own micro-batches of every step, and the gradients are summed. That is the
gradient of the global batch only where all ranks run the same layers at the same step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..dropping.skipping import Skipping
from .finite import local
from .launch import Workers

_SHOWN = 160  # characters of a rank's own words in a message


class RankMismatchError(RuntimeError):
    """The ranks of a data-parallel run were not to do, or did not do, the same."""


def compare(
    workers: Workers, facts: dict[str, Any], *, step: int, carried: bytes = b""
) -> list[bytes]:
    """What each rank carries, once they are seen to agree on the facts.

    Args:
        facts: what has to be equal on all ranks, by name; of a list each item is told by itself.
        carried: what this rank tells the others, of the same length on each.

    Raises:
        RankMismatchError: on every rank, naming the step, both hashes and the facts that differ.
    """
    words = "\n".join(_lines({"step": step, **facts}))
    digest = hashlib.sha256(words.encode()).digest()
    told = workers.gather(digest + carried)
    digests = [one[: len(digest)] for one in told]
    for rank, theirs in enumerate(digests):
        if theirs != digests[0]:  # on all ranks alike, so that all of them go on to ask for words
            texts = workers.gather_texts(words)
            first = f"{digests[0].hex()[:16]} ({_differing(texts[0], texts[rank])})"
            other = f"{theirs.hex()[:16]} ({_differing(texts[rank], texts[0])})"
            raise RankMismatchError(
                f"step {step}: rank 0 and rank {rank} do not do the same, and nothing was summed: "
                f"rank 0 has sha256 {first}, rank {rank} has {other}. Give all ranks the same "
                "seeds, settings and model"
            )
    return [one[len(digest) :] for one in told]


def join(workers: Workers, model: nn.Module, settings: dict[str, Any]) -> None:
    """Let all ranks begin with rank 0's weights and buffers.

    Raises:
        RankMismatchError: they have other settings, or a model of other sizes.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    sizes = [f"{name} {tuple(t.shape)} {t.dtype}" for name, t in tensors.items()]
    compare(workers, {**settings, "model": sizes}, step=0)
    workers.take_from_first([tensor for tensor in tensors.values() if not is_sharded(tensor)])


def done_facts(model: nn.Module, skipping: Skipping | None) -> dict[str, Any]:
    """What the step's forward and backward passes were seen to do."""
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    calls = () if skipping is None else skipping.calls
    return {
        "layers run": [layer for layer, num in enumerate(calls) if num],
        "shares": () if skipping is None else skipping.shares(),
        "without a gradient": without,
    }


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, as FSDP2 (`fully_shard`) makes of parameters."""
    return hasattr(tensor, "device_mesh")


def check_sharding(model: nn.Module, workers: Workers) -> bool:
    """Whether parameters are sharded, over just these workers.

    Raises:
        ValueError: over others.
    """
    sharded = [parameter for parameter in model.parameters() if is_sharded(parameter)]
    for parameter in sharded:
        size = _mesh(parameter).size()
        if size != workers.count:
            raise ValueError(
                f"the model is sharded over {size} processes, and workers has {workers.count}: "
                "give train the workers that it is sharded over, workers=workers_here()"
            )
    return bool(sharded)


def sum_gradients(gradients: Sequence[Tensor], workers: Workers) -> None:
    """Sum over the ranks. Of sharded parameters FSDP has taken the mean; it becomes the sum."""
    workers.add_up([gradient for gradient in gradients if not is_sharded(gradient)])
    shards = [local(gradient) for gradient in gradients if is_sharded(gradient)]
    _scale(shards, float(workers.count))


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Of all gradients as one vector, whether they are sharded or not."""
    plain = [gradient for gradient in gradients if not is_sharded(gradient)]
    shards = [gradient for gradient in gradients if is_sharded(gradient)]
    norm = nn.utils.get_total_norm(plain)
    if not shards:
        return norm
    of_shards: Any = nn.utils.get_total_norm(shards)
    return torch.linalg.vector_norm(torch.stack([norm, of_shards.full_tensor()]))


def clip(parameters: Sequence[Tensor], clip_norm: float, norm: Tensor) -> None:
    """Scale the parameters' gradients down to at most this norm, given the norm that they have."""
    plain = [parameter for parameter in parameters if not is_sharded(parameter)]
    nn.utils.clip_grads_with_norm_(plain, clip_norm, norm)
    shards = [local(p.grad) for p in parameters if is_sharded(p) and p.grad is not None]
    _scale(shards, (clip_norm / (norm + 1e-6)).clamp(max=1.0))  # as torch does it


def _scale(tensors: Sequence[Tensor], factor: Any) -> None:
    for tensor in tensors:
        tensor.mul_(factor)


def _mesh(tensor: Any) -> Any:
    return tensor.device_mesh


def _lines(facts: dict[str, Any]) -> list[str]:
    items = ((name, v if isinstance(v, list) else [v]) for name, v in facts.items())
    return [f"{name}: {value}" for name, values in items for value in values]


def _differing(mine: str, other: str) -> str:
    """The lines that the other does not have, as far as they can be shown."""
    theirs = set(other.splitlines())
    own = [line for line in mine.splitlines() if line not in theirs]
    words = "; ".join(own or ["nothing of its own"])
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."
