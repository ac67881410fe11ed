"""The mechanism of skipping: a block's instance gets a subclass whose call asks a Skipping first.

The decision sits outside of what autocast, activation recomputation, hooks and torch.compile wrap,
so all of those go on working; state-dict keys do not change, and copies and pickles of the model
are plain models again.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .blocks import BlockEntry
from .partial import Part

if TYPE_CHECKING:
    from .state import Skipping

SLOT = "_sbld_slot"  # on a block: (weak reference to its Skipping, layer)
PLAIN = "_sbld_plain_class"  # on a block's subclass: the class it had
RUN = object()  # what `Skipping.before` returns where the block is to run as it was called
NO_SLOT = (lambda: None, -1)


def instrument(skipping: Skipping) -> None:
    """Make the blocks skippable: all of them, or none where one belongs to another Skipping."""
    for block in skipping.blocks:
        if getattr(block.module, SLOT, NO_SLOT)[0]() is not None:
            raise ValueError(
                f"{block.name} already belongs to another attached model, such as the one inside "
                "this wrapper; use that one, or detach it first"
            )
    # The blocks do not own it, so that a model is freed as soon as nobody holds it.
    reference = weakref.ref(skipping)
    for layer, block in enumerate(skipping.blocks):
        block.module.__dict__[SLOT] = (reference, layer)
        if not hasattr(type(block.module), PLAIN):
            block.module.__class__ = _skippable(type(block.module), type(skipping))


@cache
def _skippable(plain: type[nn.Module], owner: type[Skipping]) -> type[nn.Module]:
    """A subclass of the same name whose call may return its input."""
    # All but the block itself is kept out of compiled graphs: one graph a class serves every mask.
    disable: Any = torch.compiler.disable
    before, after = disable(owner.before), disable(owner.after)
    finish = disable(owner.finish)

    class Skippable(plain):
        __doc__, __module__, __qualname__ = plain.__doc__, plain.__module__, plain.__qualname__

        @disable(recursive=False)
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            reference, layer = getattr(self, SLOT)
            run, skipping = super().__call__, reference()
            if skipping is None:
                return run(*args, **kwargs)
            if skipping.instead is not None:
                return skipping.instead(layer, skipping.scaled(layer, run), args, kwargs)
            # No call is made where there is no need: it would be compiled, or cost time.
            is_special = layer in skipping.skipped or layer in skipping.dropped or skipping.replay
            is_special = is_special or layer in skipping._special
            output = before(skipping, layer, run, args, kwargs) if is_special else RUN
            if isinstance(output, Part):
                part = output
                with part.grad_mode():
                    output = run(*part.args, **part.kwargs)
                output = finish(skipping, layer, part, output)
            elif output is RUN:
                output = run(*args, **kwargs)
                skipping.calls[layer] += self.training
            else:
                return output
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
            return rebuild, (plain, *rest), {k: v for k, v in state.items() if k != SLOT}

    Skippable.__name__ = plain.__name__
    setattr(Skippable, PLAIN, plain)
    setattr(Skippable, SLOT, NO_SLOT)
    return Skippable


def alike(given: Any, output: Any) -> bool:
    """Whether both are tensors of one shape; a nested tensor has no shape to compare."""
    if not (isinstance(given, Tensor) and isinstance(output, Tensor)):
        return False
    nested = given.is_nested, output.is_nested
    return all(nested) if any(nested) else given.shape == output.shape


def rehearse(run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """What the block would return; its inputs, KV caches and random state stay as they are."""

    def spare(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone()
        is_plain = isinstance(value, nn.Module) or not hasattr(value, "__dict__")
        return value if is_plain else copy.deepcopy(value)

    cuda = {value.device for value in (*args, *kwargs.values()) if getattr(value, "is_cuda", False)}
    with torch.no_grad(), torch.random.fork_rng(devices=list(cuda)):
        return run(*map(spare, args), **{name: spare(value) for name, value in kwargs.items()})


def first_layers(blocks: Sequence[BlockEntry]) -> frozenset[int]:
    """The first layer of each list of blocks."""
    lists = [block.name.rpartition(".")[0] for block in blocks]
    return frozenset(i for i, name in enumerate(lists) if i == 0 or name != lists[i - 1])
