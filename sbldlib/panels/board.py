"""The widgets of a live panel: each asks for one plain value, and shows what it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from ..live.asking import SAVING_STEP
from ..live.session import LiveSession
from .steering import COLUMN, LABEL, Steering, column, in_row, row, same
from .theming import dark_style, picture_image
from .words import headline, html_text, lines

AGAINST = (("steps", "steps"), ("FLOPs", "flops"), ("seconds", "seconds"))
MAX_WIDTH = "840px"  # two columns; lines of text are not longer either
CHUNK = 50  # steps a click where a run goes on by clicks
MOVE_OTHERS = ("method", "schedule", "block")


class Board:
    """Buttons, sliders and lists above, picture and text below.

    Callbacks may come on a thread of the kernel's; they ask the session for a value and do no more.

    Attributes:
        widget: all of it, to be displayed.
        dropping, method, saving: what is dropped.
        pause, step, stop, undo, back, chunk: what the run does.
        against: what the losses are drawn over.
        more, steering: the other controls, and the button that shows them.
        state, numbers, refusal: what is said; changes of `state` and `refusal` are announced.
        image: the picture; samples: what the models wrote.
    """

    def __init__(
        self,
        session: LiveSession,
        *,
        measured: tuple[int, ...],
        width_pixels: int,
        steered: bool,
        on_step: Callable[[], None],
        on_chunk: Callable[[int], None],
        on_stop: Callable[[], None],
        on_against: Callable[[str], None],
    ):
        """
        Args:
            session: what the widgets ask; its values are their first ones.
            measured: layers on the block list that the sensitivities give.
            width_pixels: of the picture.
            steered: whether a hand steers; else the controls of the dropping only follow.
            on_step, on_stop: told that one step, or the end, is asked for.
            on_chunk: told how many steps to run where the run goes on by clicks.
            on_against: told "steps", "flops" or "seconds".
        """
        self._session, self._measured, self._steered = session, measured, steered
        self._follows: int | None = None  # the thread whose changes of widgets ask for nothing
        self._make_basics()
        has_lists = "sbld" in session.asking.offered
        self.steering = Steering(
            session.start, self._ask, num_layers=session.asking.num_layers, has_lists=has_lists
        )
        self.progress = widgets.FloatProgress(
            min=0.0, max=1.0, layout={"width": "auto", "height": "12px"}
        )
        self.against = widgets.ToggleButtons(
            options=AGAINST, layout={"width": "auto"}, style={"button_width": "7em"},
            tooltips=[f"Draw and compare losses over {name}" for name, _ in AGAINST],
        )  # fmt: skip
        self.state, self.numbers, self.refusal = (widgets.HTML() for _ in range(3))
        self.samples, self.driver = widgets.HTML(), widgets.HTML()
        self.image = picture_image(width_pixels)
        self.widget = self._arrange()
        self.step.on_click(lambda _: on_step())
        self.chunk.on_click(lambda _: on_chunk(CHUNK))
        self.stop.on_click(lambda _: on_stop())
        self.against.observe(lambda change: on_against(change["new"]), "value")
        self._connect()
        self.follow()

    def follow(self) -> None:
        """Let the widgets say what is in force, and hold its values.

        Where a hand steers they hold what is asked for: what they asked themselves, or what a run
        that was taken up brought along.
        """
        session = self._session
        values = session.controls.wanted if self._steered else session.controls.values()
        is_on = session.controls["dropping"]
        self.dropping.description = f"Dropping is {'on' if is_on else 'off'}"
        self.pause.description = "Resume" if session.is_paused else "Pause"
        self._follows = threading.get_ident()  # a hand may move them on another thread meanwhile
        try:
            self.method.value = values["method"]
            self.saving.max = max(values["saving"], session.asking.offered[values["method"]])
            for name, control in (("saving", self.saving), ("dropping", self.dropping)):
                if not same(control.value, values[name]):
                    control.value = values[name]
            self.pause.value = session.is_paused
            self.steering.follow(values, self._measured)
        finally:
            self._follows = None

    def show(self, *, state: str, numbers: list[str], progress: float, samples: str) -> None:
        """Renew the text and the bar."""
        self.state.value = headline(state)
        self.numbers.value = lines(numbers)
        self.progress.value = progress
        self.samples.value = samples

    def close(self) -> None:
        """Nothing is left to steer."""
        for control in (*self._steered_with, *self._runs_with):
            control.disabled = True

    def serve_chunks(self, sentence: str, *, are_clicked: bool) -> None:
        """Say how the run goes on, and offer the buttons that make it."""
        self.driver.value = f"<small>{html_text(sentence)}</small>"
        self.chunk.layout.display = "" if are_clicked else "none"
        self.pause.layout.display = "none" if are_clicked else ""

    def _make_basics(self) -> None:
        session = self._session
        start, offered = session.start, session.asking.offered
        self.dropping = widgets.ToggleButton(
            value=start["dropping"], tooltip="Drop layers, from the next step on",
            layout=in_row(1, "9em"),
        )  # fmt: skip
        self.method = widgets.Dropdown(
            options=list(offered), value=start["method"], description="Method",
            layout=in_row(2, "13em"), style={"description_width": "5em"},
        )  # fmt: skip
        self.saving = widgets.FloatSlider(
            value=start["saving"], min=0.0, max=offered[start["method"]], step=SAVING_STEP,
            description="Asked saving", readout_format=".2f", layout=COLUMN, style=LABEL,
            continuous_update=False,
        )  # fmt: skip
        self.pause = widgets.ToggleButton(
            icon="pause", tooltip="Wait before the next step", layout=in_row(1, "9em")
        )
        self.step = _button("One step", "step-forward", "Run one step, and wait")
        self.chunk = _button(f"Run {CHUNK} steps", "play", "Run so many steps, and wait")
        self.stop = _button("Stop", "stop", "End the run before its next step")
        self.undo = _button("Undo", "undo", "Take back the last change")
        self.back = _button("Back", "history", "Go on from the last checkpoint before this step")
        self.more = widgets.ToggleButton(
            description="More controls", icon="sliders", tooltip="Schedule, lists, draws, speed",
            layout=in_row(1, "9em"),
        )  # fmt: skip
        self._runs_with = (self.pause, self.step, self.chunk, self.stop, self.undo, self.back)

    @property
    def _steered_with(self) -> tuple[Any, ...]:
        return (self.dropping, self.method, self.saving, *self.steering.controls)

    def _arrange(self) -> widgets.VBox:
        steer = row([column([self.dropping, self.method]), self.saving])
        run = row([*self._runs_with, self.more])
        self.steering.widget.layout.display = "none"
        parts = [dark_style(), steer, run, self.steering.widget, self.progress, self.refusal]
        over = row([widgets.Label("Loss over"), self.against])
        parts += [self.state, self.numbers, over, self.image, self.samples, self.driver]
        return widgets.VBox(parts, layout={"max_width": MAX_WIDTH})

    def _connect(self) -> None:
        session = self._session
        self.pause.observe(self._pause, "value")
        self.more.observe(self._show_more, "value")
        if not self._steered:
            for control in (*self._steered_with, self.undo, self.back):
                control.disabled = True
            return
        self.undo.on_click(self._undo)
        self.back.on_click(lambda _: self._try(session.go_back))
        for name in ("dropping", "method", "saving"):
            control = getattr(self, name)
            control.observe(lambda change, name=name: self._ask(name, change["new"]), "value")

    def _ask(self, name: str, value: Any) -> None:
        if self._follows == threading.get_ident():
            return
        asked = self._try(lambda: self._session.ask(name, value))
        # A slider may come a thousand times a second: only what moves others too is followed.
        if asked != {name: value} or name in MOVE_OTHERS:
            self.follow()

    def _undo(self, _: Any) -> None:
        self._try(self._session.undo)
        self.follow()

    def _pause(self, change: dict[str, Any]) -> None:
        if self._follows != threading.get_ident():
            self._session.pause() if change["new"] else self._session.resume()

    def _try(self, ask: Callable[[], Any]) -> Any:
        """What `ask` returns; or None, where it is refused, and the reason is said."""
        try:
            asked = ask()
        except ValueError as refusal:
            said = html_text(f"Not changed: {refusal}.")
            self.refusal.value = f'<span role="alert">{said}</span>'
            return None
        if self.refusal.value:
            self.refusal.value = ""
        return asked

    def _show_more(self, change: dict[str, Any]) -> None:
        self.steering.widget.layout.display = "" if change["new"] else "none"


def _button(name: str, icon: str, tooltip: str) -> widgets.Button:
    return widgets.Button(description=name, icon=icon, tooltip=tooltip, layout=in_row(1, "9em"))
