"""The levels of an hourglass model: how many vectors, how wide, and what each of them costs.

For any configuration with the fields of `Hourglass`; a real forward pass gives the same levels.

Legend: B batch, T tokens, D width.

Source: [O] these counts; the shape is that of `models.conv_gpt`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from ..dropping.blocks import find_blocks
from ..errors import check_positive_int
from ..losses import evaluation_mode
from .flops import count_flops
from .step import first_tensor

OUTSIDE = "between levels, head"


class Hourglass(Protocol):
    """What is read of a configuration, such as `ConvGPTConfig`."""

    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def merge(self) -> int: ...
    @property
    def levels(self) -> tuple[int, ...]: ...
    @property
    def context_length(self) -> int: ...
    @property
    def skip_connections(self) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Level:
    """The blocks that work on vectors of one width.

    Attributes:
        num_vectors: on this level, of one row.
        width: numbers in each of them.
        layers: of the blocks, in the order in which they run.
    """

    num_vectors: int
    width: int
    layers: tuple[int, ...]

    @property
    def name(self) -> str:
        """Vectors × width."""
        return f"{self.num_vectors} × {self.width}"


def levels_of(config: Hourglass, num_tokens: int | None = None) -> tuple[Level, ...]:
    """The levels of an hourglass, the tokens' own first, from its configuration alone.

    Args:
        num_tokens: T of a row, >= 1; what a last group lacks is filled up. None is the context.

    Raises:
        ValueError: num_tokens below 1.
    """
    asked = config.context_length if num_tokens is None else num_tokens
    span = config.merge ** (len(config.widths) - 1)
    whole = -(-check_positive_int("num_tokens", asked) // span) * span
    return tuple(
        Level(
            num_vectors=whole // config.merge**level,
            width=width,
            layers=tuple(layer for layer, at in enumerate(config.levels) if at == level),
        )
        for level, width in enumerate(config.widths)
    )


def trace_levels(model: nn.Module, tokens_BT: Tensor) -> tuple[Level, ...]:
    """The levels of any model, most vectors first, from the shapes that its blocks are given.

    Args:
        model: one whose residual blocks are found, each given [B, vectors, D].
        tokens_BT: what its forward pass takes.
    """
    shapes: dict[int, tuple[int, int]] = {}

    def watch(layer: int) -> Callable[..., None]:
        def note(_block: nn.Module, given: tuple) -> None:
            shapes[layer] = (given[0].shape[1], given[0].shape[2])

        return note

    blocks = enumerate(find_blocks(model))
    hooks = [entry.module.register_forward_pre_hook(watch(layer)) for layer, entry in blocks]
    try:
        with evaluation_mode(model):
            model(tokens_BT)
    finally:
        for hook in hooks:
            hook.remove()
    found = sorted(set(shapes.values()), key=lambda shape: (-shape[0], shape[1]))
    return tuple(
        Level(
            num_vectors=shape[0],
            width=shape[1],
            layers=tuple(layer for layer in sorted(shapes) if shapes[layer] == shape),
        )
        for shape in found
    )


def costs_by_level(model: nn.Module, batch: Any) -> dict[str, dict[str, float]]:
    """ "weights" and "FLOPs" of a training step on this batch -> level -> how many.

    What belongs to no level (compressors, expanders, head, tables, last norm) is `OUTSIDE`.

    Args:
        model: as for `trace_levels`.
        batch: (inputs_BT, targets_BT).
    """
    flops = count_flops(model, batch)
    blocks = [entry.module for entry in find_blocks(model)]
    weights = [sum(weight.numel() for weight in block.parameters()) for block in blocks]
    levels = trace_levels(model, first_tensor(batch))
    costs: dict[str, dict[str, float]] = {}
    for name, of_layer, total in (
        ("weights", weights, sum(weight.numel() for weight in model.parameters())),
        ("FLOPs", flops.blocks, flops.full),
    ):
        costs[name] = {
            level.name: float(sum(of_layer[layer] for layer in level.layers)) for level in levels
        }
        costs[name][OUTSIDE] = total - sum(of_layer)
    return costs
