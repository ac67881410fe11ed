"""Find a model's residual blocks by their shape, without importing the library they come from.

A residual block maps an activation to one of the same shape, holds a normalisation and at least
two weight matrices, and stands in a list with others like it. What stands in a list inside it does
not count: so a stage (a list of blocks with a downsampling, as in Swin) is no block, its members
are, and an expert of a block is none either.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from ..errors import check_kind, shown


@dataclass(frozen=True, kw_only=True)
class BlockEntry:
    """One residual block: its layer is its place in `find_blocks`' answer.

    Attributes:
        name: the path in the model, as in `model.get_submodule(name)`.
        module: the block itself.
    """

    name: str
    module: nn.Module


class NoBlocksError(ValueError):
    """The model has no residual blocks that can be skipped; the message says what was looked at."""


def find_blocks(model: nn.Module, *, within: str = "") -> tuple[BlockEntry, ...]:
    """The model's residual blocks, in the order in which the model holds them.

    Args:
        model: any torch module: GPT-2, BERT, ViT, Llama, SwinV2, torch's TransformerEncoder, ...
        within: path of a part of the model to look in, such as "encoder"; "" is all of it.

    Raises:
        NoBlocksError: no two blocks were found, or they share state so that none can be skipped.
        ValueError: `within` names no part of the model.
    """
    check_model(model)
    check_kind("within", within, str, "the path of a part of the model, such as 'encoder'")
    try:
        root = model.get_submodule(within)
    except AttributeError:
        kind = type(model).__name__
        raise ValueError(f"within={shown(within)} names no part of {kind}") from None
    stacks = {name: module for name, module in root.named_modules() if _is_stack(module)}
    outermost = {name: stack for name, stack in stacks.items() if not _is_inside(name, stacks)}
    blocks = tuple(
        BlockEntry(name=".".join(filter(None, (within, name, child))), module=block)
        for name, stack in outermost.items()
        for child, block in stack._modules.items()
        if block is not None
    )
    if len(blocks) < 2:
        raise NoBlocksError(_what_was_seen(model, root, len(blocks), within))
    if len({id(block.module) for block in blocks}) < len(blocks):
        raise NoBlocksError(
            f"model={type(model).__name__}: one block stands at several places, so that its layers "
            "cannot be skipped one by one"
        )
    for stack in outermost.values():
        _refuse_shared_state(model, stack)
    return blocks


def check_model(model: nn.Module) -> nn.Module:
    """The model, or ValueError where it is no torch module."""
    return check_kind("model", model, nn.Module, "a torch module, such as GPT.from_preset('tiny')")


def _is_inside(name: str, others: Iterable[str]) -> bool:
    """Whether this path leads through one of the others."""
    return any(name != other and (not other or name.startswith(f"{other}.")) for other in others)


def _is_stack(module: nn.Module) -> bool:
    """Whether the module is a list of blocks of one class."""
    if not isinstance(module, (nn.ModuleList, nn.Sequential)) or len(module) == 0:
        return False
    children = list(module)
    return len({type(child) for child in children}) == 1 and all(map(_is_block, children))


def _is_block(module: nn.Module) -> bool:
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return False  # never called, so that its call cannot be skipped
    parts = list(_own_parts(module))
    has_norm = any("norm" in type(part).__name__.lower() for part in parts)
    matrices = [p for part in parts for p in part.parameters(recurse=False) if p.ndim >= 2]
    return has_norm and len(matrices) >= 2


def _own_parts(module: nn.Module) -> Iterator[nn.Module]:
    """The module and all in it, without the lists of blocks in it."""
    yield module
    for child in module.children():
        if not _is_stack(child):
            yield from _own_parts(child)


def _refuse_shared_state(model: nn.Module, stack: nn.Module) -> None:
    """Refuse blocks of which the first computes, with weights of its own, what the others take."""
    first, *others = stack.children()
    takes_bias = "position_bias" in inspect.signature(first.forward).parameters
    weights = [dict(block.named_parameters()).keys() for block in (first, *others)]
    if takes_bias and any(weights[0] - other for other in weights[1:]):
        raise NoBlocksError(
            f"model={type(model).__name__}: the blocks share state: the first "
            f"{type(first).__name__} computes the position_bias that the others take, as in T5; "
            "without it they compute wrong values"
        )


def _what_was_seen(model: nn.Module, root: nn.Module, num_found: int, within: str) -> str:
    lists = [
        f"{name or '(the model)'}: {len(module)} x {type(next(iter(module))).__name__}"
        for name, module in root.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module)
    ]
    seen = "; ".join(lists[:8]) or "no ModuleList or Sequential"
    where = f" within={within!r}" if within else ""
    return (
        f"model={type(model).__name__} has {num_found} residual block(s){where}; at least two are "
        "needed. "
        f"A block holds a normalisation and two or more weight matrices, in a list of blocks of "
        f"one class. Looked at {seen}"
    )
