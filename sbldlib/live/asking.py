"""Whether what a hand asks for can be held, before a run is asked to hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..dropping.schedules import tabulate
from ..dropping.skipping import attach
from ..errors import check_choice
from ..methods import METHODS, LayerDropping
from ..records import SensitivityData
from .dropping import LiveDropping
from .values import CONTROLS, MAX_SAVING, SHARED, check_value

SAVING_STEP = 0.05
MOST_KNOWN = 1000


class Asking:
    """The door of a live run: what passes it will not end the run.

    Attributes:
        offered: method name -> the most that it can hold, up to 0.4, with the first values; without
            those that hold nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        sensitivity_data: SensitivityData | None = None,
        num_steps: int | None = None,
    ):
        """
        Args:
            num_steps: of the whole run where that is known: in a short one PLD holds less.
        """
        self._live = LiveDropping(model, sensitivity_data=sensitivity_data)
        self._held: dict[tuple[Any, ...], bool] = {}  # a slider passes the same values again
        self._num_steps, self.num_layers = num_steps, attach(model).num_layers
        most = {name: self.largest_saving({"method": name}) for name in METHODS if name != "none"}
        self.offered = {name: saving for name, saving in most.items() if saving > 0}

    def value(self, name: str, value: Any) -> Any:
        """The value as the controls hold it, or ValueError."""
        return check_value(name, value, num_layers=self.num_layers)

    def first_values(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """All values of a run that begins with these; ValueError where it could not."""
        values = {**CONTROLS, **SHARED}
        for name, value in asked.items():
            values[name] = self.value(name, value)
        self.check(values)
        check_choice("method", values["method"], self.offered)  # the switch is there for "none"
        return values

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise ValueError where a run with these values could not go on."""
        method = self.method(values)
        if self._num_steps is not None:
            for mean_keep in _extremes(tabulate(method.schedule, self._num_steps)):
                method.allocation(mean_keep)

    def method(self, values: Mapping[str, Any]) -> LayerDropping:
        """The method of these values, made anew; ValueError where there is none."""
        return self._live.method(**{name: values[name] for name in CONTROLS if name in values})

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether a run with these values could go on."""
        key = tuple(values.get(name) for name in CONTROLS)
        if key not in self._held:
            if len(self._held) >= MOST_KNOWN:
                self._held.clear()
            try:
                self.check(values)
            except ValueError:
                self._held[key] = False
            else:
                self._held[key] = True
        return self._held[key]

    def largest_saving(self, values: Mapping[str, Any]) -> float:
        """The most that can be asked with these values, in steps of 0.05 up to 0.4; 0 for none."""
        notches = range(round(MAX_SAVING / SAVING_STEP), 0, -1)
        savings = [round(notch * SAVING_STEP, 4) for notch in notches]
        return next((each for each in savings if self.holds({**values, "saving": each})), 0.0)


def _extremes(table: Any) -> tuple[float, float]:
    return float(table.min()), float(table.max())
