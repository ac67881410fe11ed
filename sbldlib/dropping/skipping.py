"""Run only the active blocks: a skipped one computes nothing, forward or backward."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from torch import nn

from .blocks import check_model, find_blocks
from .state import Skipping

__all__ = ["Skipped", "Skipping", "attach", "detach", "skip_layers"]

_ATTACHED: weakref.WeakKeyDictionary[nn.Module, Skipping] = weakref.WeakKeyDictionary()


def attach(model: nn.Module, *, within: str | None = None) -> Skipping:
    """Make the model's residual blocks skippable; a second call returns the same Skipping.

    Args:
        model: any model whose blocks `find_blocks` finds.
        within: path of the part whose blocks are meant; the default is all of the model, or what
            it is attached to already.

    Raises:
        ValueError: no blocks are found, or the model was attached with another `within`.
    """
    skipping = _ATTACHED.get(check_model(model))
    if skipping is not None and within is None:
        return skipping
    found = find_blocks(model, within="" if within is None else within)
    if skipping is None:
        _ATTACHED[model] = skipping = Skipping(found)
    elif skipping.blocks != found:
        raise ValueError(
            f"within={within!r}: the model is attached to other blocks; detach it first"
        )
    return skipping


def detach(model: nn.Module) -> None:
    """Undo `attach`: every block is of its own class again. Does nothing to other models."""
    skipping = _ATTACHED.pop(model, None)
    if skipping is not None:
        skipping.remove()


class Skipped:
    """What `skip_layers` returns: leaving its `with` skips again what was skipped before."""

    def __init__(self, skipping: Skipping, before: frozenset[int]):
        self._skipping, self._before = skipping, before
        self.layers = tuple(sorted(skipping.skipped))

    def __enter__(self) -> Skipped:
        return self

    def __exit__(self, *exception: object) -> None:
        self._skipping.skipped = self._before


def skip_layers(
    model: nn.Module, layers_to_skip: Iterable[int], *, within: str | None = None
) -> Skipped:
    """Skip exactly these layers from now on, in training and in evaluation.

    Acts at once; an empty collection runs full depth again. Used with `with`, what was skipped
    before is restored on exit.

    Args:
        model: any model whose residual blocks are found, see `find_blocks`.
        layers_to_skip: layers in 0..L-1, each once.
        within: path of the part whose blocks are meant, such as "encoder".

    Raises:
        ValueError: a layer out of range or named twice, or a model without residual blocks.

    Example:
        >>> with skip_layers(model, {3}):
        ...     loss = next_token_loss(model, batch)
    """
    skipping = attach(model, within=within)
    before = skipping.skipped
    skipping.set_skipped(layers_to_skip)
    return Skipped(skipping, before)
