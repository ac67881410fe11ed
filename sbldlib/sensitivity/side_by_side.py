"""All variants of a model, each without one layer, side by side in one forward.

Block j runs on the stack [full depth, without 0, .., without j - 1]: the same operations as one
forward after another from the skipped layer on, in fewer and larger calls. The blocks are then
replayed once for each variant, so that any loss of the model can be taken of it.

Legend: R rows of an activation, which are its first dimension.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import Tensor

from .measurement import (
    BlockCall,
    Measurement,
    activation_of,
    at_full_depth,
    finite,
    in_place_of_blocks,
    is_residual,
    loss_without,
    with_activation,
)

# Elements of a stacked activation: what a CPU's cache holds beside the weights; GPUs want more.
ELEMENTS_AT_ONCE = {"cpu": 2**17}
ELEMENTS_ELSEWHERE = 2**24
TOLERANCE = 0.02  # of what a block adds: far above rounding, bfloat16's too, far below a mix-up
PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)


class CannotStackError(Exception):
    """The blocks of this model cannot be run on several variants at once; the message says why."""


class SideBySide:
    """Losses of all variants of a model, batch by batch.

    Attributes:
        trusted: classes of block whose rows were seen not to depend on each other.
    """

    def __init__(self, measurement: Measurement):
        self._measurement = measurement
        self.trusted: set[type] = set()

    def losses(self, batch: Any, number: int) -> tuple[float, list[float]]:
        """The loss of a batch at full depth, and without each layer asked for.

        Raises:
            CannotStackError: the blocks have to be run one variant after another.
            ValueError: a loss that is not finite.
        """
        asked, skipping = self._measurement, self._measurement.skipping
        forward = _Forward(asked, self.trusted)
        # What the blocks do inside may be compiled, this may not. Not a decorator: it would import
        # the compiler with this file.
        run_block: Any = torch.compiler.disable(forward.run_block, recursive=False)
        with in_place_of_blocks(skipping, run_block):
            full = asked.loss(asked.model, batch)
        full, last = finite(full, at_full_depth(number)), skipping.num_layers - 1
        if last not in forward.outputs:
            raise CannotStackError("some block was not run")
        without = []
        for layer in asked.layers:  # the variant's last activation stands for all its blocks
            final = with_activation(forward.outputs[last], forward.variants[layer])
            replay = {**forward.outputs, last: final}
            without.append(loss_without(asked, layer, replay, batch, number))
        return full, without


class _Forward:
    """One forward of the model, in which every block runs on all variants that have come to it.

    Attributes:
        variants: layer left out -> activation, after the newest block.
        outputs: layer -> what its block returned at full depth.
    """

    def __init__(self, measurement: Measurement, trusted: set[type]):
        self._measurement, self._trusted = measurement, trusted
        self.variants: dict[int, Tensor] = {}
        self.outputs: dict[int, Any] = {}
        self._newest: tuple[Tensor, int] | None = None  # full depth's activation, its version

    def run_block(self, layer: int, run: Any, args: tuple, kwargs: dict) -> Any:
        """The output at full depth; the variants are kept here."""
        call = BlockCall(self._measurement.skipping.blocks[layer].module, run, args, kwargs)
        self._check_comes_straight_from_the_block_before(layer, call.given)
        version = call.given._version
        stacks = _even_parts([call.given, *self.variants.values()], self._variants_at_once(call))
        results = [self._run(call, stack) for stack in stacks]
        if call.given._version != version:
            raise CannotStackError("a block changes its input in place")
        output = results[0][1]
        full, *others = [activation for activations, _ in results for activation in activations]
        self.variants = dict(zip(self.variants, others, strict=True))
        if layer in self._measurement.layers:
            self.variants[layer] = call.given
        self._newest = full, full._version
        self.outputs[layer] = with_activation(output, full)
        return self.outputs[layer]

    def _check_comes_straight_from_the_block_before(self, layer: int, given: Any) -> None:
        """What the model computes between two blocks it computes at full depth alone."""
        if not isinstance(given, Tensor) or given.is_nested:
            raise CannotStackError(f"layer {layer} is given no plain tensor")
        if layer != len(self.outputs):
            raise CannotStackError("the blocks do not run once each, in their order")
        if self._newest is not None:
            before, version = self._newest
            if given is not before or given._version != version:
                raise CannotStackError(f"something is computed between layer {layer} and the last")

    def _variants_at_once(self, call: BlockCall) -> int:
        num_rows = len(call.given)
        limit = self._measurement.rows_at_once
        if limit is None:
            elements = ELEMENTS_AT_ONCE.get(call.given.device.type, ELEMENTS_ELSEWHERE)
            limit = elements * num_rows // max(1, call.given.numel())
        if num_rows == 0 or limit < 2 * num_rows:
            raise CannotStackError(f"{limit} rows at once hold no two variants of {num_rows}")
        return limit // num_rows

    def _run(self, call: BlockCall, stack: list[Tensor]) -> tuple[list[Tensor], Any]:
        """Activations of each variant after the block, and the block's output."""
        num_rows, times = len(stack[0]), len(stack)

        def repeated(value: Any) -> Any:
            return _repeated(value, num_rows, times)

        is_trial = times > 1 and type(call.block) not in self._trusted
        try:
            output = call.on(torch.cat(stack) if times > 1 else stack[0], repeated)
        except (RuntimeError, ValueError) as error:
            if not is_trial:
                raise
            raise CannotStackError(f"a block refuses stacked rows: {error}") from error
        activation = activation_of(output)
        if not is_residual(stack[0], activation[:num_rows]):
            raise CannotStackError("a block is no residual block")
        if isinstance(output, tuple) and any(_holds_tensor(other) for other in output[1:]):
            raise CannotStackError("a block returns more than its activation")
        activations = list(activation.split(num_rows))
        if is_trial:
            self._compare(call, stack[-1], activations[-1])
        return activations, output

    def _compare(self, call: BlockCall, given: Tensor, stacked: Tensor) -> None:
        """Hold the last variant to what it is alone, for a block may mix the rows it is given."""
        alone = activation_of(call.on(given, lambda value: _repeated(value, len(given), 1)))
        allowed = TOLERANCE * (alone - given).abs().max()
        if not bool((stacked - alone).abs().max() <= allowed):
            raise CannotStackError("a block's rows depend on each other")
        self._trusted.add(type(call.block))


def _even_parts(items: list[Tensor], most: int) -> list[list[Tensor]]:
    """The items in as few parts as may be, none above `most`, their sizes as even as may be."""
    num_parts = -(-len(items) // most)
    ends = [len(items) * part // num_parts for part in range(num_parts + 1)]
    return [items[start:end] for start, end in itertools.pairwise(ends)]


def _repeated(value: Any, num_rows: int, times: int) -> Any:
    """An argument for `times` variants: what has their rows is repeated, the rest is shared.

    Raises:
        CannotStackError: an argument of a kind that may hold rows unseen.
    """
    if isinstance(value, Tensor):
        has_rows = num_rows > 1 and value.ndim > 0 and len(value) == num_rows
        return value.repeat(times, *[1] * (value.ndim - 1)) if has_rows and times > 1 else value
    if isinstance(value, PLAIN):
        return value
    if type(value) in (tuple, list):
        return type(value)(_repeated(item, num_rows, times) for item in value)
    if hasattr(value, "get_seq_length") and not int(value.get_seq_length()):
        return copy.deepcopy(value)  # an empty KV cache: a block fills its own and no other's
    raise CannotStackError(f"a block takes a {type(value).__name__}")


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_holds_tensor, value))
    return isinstance(value, Tensor)
