"""The widgets of a live panel: each writes one plain value, and shows what it is told."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from html import escape
from typing import Any

import ipywidgets as widgets

from ..errors import printable
from ..training.controls import Controls

SAVING_STEP = 0.05
NARROW = {"max_width": "calc(100% - 4px)"}  # less the margins, so that a narrow page holds it


def html_text(text: str) -> str:
    """The text as it is, for a page: nothing in it is a tag, an entity or a control character."""
    return escape(printable(text))


def announced(text: str) -> str:
    """A line of a panel, which screen readers announce when it changes."""
    return f'<span role="status">{html_text(text)}</span>'


class Board:
    """Buttons, slider and list on one side, picture and text on the other.

    Callbacks may come on a thread of the kernel's; they ask `Controls` for a value and do no more.

    Attributes:
        widget: all of it, to be displayed.
        dropping, saving, method, pause, stop: what is steered with.
        progress, state, numbers, image: what is shown; `state` is announced by screen readers.
    """

    def __init__(self, controls: Controls, largest_saving: Mapping[str, float], *, steered: bool):
        """
        Args:
            controls: what the widgets write to; its values are their first ones.
            largest_saving: method name -> the most it can hold here; these methods are offered.
            steered: whether a hand steers; else method, saving and toggle only follow.
        """
        self._controls, self._largest_saving, self._steered = controls, largest_saving, steered
        self._follows: int | None = None  # the thread whose changes of widgets ask for nothing
        self.dropping = widgets.ToggleButton(
            value=controls["dropping"], tooltip="Drop layers, from the next step on"
        )
        self.method = widgets.Dropdown(
            options=list(largest_saving), value=controls["method"], description="Method",
            layout=NARROW,
        )  # fmt: skip
        self.saving = widgets.FloatSlider(
            value=controls["saving"], min=0.0, max=largest_saving[controls["method"]],
            step=SAVING_STEP, description="Asked saving", readout_format=".2f", layout=NARROW,
            style={"description_width": "initial"},
        )  # fmt: skip
        self.pause = widgets.ToggleButton(icon="pause", tooltip="Wait before the next step")
        self.stop = widgets.Button(
            description="Stop", icon="stop", tooltip="End the run before its next step"
        )
        self.progress = widgets.FloatProgress(
            min=0.0, max=1.0, description="Progress", layout=NARROW
        )
        self.state, self.numbers = widgets.HTML(), widgets.HTML()
        self.image = widgets.Image(format="png", layout={"width": "640px", **NARROW})
        self.widget = self._arrange()
        self._connect()
        self.follow()

    def follow(self) -> None:
        """Let the widgets say what is in force, and hold its values.

        Where a hand steers they hold what is asked for: what they asked themselves, or what a run
        that was taken up brought along.
        """
        in_force = self._controls
        self.dropping.description = f"Dropping is {'on' if in_force['dropping'] else 'off'}"
        self.pause.description = "Resume" if in_force.is_paused else "Pause"
        values = in_force.wanted if self._steered else in_force.values()
        self._follows = threading.get_ident()  # a hand may move them on another thread meanwhile
        try:
            self.method.value = values["method"]
            self.saving.max = self._largest_saving[values["method"]]
            # The browser's digits stay, or the slider would move under the hand.
            if round(self.saving.value, 4) != values["saving"]:
                self.saving.value = values["saving"]
            self.dropping.value = values["dropping"]
        finally:
            self._follows = None

    def show(self, *, state: str, numbers: str, progress: float) -> None:
        """Renew the text and the bar."""
        self.state.value = f'<b role="status">{html_text(state)}</b>'
        self.numbers.value = f'<div style="line-height: 1.4">{html_text(numbers)}</div>'
        self.progress.value = progress

    def close(self) -> None:
        """Nothing is left to steer."""
        for control in (self.dropping, self.method, self.saving, self.pause, self.stop):
            control.disabled = True

    def _arrange(self) -> widgets.VBox:
        wrap = {"flex_flow": "row wrap"}  # narrow windows get more rows
        steer = widgets.HBox([self.dropping, self.method, self.saving], layout=wrap)
        run = widgets.HBox([self.pause, self.stop, self.progress], layout=wrap)
        return widgets.VBox([steer, run, self.state, self.numbers, self.image])

    def _connect(self) -> None:
        controls = self._controls
        self.pause.observe(
            lambda change: controls.pause() if change["new"] else controls.resume(), "value"
        )
        self.stop.on_click(lambda _: controls.stop())
        if not self._steered:
            for follower in (self.dropping, self.method, self.saving):
                follower.disabled = True
            return
        self.dropping.observe(lambda change: self._ask("dropping", change["new"]), "value")
        # The browser sends 0.30000000000000004.
        self.saving.observe(lambda change: self._ask("saving", round(change["new"], 4)), "value")
        self.method.observe(self._choose_method, "value")

    def _choose_method(self, change: dict[str, Any]) -> None:
        # The slider falls to what this method can hold, and asks for it, before the method changes.
        if self._follows != threading.get_ident():
            self.saving.max = self._largest_saving[change["new"]]
            self._ask("method", change["new"])

    def _ask(self, name: str, value: Any) -> None:
        if self._follows != threading.get_ident():
            self._controls.set(name, value)
