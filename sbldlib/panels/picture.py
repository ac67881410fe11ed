"""The live picture: loss above, layers that ran below, on one axis of steps.

Drawn with an Agg figure of its own, for pyplot is neither safe beside a thread nor free of leaks.
What stays (axes, labels, marks) is drawn once and kept; a refresh draws two lines and one raster.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..plots.theme import BLUE, GREY, INK, ORANGE, RAN_OR_SKIPPED, literal, themed
from ..plots.training import smoothed
from ..records import StepRecord

WIDTH_INCHES, HEIGHT_INCHES, DPI = 6.4, 4.2, 120
WIDTH_PIXELS = 640  # as shown: a page has about 100 to the inch
WINDOW = 20  # steps of the running mean
MAX_COLUMNS = 400  # of the raster, and points of a line: more than the pixels can show
LABEL_ROOM = 0.07  # share of the axis that a label needs
FIRST_STEPS = 100  # width of the axis where the run's length is not known


class LivePicture:
    """A figure that grows with the run.

    Attributes:
        figure: holds the two axes; `png` draws it.
    """

    def __init__(self, num_layers: int, num_steps: int | None):
        self._num_layers = num_layers
        self._num_steps = num_steps or FIRST_STEPS
        self._may_grow = num_steps is None
        self._losses: list[float] = []
        self._ran = np.zeros(
            (num_layers, self._num_steps), np.float32
        )  # [layer, step], may be longer
        self._num_changes = 0
        self._labelled_at = float("-inf")
        self._label: Any = None  # the newest one, and what it names
        self._named: dict[str, str] = {}
        self._background: Any = None
        with themed():
            self.figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI)
            self._canvas = FigureCanvasAgg(self.figure)
            self._build()

    def add(self, records: Iterable[StepRecord], changes: Sequence[tuple[Any, ...]]) -> None:
        """Take in more steps, and the control log, whose new entries are marked."""
        for record in records:
            if len(self._losses) == self._ran.shape[1]:
                self._ran = np.pad(self._ran, ((0, 0), (0, len(self._losses))))
            self._ran[list(record.layers_run), len(self._losses)] = 1
            self._losses.append(record.loss_nats)
        for step, name, _, new in changes[self._num_changes :]:
            self._mark(step, name, new)
        self._num_changes = len(changes)

    def png(self) -> bytes:
        """The picture now."""
        if self._losses:
            self._follow()
        if self._background is None:
            self._canvas.draw()
            self._background = self._canvas.copy_from_bbox(self.figure.bbox)
        self._canvas.restore_region(self._background)
        for axes, artist in self._moving:
            axes.draw_artist(artist)
        return encode_png(np.asarray(self._canvas.buffer_rgba()))

    def _build(self) -> None:
        self._loss_axes, self._layer_axes = self.figure.subplots(
            2, 1, sharex=True, height_ratios=(1.35, 1)
        )
        top, bottom = self._loss_axes, self._layer_axes
        top.set_title("Training loss, nats per token", pad=18)
        (self._raw,) = top.plot([], [], color=GREY, linewidth=0.8, animated=True)
        (self._smooth,) = top.plot([], [], color=BLUE, linewidth=2.2, animated=True)
        top.set(ylim=(0, 1), xlim=(0, self._num_steps))
        top.text(
            0.99, 0.97, f"thin: every step\nthick: mean of {WINDOW}",
            transform=top.transAxes, ha="right", va="top", color=INK, fontsize=9,
        )  # fmt: skip
        bottom.set_title("Layers: dark ran, light was skipped")
        self._raster = bottom.imshow(
            np.zeros((1, 1, 4), np.uint8),
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            extent=(0, self._num_steps, -0.5, self._num_layers - 0.5),
            animated=True,
        )
        ticks = range(0, self._num_layers, max(1, self._num_layers // 8))
        bottom.set(xlabel="step", ylabel="layer", yticks=ticks)
        bottom.set(xlim=(0, self._num_steps), ylim=(-0.5, self._num_layers - 0.5))
        self.figure.subplots_adjust(left=0.1, right=0.98, top=0.88, bottom=0.12, hspace=0.38)
        self._moving = ((top, self._raw), (top, self._smooth), (bottom, self._raster))

    def _mark(self, step: int, name: str, new: Any) -> None:
        """A line through both axes where a control changed; close ones share a label."""
        for axes in (self._loss_axes, self._layer_axes):
            axes.axvline(step, color=ORANGE, linestyle="--", linewidth=1)
        if step - self._labelled_at >= LABEL_ROOM * self._num_steps:
            self._labelled_at, self._named = step, {}
            self._label = self._loss_axes.annotate(
                "", (step, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                textcoords="offset points", ha="center", color=INK, fontsize=9,
            )  # fmt: skip
        self._named[name] = change_label(name, new)
        self._label.set_text(", ".join(self._named.values()))
        self._background = None

    def _follow(self) -> None:
        """Bring lines, raster and limits up to the newest step."""
        losses = np.asarray(self._losses)
        stride = -(-len(losses) // MAX_COLUMNS)
        steps = np.arange(1, len(losses) + 1)
        self._raw.set_data(steps[::stride], losses[::stride])
        self._smooth.set_data(steps[::stride], smoothed(self._losses, WINDOW)[::stride])
        if self._may_grow and len(losses) > self._num_steps:
            self._num_steps = 2 * len(losses)
            self._loss_axes.set_xlim(0, self._num_steps)
            self._background = None
        self._raster.set_data(self._pixels(stride))
        right = stride * -(-len(losses) // stride)
        self._raster.set_extent((0, right, -0.5, self._num_layers - 0.5))
        low, high = self._loss_axes.get_ylim()
        if losses.min() < low or losses.max() > high:
            # Room to fall into: every new scale has the axes drawn again.
            room = max(0.25 * (losses.max() - losses.min()), 0.2 * losses.max())
            self._loss_axes.set_ylim(losses.min() - room, losses.max() + 0.05)
            self._background = None

    def _pixels(self, stride: int) -> np.ndarray:
        """Colours of the raster, [layer, column, RGBA]; a column stands for `stride` steps."""
        starts = np.arange(0, len(self._losses), stride)
        ran = np.add.reduceat(self._ran[:, : len(self._losses)], starts, axis=1)
        steps_a_column = np.diff(np.append(starts, len(self._losses)))
        colours = RAN_OR_SKIPPED(np.array([0, 1]))
        share = (ran / steps_a_column)[..., None]
        mixed = colours[0] + share * (colours[1] - colours[0])
        return np.round(255 * mixed).astype(np.uint8)


def change_label(name: str, new: Any) -> str:
    """A control's new value, short enough to stand above its line."""
    if name == "dropping":
        return "on" if new else "off"
    return name if name == "stop" else f"{new:.2f}" if isinstance(new, float) else literal(str(new))


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG of RGBA pixels [row, column, 4] without its transparency, in the least time.

    No row filter and the fastest compression: a third of an image library's time.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter, none
    rows[:, 1:].reshape(height, width, 3)[...] = pixels[..., :3]
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
