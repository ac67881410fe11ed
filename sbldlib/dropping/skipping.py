"""Run only the active blocks: a skipped one computes nothing, forward or backward.

The mechanism: each block's instance gets a subclass of its own class, of the same name, whose
`__call__` returns the input where the block is skipped. The decision sits outside of what autocast,
activation recomputation, hooks and torch.compile wrap, so all of those go on working; state-dict
keys do not change, and copies and pickles of the model are plain models again.
"""

from __future__ import annotations

import copy
import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check_layers
from .blocks import BlockEntry, find_blocks
from .caches import check_cache

_SLOT = "_sbld_slot"  # on a block: (weak reference to its Skipping, layer)
_NO_SLOT = (lambda: None, -1)
_PLAIN = "_sbld_plain_class"  # on a block's subclass: the class it had
_RUN = object()


class Skipping:
    """Which layers of one model are skipped, and how often each block ran.

    A skipped block returns its input in the form in which its class returns an output, which is
    learnt from blocks that run. Where none of its class has run yet, it runs once for that, on
    copies of its inputs and without a gradient.

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
        self._first_layers = _first_layers(self.blocks)
        forwards = [inspect.signature(block.module.forward) for block in self.blocks]
        self._input_names = [next(iter(forward.parameters), "") for forward in forwards]
        self._tuple_length: dict[type, int] = {}  # what a class of block returns; 0 is a tensor
        self._returned: dict[int, int] = {}  # the same of each layer that ran
        self._not_residual: set[int | type] = set()  # layers, and classes of block
        _instrument(self)

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

    def before(self, layer: int, run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """What a block returns in place of running, or `_RUN` where it is to run."""
        if layer in self.replay:
            return self.replay[layer]
        block = self.blocks[layer].module
        off = self.skipped | self.dropped if block.training else self.skipped
        if layer in self._first_layers:
            check_cache(off, (*args[1:], *kwargs.values()))
        if layer not in off:
            return _RUN
        output = self._unchanged(layer, run, args, kwargs)
        if self.recorded is not None:
            self.recorded[layer] = output
        return output

    def after(self, layer: int, args: tuple, kwargs: dict, output: Any) -> None:
        """Note whether a block that ran can be skipped at all."""
        first, *others = output if isinstance(output, tuple) and output else (output,)
        given = self._given(layer, args, kwargs)
        if not _alike(given, first):
            self._not_residual.add(layer)
        if any(_alike(given, other) for other in others):  # a state that the next block takes
            self._not_residual.add(getattr(type(self.blocks[layer].module), _PLAIN))
        if self.recorded is not None:
            self.recorded[layer] = output

    def _given(self, layer: int, args: tuple, kwargs: dict) -> Any:
        return args[0] if args else kwargs.get(self._input_names[layer])

    def _unchanged(self, layer: int, run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """The input, in the form in which this class of block returns its output."""
        plain = getattr(type(self.blocks[layer].module), _PLAIN)
        if plain not in self._tuple_length:
            output = _rehearse(run, args, kwargs)
            self._tuple_length[plain] = len(output) if isinstance(output, tuple) else 0
            self.after(layer, args, kwargs, output)
        if self._not_residual & {layer, plain}:
            raise ValueError(
                f"layer {layer} ({self.blocks[layer].name}) does not turn its first input into one "
                "output of the same shape: it is no residual block and cannot be skipped"
            )
        given, length = self._given(layer, args, kwargs), self._tuple_length[plain]
        return (given,) + (None,) * (length - 1) if length else given


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


def _instrument(skipping: Skipping) -> None:
    """Make the blocks skippable: all of them, or none where one belongs to another Skipping."""
    for block in skipping.blocks:
        if getattr(block.module, _SLOT, _NO_SLOT)[0]() is not None:
            raise ValueError(
                f"{block.name} already belongs to another attached model, such as the one inside "
                "this wrapper; use that one, or detach it first"
            )
    # The blocks do not own it, so that a model is freed as soon as nobody holds it.
    reference = weakref.ref(skipping)
    for layer, block in enumerate(skipping.blocks):
        block.module.__dict__[_SLOT] = (reference, layer)
        if not hasattr(type(block.module), _PLAIN):
            block.module.__class__ = _skippable(type(block.module))


@cache
def _skippable(plain: type[nn.Module]) -> type[nn.Module]:
    """A subclass of the same name whose call may return its input."""
    # All but the block itself is kept out of compiled graphs: one graph a class serves every mask.
    disable: Any = torch.compiler.disable
    before, after = disable(Skipping.before), disable(Skipping.after)

    class Skippable(plain):
        __doc__, __module__, __qualname__ = plain.__doc__, plain.__module__, plain.__qualname__

        @disable(recursive=False)
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            reference, layer = getattr(self, _SLOT)
            run, skipping = super().__call__, reference()
            if skipping is None:
                return run(*args, **kwargs)
            # No call is made where there is no need: it would be compiled, or cost time.
            is_special = layer in skipping.skipped or layer in skipping.dropped or skipping.replay
            is_special = is_special or layer in skipping._first_layers
            output = before(skipping, layer, run, args, kwargs) if is_special else _RUN
            if output is _RUN:
                output = run(*args, **kwargs)
                skipping.calls[layer] += self.training
                length = len(output) if isinstance(output, tuple) else 0
                skipping._tuple_length[plain] = length
                if skipping._returned.get(layer) != length or skipping.recorded is not None:
                    skipping._returned[layer] = length
                    after(skipping, layer, args, kwargs, output)
            return output

        def __reduce_ex__(self, protocol: Any) -> tuple:
            """Copies and pickles are of the plain class: they know nothing of skipping."""
            # Protocol 0's form, for later ones insist on the object's own class.
            reduced: Any = super().__reduce_ex__(0)
            rebuild, (_, *rest), state = reduced
            return rebuild, (plain, *rest), {k: v for k, v in state.items() if k != _SLOT}

    Skippable.__name__ = plain.__name__
    setattr(Skippable, _PLAIN, plain)
    setattr(Skippable, _SLOT, _NO_SLOT)
    return Skippable


def _alike(given: Any, output: Any) -> bool:
    """Whether both are tensors of one shape; a nested tensor has no shape to compare."""
    if not (isinstance(given, Tensor) and isinstance(output, Tensor)):
        return False
    nested = given.is_nested, output.is_nested
    return all(nested) if any(nested) else given.shape == output.shape


def _rehearse(run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """What the block would return; its inputs, KV caches and random state stay as they are."""

    def spare(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone()
        is_plain = isinstance(value, nn.Module) or not hasattr(value, "__dict__")
        return value if is_plain else copy.deepcopy(value)

    cuda = {value.device for value in (*args, *kwargs.values()) if getattr(value, "is_cuda", False)}
    with torch.no_grad(), torch.random.fork_rng(devices=list(cuda)):
        return run(*map(spare, args), **{name: spare(value) for name, value in kwargs.items()})


def _first_layers(blocks: Sequence[BlockEntry]) -> frozenset[int]:
    """The first layer of each list of blocks."""
    lists = [block.name.rpartition(".")[0] for block in blocks]
    return frozenset(i for i, name in enumerate(lists) if i == 0 or name != lists[i - 1])
