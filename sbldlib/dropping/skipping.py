"""Run only the active blocks: a skipped one computes nothing, forward or backward.

The mechanism: each block's instance gets a subclass of its own class, of the same name, whose
`__call__` returns the input where the block is skipped. The decision sits outside of what autocast,
activation recomputation, hooks and torch.compile wrap, so all of those go on working; state-dict
keys do not change, and copies and pickles of the model are plain models again.
"""

from __future__ import annotations

import copyreg
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import check_layers
from .blocks import BlockEntry, find_blocks

_SLOT = "_sbld_slot"
_PLAIN = "_sbld_plain_class"


class Skipping:
    """Which layers of one model are skipped, and how often each block ran.

    Attributes:
        blocks: the residual blocks, in layer order.
        skipped: layers skipped always, in training and evaluation: an explicit wish.
        dropped: layers skipped in training mode alone: a method's draw.
        calls: how often each block ran in training mode since `reset_calls`.
        replay: outputs to return in place of running a block, by layer (see `sensitivity`).
        recorded: where it is a dict, each block's output is put there, by layer.
    """

    def __init__(self, blocks: Sequence[BlockEntry]):
        self.blocks = tuple(blocks)
        self.skipped: frozenset[int] = frozenset()
        self.dropped: frozenset[int] = frozenset()
        self.calls = [0] * len(self.blocks)
        self.replay: dict[int, Any] = {}
        self.recorded: dict[int, Any] | None = None
        self._tuple_length: dict[type, int] = {}  # what a class of block returns; 0 is a tensor
        self._stacks = _stacks(self.blocks)
        for layer, block in enumerate(self.blocks):
            _instrument(block.module, self, layer)

    @property
    def num_layers(self) -> int:
        """Number of residual blocks."""
        return len(self.blocks)

    def set_skipped(self, layers: Iterable[int]) -> None:
        """Skip exactly these layers from now on, in training and evaluation alike."""
        self.skipped = frozenset(check_layers("layers_to_skip", layers, self.num_layers))

    def set_dropped(self, layers: Iterable[int]) -> None:
        """Skip exactly these layers in training mode, until the next call."""
        self.dropped = frozenset(check_layers("dropped layers", layers, self.num_layers))

    @contextmanager
    def full_depth(self) -> Iterator[None]:
        """Within this `with` every block runs, whatever was skipped or dropped before."""
        before = self.skipped, self.dropped
        self.skipped = self.dropped = frozenset()
        try:
            yield
        finally:
            self.skipped, self.dropped = before

    def reset_calls(self) -> None:
        """Start counting block calls from zero."""
        self.calls = [0] * self.num_layers

    def remove(self) -> None:
        """Give every block its own class back."""
        for block in self.blocks:
            block.module.__class__ = getattr(type(block.module), _PLAIN)
            del block.module.__dict__[_SLOT]

    def call(self, layer: int, run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """One block's call: `run` computes the block, and is not called where it is skipped."""
        if layer in self.replay:
            return self.replay[layer]
        block = self.blocks[layer].module
        if layer in self._stacks:
            self._check_cache(self._stacks[layer], args, kwargs, block.training)
        given = args[0] if args else kwargs[_first_parameter(block)]
        if self._is_off(layer, block.training):
            output = self._unchanged(layer, given, run, args, kwargs)
        else:
            output = run(*args, **kwargs)
            self.calls[layer] += block.training
            self._learn(layer, given, output)
        if self.recorded is not None:
            self.recorded[layer] = output
        return output

    def _is_off(self, layer: int, training: bool) -> bool:
        return layer in self.skipped or (training and layer in self.dropped)

    def _learn(self, layer: int, given: Tensor, output: Any) -> None:
        """Note what this class of block returns; refuse one that changes its input's shape."""
        length = len(output) if isinstance(output, tuple) else 0
        plain = getattr(type(self.blocks[layer].module), _PLAIN)
        if self._tuple_length.get(plain) == length:
            return
        activation = output[0] if length else output
        if activation.shape != given.shape:
            raise ValueError(
                f"layer {layer} ({self.blocks[layer].name}) turns shape {tuple(given.shape)} into "
                f"{tuple(activation.shape)}: it is no residual block and cannot be skipped"
            )
        self._tuple_length[plain] = length

    def _unchanged(self, layer: int, given: Tensor, run, args: tuple, kwargs: dict) -> Any:
        """The input, in the form in which this class of block returns its output."""
        plain = getattr(type(self.blocks[layer].module), _PLAIN)
        if plain not in self._tuple_length:  # none of its class has run yet: look once
            with torch.no_grad():
                self._learn(layer, given, run(*args, **kwargs))
        length = self._tuple_length[plain]
        return (given,) + (None,) * (length - 1) if length else given

    def _check_cache(self, stack: range, args: tuple, kwargs: dict, training: bool) -> None:
        """Refuse what a filled KV cache cannot survive; called at the first block of a stack.

        transformers reads the cache's length from layer 0, so that without it every later position
        would be silently wrong; so would a layer that joins or leaves while the cache fills.
        """
        cache = next(
            (a for a in (*args[1:], *kwargs.values()) if hasattr(a, "get_seq_length")), None
        )
        if cache is None:
            return
        filled = {i for i in range(len(stack)) if int(cache.get_seq_length(i)) > 0}
        runs = {i for i, layer in enumerate(stack) if not self._is_off(layer, training)}
        if not filled or (filled == runs and 0 in runs):
            return
        reason = "layer 0 is skipped" if 0 not in runs else "the skipped layers changed"
        raise ValueError(
            f"{reason} while a KV cache is in use: cached layers {sorted(filled)}, running layers "
            f"{sorted(runs)}. Keep the layers fixed for a whole generation and run layer 0, or pass "
            "use_cache=False"
        )


_ATTACHED: WeakKeyDictionary[nn.Module, Skipping] = WeakKeyDictionary()
_SUBCLASSES: WeakKeyDictionary[type, type] = WeakKeyDictionary()


def attach(model: nn.Module, *, within: str | None = None) -> Skipping:
    """Make the model's residual blocks skippable; a second call returns the same Skipping.

    Args:
        model: any model whose blocks `find_blocks` finds.
        within: path of the part whose blocks are meant; the default is all of the model, or what
            it is attached to already.

    Raises:
        ValueError: no blocks are found, or the model was attached with another `within`.
    """
    skipping = _ATTACHED.get(model)
    if skipping is not None and within is None:
        return skipping
    found = find_blocks(model, within=within or "")
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


def _instrument(block: nn.Module, skipping: Skipping, layer: int) -> None:
    if _SLOT in block.__dict__:
        raise ValueError(
            f"{skipping.blocks[layer].name} already belongs to an attached model; detach that first"
        )
    plain = type(block)
    if plain not in _SUBCLASSES:
        _SUBCLASSES[plain] = _skippable(plain)
    block.__dict__[_SLOT] = (skipping, layer)
    block.__class__ = _SUBCLASSES[plain]


def _skippable(plain: type) -> type:
    """A subclass of the same name whose call may return its input."""

    def call(self, *args, **kwargs):
        skipping, layer = self.__dict__[_SLOT]
        return skipping.call(layer, super(subclass, self).__call__, args, kwargs)

    def reduce(self, protocol):
        """Copies and pickles are of the plain class: they know nothing of skipping."""
        state = super(subclass, self).__reduce_ex__(protocol)[2]
        state = {key: value for key, value in state.items() if key != _SLOT}
        return copyreg._reconstructor, (plain, object, None), state

    body = {
        # Kept out of the compiled graph, so that one graph a class of block serves every mask.
        "__call__": torch.compiler.disable(call, recursive=False),
        "__reduce_ex__": reduce,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__doc__": plain.__doc__,
        _PLAIN: plain,
    }
    subclass = type(plain.__name__, (plain,), body)
    return subclass


def _stacks(blocks: Sequence[BlockEntry]) -> dict[int, range]:
    """The layers of each list of blocks, by the first of them."""
    lists = [block.name.rpartition(".")[0] for block in blocks]
    starts = [i for i, name in enumerate(lists) if i == 0 or name != lists[i - 1]]
    ends = [*starts[1:], len(blocks)]
    return {start: range(start, end) for start, end in zip(starts, ends)}


def _first_parameter(block: nn.Module) -> str:
    return next(iter(inspect.signature(block.forward).parameters))
