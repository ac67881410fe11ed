"""What a model's blocks are to do at their next calls, and what they were counted to do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import check_layers, unknown_name
from .blocks import BlockEntry
from .caches import check_cache
from .instrument import PLAIN, RUN, SLOT, alike, first_layers, instrument, rehearse
from .partial import GRADIENTS, Part, check_can_run_in_part, check_factors, check_has_rows, gather
from .rows import NO_ROWS, PartCounts, RowIndex


class Skipping:
    """Which layers of one model are skipped, and how often each block ran.

    A skipped block returns its input in the form in which its class returns an output, which is
    learnt from blocks that run. Where none of its class has run yet, it runs once for that, on
    copies of its inputs and without a gradient.

    A draw is what acts in training mode alone, until the next one or `clear_draw`: layers dropped,
    run for some rows, forward only, or with their residual scaled.

    Attributes:
        blocks: the residual blocks, in layer order.
        skipped: layers skipped always, in training and evaluation: an explicit wish.
        dropped: layers skipped in training mode alone: a method's draw.
        forward_only: layers that run forward and not backward, in training mode alone.
        calls: how often each block ran in training mode since `reset_calls`.
        replay: outputs to return in place of running a block, by layer (see `sensitivity`).
        recorded: where it is a dict, each block's output is put there, by layer.
        instead: where there is one, it is called for every block: (layer, run, args, kwargs).
    """

    def __init__(self, blocks: Sequence[BlockEntry]):
        self.blocks = tuple(blocks)
        self.skipped: frozenset[int] = frozenset()
        self.dropped: frozenset[int] = frozenset()
        self.replay: dict[int, Any] = {}
        self.recorded: dict[int, Any] | None = None
        self.instead: Callable[..., Any] | None = None
        self._first_layers = first_layers(self.blocks)
        self._evaluation_scale: dict[int, float] = {}
        self.clear_draw()
        self.reset_calls()
        forwards = [inspect.signature(block.module.forward) for block in self.blocks]
        self._input_names = [next(iter(forward.parameters), "") for forward in forwards]
        self._tuple_length: dict[type, int] = {}  # what a class of block returns; 0 is a tensor
        self._returned: dict[int, int] = {}  # the same of each layer that ran
        self._not_residual: set[int | type] = set()  # layers, and classes of block
        self._has_rows: set[int] = set()  # layers whose input is known to go by row
        instrument(self)

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

    def set_rows(self, rows: Mapping[int, Iterable[int]], *, num_rows: int | None = None) -> None:
        """Run these layers for these rows of the batch alone; the other rows pass unchanged.

        The rows are gathered, the block runs on them, and its output is put in their places, so
        that what is dropped costs nothing. A layer without rows is skipped.

        Args:
            rows: layer -> rows, in order; layers that are not named run whole.
            num_rows: of the batch, where known: another batch is then refused.

        Raises:
            ValueError: layers or rows out of range, not in order, or named twice.
        """
        check_layers("rows", rows, self.num_layers)
        self._rows = RowIndex({layer: tuple(some) for layer, some in rows.items()}, num_rows)
        self._note_special()

    def set_forward_only(self, layers: Iterable[int], *, gradient: str = "identity") -> None:
        """Run these layers forward and not backward; their weights get no gradient.

        Args:
            layers: all others run as they are called.
            gradient: "identity" lets it pass along the residual, as if the block were skipped;
                "none" lets nothing pass, so that no layer below gets one either; torch's
                recomputation with use_reentrant=True does not stand that.
        """
        if gradient not in GRADIENTS:
            raise unknown_name("gradient", gradient, GRADIENTS)
        self.forward_only = frozenset(check_layers("layers", layers, self.num_layers))
        self._gradient = gradient
        self._note_special()

    def set_residual_scale(self, factors: Mapping[int, float]) -> None:
        """Multiply these layers' residual, output minus input, in training mode; > 0 each."""
        self._residual_scale = check_factors("residual_scale", factors, self.num_layers)
        self._note_special()

    def set_evaluation_scale(self, factors: Mapping[int, float]) -> None:
        """The same in evaluation mode: it belongs to the trained model and stays until set anew.

        No copy, pickle or state dict of the model carries it.
        """
        self._evaluation_scale = check_factors("evaluation_scale", factors, self.num_layers)
        self._note_special()

    @property
    def rows(self) -> dict[int, tuple[int, ...]]:
        """Layer -> the rows that run it in training mode; layers that are not named run whole."""
        return {**self._rows.rows, **dict.fromkeys(self._rows.empty, ())}

    @property
    def evaluation_scale(self) -> dict[int, float]:
        """Layer -> what its residual is multiplied by in evaluation mode; others by 1."""
        return dict(self._evaluation_scale)

    def draw(self) -> dict[str, Any]:
        """All that training steps are now set to do, by name: two draws are the same or not."""
        return {
            "skipped": sorted(self.skipped),
            "dropped": sorted(self.dropped),
            "forward only": (sorted(self.forward_only), self._gradient),
            "rows": sorted(self.rows.items()),
            "residual scale": sorted(self._residual_scale.items()),
        }

    def clear_draw(self) -> None:
        """Run every layer whole in training mode; what is skipped always stays skipped."""
        self.dropped = self.forward_only = frozenset()
        self._rows, self._gradient = NO_ROWS, "identity"
        self._residual_scale: dict[int, float] = {}
        self._note_special()

    @contextmanager
    def full_depth(self) -> Iterator[None]:
        """Within this `with` every block runs whole, whatever was skipped or drawn before.

        The evaluation scale stays: at full depth it is part of the model.
        """
        names = ("skipped", "dropped", "forward_only", "_rows", "_gradient", "_residual_scale")
        before = {name: getattr(self, name) for name in names}
        self.skipped = frozenset()
        self.clear_draw()
        try:
            yield
        finally:
            self.__dict__.update(before)
            self._note_special()

    @contextmanager
    def window(self, start: int, end: int, *, num_rows: int) -> Iterator[None]:
        """Within this `with` batches are the rows from `start` to before `end` of a larger one.

        It may so be run in parts: each layer runs for those of its drawn rows that are there, and
        `shares` are of all windows, each by its number of rows.

        Raises:
            ValueError: the rows drawn are those of another batch.
        """
        whole, self._rows = self._rows, self._rows.window(start, end, num_rows)
        try:
            yield
        finally:
            self._rows = whole
            self._parts.end_window(self.calls, end - start)

    def reset_calls(self) -> None:
        """Start counting block calls from zero."""
        self.calls = [0] * self.num_layers
        self._parts = PartCounts(self.num_layers)

    def shares(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Share of the rows that each layer ran forward and backward for, since `reset_calls`.

        Both are empty where each call was whole. A layer below one that lets no gradient pass has
        no backward.
        """
        return self._parts.shares(self.calls)

    def remove(self) -> None:
        """Give every block its own class back."""
        for block in self.blocks:
            block.module.__class__ = getattr(type(block.module), PLAIN)
            del block.module.__dict__[SLOT]

    def before(self, layer: int, run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """What a block returns in place of running, `RUN` where it is to run, or how: a Part."""
        if layer in self.replay:
            return self.replay[layer]
        training = self.blocks[layer].module.training
        off = self.skipped | self.dropped | self._rows.empty if training else self.skipped
        if layer in self._first_layers:
            check_cache(off, (*args[1:], *kwargs.values()))
        if layer not in off:
            return self._part(layer, training, args, kwargs) or RUN
        output = self._unchanged(layer, run, args, kwargs)
        if self.recorded is not None:
            self.recorded[layer] = output
        return output

    def after(self, layer: int, args: tuple, kwargs: dict, output: Any) -> None:
        """Note whether a block that ran can be skipped at all."""
        first, *others = output if isinstance(output, tuple) and output else (output,)
        given = self._given(layer, args, kwargs)
        if not alike(given, first):
            self._not_residual.add(layer)
        if any(alike(given, other) for other in others):  # a state that the next block takes
            self._not_residual.add(getattr(type(self.blocks[layer].module), PLAIN))
        if self.recorded is not None:
            self.recorded[layer] = output

    def finish(self, layer: int, part: Part, output: Any) -> Any:
        """The output of a block that ran in part, and a note of which part."""
        if self.blocks[layer].module.training:
            # Both at once: recomputation may stop early, within what follows.
            self.calls[layer] += 1
            self._parts.count(layer, part)
        return part.finish(output)

    def scaled(self, layer: int, run: Callable[..., Any]) -> Callable[..., Any]:
        """`run` with the evaluation scale, which belongs to the model: for what calls it itself."""
        if layer not in self._evaluation_scale:
            return run

        def call(*args: Any, **kwargs: Any) -> Any:
            part = self._part(layer, self.blocks[layer].module.training, args, kwargs)
            output = run(*args, **kwargs)
            return output if part is None else part.finish(output)

        return call

    def _given(self, layer: int, args: tuple, kwargs: dict) -> Any:
        return args[0] if args else kwargs.get(self._input_names[layer])

    def _part(self, layer: int, training: bool, args: tuple, kwargs: dict) -> Part | None:
        """How this block is to run in part; None where it runs whole."""
        scale = self._residual_scale if training else self._evaluation_scale
        factor = scale.get(layer, 1.0)
        gradient = self._gradient if training and layer in self.forward_only else None
        is_by_row = training and layer in self._rows.rows
        if factor == 1 and gradient is None and not is_by_row:
            return None
        block, given = self.blocks[layer], self._given(layer, args, kwargs)
        name, rows_K = f"layer {layer} ({block.name})", None
        check_can_run_in_part(name, given)
        gathered = given
        if is_by_row:
            if layer not in self._has_rows:
                check_has_rows(block.module, name, given)
                self._has_rows.add(layer)
            rows_K = self._rows.of(layer, given, name)
            if rows_K is not None:
                args, kwargs, gathered = gather(block.module, name, args, kwargs, given, rows_K)
            elif factor == 1 and gradient is None:
                return None
        return Part(
            name=name,
            given=given,
            args=args,
            kwargs=kwargs,
            gathered=gathered,
            rows=rows_K,
            factor=factor,
            gradient=gradient,
        )

    def _note_special(self) -> None:
        """The layers whose calls are looked at one by one; all others run with no more ado."""
        kinds = self.rows, self.forward_only, self._residual_scale, self._evaluation_scale
        self._special = self._first_layers.union(*kinds)

    def _unchanged(self, layer: int, run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """The input, in the form in which this class of block returns its output."""
        plain = getattr(type(self.blocks[layer].module), PLAIN)
        if plain not in self._tuple_length:
            output = rehearse(run, args, kwargs)
            self._tuple_length[plain] = len(output) if isinstance(output, tuple) else 0
            self.after(layer, args, kwargs, output)
        if self._not_residual & {layer, plain}:
            raise ValueError(
                f"layer {layer} ({self.blocks[layer].name}) does not turn its first input into one "
                "output of the same shape: it is no residual block and cannot be skipped"
            )
        given, length = self._given(layer, args, kwargs), self._tuple_length[plain]
        return (given,) + (None,) * (length - 1) if length else given
