"""A method's keep-probability list by hand: what a saving asks of each layer, and what fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from torch import nn

from ..dropping.allocation import WEIGHTS, mean_keep_of
from ..dropping.blocks import find_blocks
from ..dropping.room import last_accepted
from ..dropping.schedules import tabulate
from ..errors import check_choice, check_positive_int, check_range
from ..methods import METHODS, LayerDropping, make_method
from ..models.gpt import GPT, GPTConfig
from ..plots.lists import draw_allocation
from ..records import LayerLists, SensitivityData, check_num_layers
from .explorer import Explorer, dropdown, show_only_where, slider

MAX_SAVING = 0.9  # above what most methods hold: to be refused is part of what is seen
MAX_LAYERS = 100  # a bar must be seen
LABELS = ("never dropped", "may be dropped")
_POINTS = 101  # of the run at which a schedule is looked at
_EFFECTS = {
    "skip": "",
    "skip_backward": " Every layer runs forward; it is the backward pass that is kept or dropped.",
    "freeze": " Every layer runs forward; what is dropped is frozen, with all below it.",
}


class AllocationExplorer(Explorer):
    """Choose a method and a saving; see what becomes of each layer, and where it is refused.

    Attributes:
        method, saving, weight, progress: what is chosen with. `weight` is sbld's and is hidden
            with the other methods; `progress` is hidden where the schedule stays the same.
        dropping: the method that is chosen now, on a stand-in of the model.
        keep_probability: its list at the chosen progress, one a layer.
        largest_saving: the most that it can be asked to save; a run of less than a hundred steps
            may hold less where the schedule moves.
    """

    dropping: LayerDropping
    keep_probability: tuple[float, ...]
    largest_saving: float

    def __init__(
        self,
        subject: nn.Module | int,
        sensitivity_data: SensitivityData | None = None,
        *,
        method: str | None = None,
        saving: float = 0.25,
        progress: float = 0.5,
    ):
        """
        Args:
            subject: a model whose blocks are found, of which only their number is looked at; or
                that number, in 2..100.
            sensitivity_data: one value a layer; without it sbld is not offered.
            method: of `METHODS`, at first; the default is sbld where it is offered, else uniform.
            saving: mean drop over the run at first, in [0, 0.9].
            progress: of the run at first, in [0, 1].

        Raises:
            ValueError: an argument outside its range, sensitivities of another depth, or a saving
                that the method cannot hold.
        """
        self._num_layers = check_positive_int(
            "subject", _count(subject), minimum=2, maximum=MAX_LAYERS
        )
        self._data = sensitivity_data
        if sensitivity_data is not None:
            check_num_layers("sensitivity_data", sensitivity_data.num_layers, self._num_layers)
        left_out = {"none"} if sensitivity_data is not None else {"none", "sbld"}
        offered = [name for name in METHODS if name not in left_out]
        method = method or ("uniform" if sensitivity_data is None else "sbld")
        self.method = dropdown("method", offered, value=check_choice("method", method, offered))
        self.weight = dropdown("weight", list(WEIGHTS))
        self.saving = _share("asked saving", "saving", saving, MAX_SAVING)
        self.progress = _share("progress", "progress", progress, 1)
        self._stand_in = _stand_in(self._num_layers)
        self._largest: dict[tuple[str, str], float] = {}
        super().__init__([self.method, self.saving, self.weight, self.progress])

    def _make(self, name: str, weight: str, saving: float) -> LayerDropping:
        own: dict[str, Any] = {"weight": weight} if name == "sbld" else {}
        return make_method(name, self._stand_in, saving=saving, sensitivity_data=self._data, **own)

    def _fullest(self, name: str, weight: str) -> LayerDropping:
        """The method at the most that it can be asked to save."""
        make = partial(self._make, name, weight)
        if (name, weight) not in self._largest:
            self._largest[name, weight] = largest_saving(make)
        self.largest_saving = self._largest[name, weight]
        return make(self.largest_saving)

    def _draw(self, figure: Figure) -> str:
        name, weight = str(self.method.value), str(self.weight.value)
        saving = round(float(self.saving.value), 4)
        show_only_where(self.weight, name == "sbld")
        fullest = self._fullest(name, weight)
        limit = f"{name} can save up to {self.largest_saving:.3f} on {self._num_layers} layers"
        moves = bool(np.ptp(tabulate(fullest.schedule, _POINTS)) > 0)
        show_only_where(self.progress, moves)
        try:
            self.dropping = self._make(name, weight, saving)
        except ValueError as refusal:
            raise ValueError(f"{refusal}; {limit}") from None
        at = float(self.progress.value)
        self.keep_probability = self.dropping.keep_probability(at)
        draw_allocation(
            figure, _never_dropped(fullest), self.keep_probability,
            at_most=fullest.keep_probability(at), schedule=self.dropping.schedule, progress=at,
            labels=LABELS,
        )  # fmt: skip
        asked = float(self.dropping.schedule(at))
        return (
            f"{name}{f', weight by {weight}' if name == 'sbld' else ''}, saving {saving:.2f}"
            f"{f', at progress {at:.2f}' if moves else ''}: keep probabilities "
            f"{min(self.keep_probability):.2f} to {max(self.keep_probability):.2f}, mean "
            f"{mean_keep_of(self.keep_probability):.6g} (asked {asked:.6g}). {limit}."
            f"{_EFFECTS[self.dropping.effect]}"
        )


def largest_saving(make: Callable[[float], LayerDropping]) -> float:
    """The most that a method can be asked to save, to a millionth, rounded down.

    Args:
        make: the method at a saving in [0, 1); raises ValueError above what its layers hold.
    """
    return math.floor(1e6 * last_accepted(make, good=0.0, bad=1.0)) / 1e6


def _count(subject: nn.Module | int) -> int:
    return len(find_blocks(subject)) if isinstance(subject, nn.Module) else subject


def _stand_in(num_layers: int) -> GPT:
    """As many layers, and next to nothing in them.

    A method made on the reader's own model would take the place of the one at work there.
    """
    return GPT(
        GPTConfig(
            num_layers=num_layers, vocabulary_size=2, context_length=1, num_heads=1, width=1
        )
    )  # fmt: skip


def _share(name: str, field: str, value: float, most: float) -> Any:
    value = check_range(field, value, 0, most)
    return slider(widgets.FloatSlider, name, value, 0.0, most, step=0.01)


def _never_dropped(fullest: LayerDropping) -> LayerLists:
    """The layers that a method keeps all the way even at its largest saving, and the others."""
    least = float(tabulate(fullest.schedule, _POINTS).min())
    keep = fullest.allocation(least)
    block = tuple(layer for layer, k in enumerate(keep) if k == 1)
    allow = tuple(layer for layer in range(len(keep)) if layer not in block)
    return LayerLists(block=block, allow=allow, rule=fullest.name)
