"""What else a hand steers a live run with: schedule, block list, draws, learning rate, speed.

Each control is bound to a value of the session by its name: it asks when it is moved, and shows
what is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets

from ..dropping.plan import MODES
from ..live.schedules import SCHEDULES
from ..live.values import MEASURED, OWN, RANGES, STEPS_PER_SECOND, block_layers
from ..methods.base import RESCALES, SCOPES
from ..training.controls import LEARNING_RATE_SCALE
from .theming import NARROW

# Two columns of equal width, with labels of equal width; a narrow page has one.
COLUMN = {"flex": "1 1 392px", "width": "auto", **NARROW}
_HALF = {"flex": "1 1 396px", "max_width": "100%"}
LABEL = {"description_width": "8em"}
PWEGD = ("pwegd_shape", "pwegd_scale", "pwegd_a1", "pwegd_a2")
Ask = Callable[[str, Any], None]


class Steering:
    """The controls below "More controls".

    Attributes:
        bound: name of a value -> the widget that holds it.
        layers: one button a layer, pressed where the layer is on the block list.
        widget: all of it.
    """

    def __init__(self, values: Mapping[str, Any], ask: Ask, *, num_layers: int, has_lists: bool):
        """
        Args:
            values: in force.
            ask: told the name and value of what was moved.
            num_layers: buttons for the block list.
            has_lists: whether there is a method that has block lists.
        """
        self._ask = ask
        self.bound: dict[str, Any] = {
            "schedule": _choice("Schedule", (OWN, *SCHEDULES)),
            "pwegd_shape": _slider("PWEGD q", *RANGES["pwegd_shape"], 0.1),
            "pwegd_scale": _slider("PWEGD b", *RANGES["pwegd_scale"], 0.02),
            "pwegd_a1": _slider("PWEGD a1", *RANGES["pwegd_a1"], 0.5),
            "pwegd_a2": _slider("PWEGD a2", *RANGES["pwegd_a2"], 0.5),
            "block": widgets.Text(
                description="Block list",
                continuous_update=False,
                layout=in_row(3, "15em"),
                style=LABEL,
            ),
            "mode": _choice("Draw", (OWN, *MODES)),
            "scope": _choice("Scope", (OWN, *SCOPES)),
            "rescale": _choice("Rescaling", (OWN, *RESCALES)),
            LEARNING_RATE_SCALE: _log_slider("Learning rate ×", *RANGES[LEARNING_RATE_SCALE]),
            STEPS_PER_SECOND: _slider("Max steps/s", *RANGES[STEPS_PER_SECOND], 1.0),
        }
        self.layers = [
            widgets.ToggleButton(
                description=str(layer), tooltip=f"Layer {layer}: never drop it",
                layout={"width": "auto"},
            )
            for layer in range(num_layers)
        ]  # fmt: skip
        self.measured = widgets.Button(
            description="As measured", tooltip="The block list that the sensitivities give",
            layout=in_row(1, "8em"),
        )  # fmt: skip
        self._has_lists = has_lists
        self.widget = self._arrange()
        for name, control in self.bound.items():
            control.value = values[name]
            control.observe(lambda change, name=name: ask(name, change["new"]), "value")
        for button in self.layers:
            button.observe(self._click, "value")
        self.measured.on_click(lambda _: ask("block", MEASURED))

    @property
    def controls(self) -> list[Any]:
        """Every widget that is moved."""
        return [*self.bound.values(), *self.layers, self.measured]

    def follow(self, values: Mapping[str, Any], measured: tuple[int, ...]) -> None:
        """Show these values; where the block list is the measured one, its layers are given."""
        for name, control in self.bound.items():
            if not same(control.value, values[name]):
                control.value = values[name]
        block = values["block"]
        blocked = measured if block == MEASURED else block_layers(block)
        for layer, button in enumerate(self.layers):
            button.value = layer in blocked
        shown = "" if values["schedule"] == "pwegd" else "none"
        for name in PWEGD:
            self.bound[name].layout.display = shown

    def _click(self, _: Any) -> None:
        pressed = [str(layer) for layer, button in enumerate(self.layers) if button.value]
        self._ask("block", ", ".join(pressed))

    def _arrange(self) -> widgets.VBox:
        bound = self.bound
        parts = [bound["schedule"], bound["mode"], *(bound[name] for name in PWEGD)]
        if self._has_lists:
            parts += [column([bound["block"], self.measured]), _even(self.layers)]
        parts += [bound["scope"], bound["rescale"]]
        parts += [bound[LEARNING_RATE_SCALE], bound[STEPS_PER_SECOND]]
        return widgets.VBox([row(parts)], layout={"margin": "4px 0"})


def row(parts: Sequence[Any]) -> widgets.HBox:
    """Side by side, and below each other where the page is narrow."""
    return widgets.HBox(parts, layout={"flex_flow": "row wrap"})


def column(parts: Sequence[Any]) -> widgets.HBox:
    """A row within one of the two columns."""
    return widgets.HBox(parts, layout={"flex_flow": "row wrap", **_HALF})


def in_row(share: int, min_width: str) -> dict[str, str]:
    """Layout of one of several in a row, which fill it by their shares."""
    return {"flex": f"{share} 1 0px", "width": "auto", "min_width": min_width, **NARROW}


def _even(parts: Sequence[Any]) -> widgets.GridBox:
    """One of the two columns, with parts of one width in as many rows as they take."""
    columns = "repeat(auto-fit, minmax(2.6em, 1fr))"
    return widgets.GridBox(parts, layout={"grid_template_columns": columns, **_HALF})


def same(shown: Any, value: Any) -> bool:
    """Whether a widget's value is this one; the browser's last digits do not count."""
    if isinstance(value, float) and not isinstance(shown, (bool, str)):
        return math.isclose(shown, value, rel_tol=1e-3, abs_tol=1e-4)
    return shown == value


def _choice(name: str, options: tuple[str, ...]) -> widgets.Dropdown:
    return widgets.Dropdown(options=options, description=name, layout=COLUMN, style=LABEL)


def _slider(name: str, low: float, high: float, step: float) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        value=low, min=low, max=high, step=step, description=name, continuous_update=False,
        readout_format=".3g", layout=COLUMN, style=LABEL,
    )  # fmt: skip


def _log_slider(name: str, low: float, high: float) -> widgets.FloatLogSlider:
    return widgets.FloatLogSlider(
        value=low, base=10, min=math.log10(low), max=math.log10(high), step=0.1, description=name,
        continuous_update=False, readout_format=".3g", layout=COLUMN, style=LABEL,
    )  # fmt: skip
