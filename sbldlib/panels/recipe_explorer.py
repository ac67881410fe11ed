"""A training recipe by hand: size, batch, precision, recomputation; and at once what it takes."""

from __future__ import annotations

from dataclasses import replace

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..measure.footprint import Footprint, predict_footprint
from ..models.gpt_config import PRESETS, GPTConfig
from ..plots.footprint import draw_recipe
from .explorer import Explorer, dropdown, slider

SIZE_INCHES = (6.6, 3.2)
WIDTH_OF_A_HEAD = 64  # GPT-2's, at every size
MAX_LAYERS, MAX_WIDTH, MAX_CONTEXT, MAX_ROWS, MAX_GIB = 96, 4096, 8192, 128, 192
RECOMPUTED = "recomputed"
WAYS = {
    "float32": ("float32", False),
    "bfloat16": ("bfloat16", False),
    f"float32, {RECOMPUTED}": ("float32", True),
    f"bfloat16, {RECOMPUTED}": ("bfloat16", True),
}


class RecipeExplorer(Explorer):
    """Choose a GPT's size and how it is trained; see whether it fits, and how long a step takes.

    Attributes:
        preset, layers, width, context, rows, way, memory, rate: what is chosen with. `preset` sets
            layers, width and context; `way` is a key of `WAYS`; `memory` is in GiB, and `rate` in
            floating-point operations a second that are reached.
        config: the shape that is chosen now.
        footprints: way -> what a step takes.
    """

    config: GPTConfig
    footprints: dict[str, Footprint]

    def __init__(self, preset: str = "gpt2-124m", *, rows: int = 8, memory_gib: float = 16.0):
        """
        Args:
            preset: a name in `PRESETS`, to begin with.
            rows: of a micro-batch at first, in 1..128.
            memory_gib: of the device at first, in 1..192.
        """
        self.preset = dropdown("begin with", list(PRESETS), value=preset)
        self._shape = shape = PRESETS[preset]
        self.layers = slider(widgets.IntSlider, "layers", shape.num_layers, 1, MAX_LAYERS)
        self.width = slider(
            widgets.IntSlider, "width", shape.width, WIDTH_OF_A_HEAD, MAX_WIDTH,
            step=WIDTH_OF_A_HEAD,
        )  # fmt: skip
        self.context = slider(
            widgets.IntSlider, "tokens a row", shape.context_length, 64, MAX_CONTEXT, step=64
        )
        self.rows = slider(widgets.IntSlider, "rows", rows, 1, MAX_ROWS)
        self.way = dropdown("precision", list(WAYS))
        self.memory = slider(widgets.FloatSlider, "device, GiB", memory_gib, 1.0, MAX_GIB, step=1.0)
        self.rate = slider(
            widgets.FloatLogSlider, "FLOP/s reached", 4e13, 9.0, 15.0, base=10, step=0.1,
            readout_format=".1e",
        )  # fmt: skip
        super().__init__(
            [
                self.preset, self.layers, self.width, self.context, self.rows, self.way,
                self.memory, self.rate,
            ],
            size_inches=SIZE_INCHES,
        )  # fmt: skip

    def _draw(self, figure: Figure) -> str:
        self._take_preset()
        shape, width = self._shape, int(self.width.value)
        self.config = replace(
            shape,
            num_layers=int(self.layers.value),
            width=width,
            num_heads=shape.num_heads if width == shape.width else width // WIDTH_OF_A_HEAD,
            context_length=int(self.context.value),
        )
        rows, way = int(self.rows.value), str(self.way.value)
        self.footprints = {
            name: predict_footprint(
                self.config, batch_size=rows, precision=precision, activation_recomputation=again
            )
            for name, (precision, again) in WAYS.items()
        }
        memory = float(self.memory.value) * 2**30
        draw_recipe(figure, way, self.footprints, memory)
        return self._in_words(self.footprints[way], memory)

    def _take_preset(self) -> None:
        """Where another preset is chosen, set the sliders to its shape."""
        shape = PRESETS[str(self.preset.value)]
        if shape is not self._shape:
            self._shape = shape
            self.layers.value, self.width.value = shape.num_layers, shape.width
            self.context.value = shape.context_length

    def _in_words(self, chosen: Footprint, memory: float) -> str:
        share = chosen.activations / chosen.total
        fits = "fits" if chosen.total <= memory else "does not fit"
        gib = {name: number / 2**30 for name, number in chosen.parts.items() if number}
        parts = ", ".join(f"{name} {number:.2f}" for name, number in gib.items())
        return (
            f"{chosen.parameters / 1e6:,.1f} million weights. A step on {int(self.rows.value)} "
            f"rows of {self.config.context_length} tokens: {chosen.flops:.2e} operations, "
            f"{chosen.seconds(float(self.rate.value)):.3g} s at {float(self.rate.value):.1e} a "
            f"second. Memory {chosen.total / 2**30:.2f} GiB ({parts}), which {fits} into "
            f"{memory / 2**30:.0f} GiB; {share:.0%} of it are activations."
        )
