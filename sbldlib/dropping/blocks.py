"""Find a model's residual blocks by their shape, without importing the library they come from.

A residual block maps an activation to one of the same shape, holds a normalisation and at least
two weight matrices, and stands in a list with others like it. A stage (a list of blocks with a
downsampling, as in Swin) is such a list too: the innermost lists win.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from torch import nn


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
    try:
        root = model.get_submodule(within)
    except AttributeError:
        raise ValueError(f"within={within!r} names no part of {type(model).__name__}") from None
    stacks = {name: module for name, module in root.named_modules() if _is_stack(module)}
    innermost = {
        name: stack
        for name, stack in stacks.items()
        if not any(
            inner != name and inner.startswith(f"{name}." if name else "") for inner in stacks
        )
    }
    prefix = f"{within}." if within else ""
    blocks = tuple(
        BlockEntry(name=f"{prefix}{name}.{child}" if name else f"{prefix}{child}", module=block)
        for name, stack in innermost.items()
        for child, block in stack.named_children()
    )
    if len(blocks) < 2:
        raise NoBlocksError(_what_was_seen(model, root, len(blocks)))
    _refuse_shared(model, blocks)
    return blocks


def _is_stack(module: nn.Module) -> bool:
    """Whether the module is a list of blocks of one class."""
    if not isinstance(module, (nn.ModuleList, nn.Sequential)) or len(module) == 0:
        return False
    children = list(module)
    return len({type(child) for child in children}) == 1 and all(map(_is_block, children))


def _is_block(module: nn.Module) -> bool:
    parts = list(module.modules())
    has_norm = any("norm" in type(part).__name__.lower() for part in parts)
    matrices = [p for p in module.parameters() if p.ndim >= 2]
    return has_norm and len(matrices) >= 2


def _refuse_shared(model: nn.Module, blocks: tuple[BlockEntry, ...]) -> None:
    """Refuse blocks that stand at two places, or that hand state to the next block."""
    if len({id(block.module) for block in blocks}) < len(blocks):
        raise NoBlocksError(
            f"{type(model).__name__}: one block stands at several places, so that its layers cannot "
            "be skipped one by one"
        )
    for block in blocks:
        if "position_bias" in inspect.signature(block.module.forward).parameters:
            raise NoBlocksError(
                f"{type(model).__name__}: the blocks share state: {block.name} takes a position_bias "
                "that the first block computes, as in T5; without it the others compute wrong values"
            )


def _what_was_seen(model: nn.Module, root: nn.Module, num_found: int) -> str:
    lists = [
        f"{name or '(the model)'}: {len(module)} x {type(next(iter(module))).__name__}"
        for name, module in root.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module)
    ]
    seen = "; ".join(lists[:8]) or "no ModuleList or Sequential"
    return (
        f"{type(model).__name__} has {num_found} residual block(s); at least two are needed. "
        f"A block holds a normalisation and two or more weight matrices, in a list of blocks of "
        f"one class. Looked at {seen}"
    )
