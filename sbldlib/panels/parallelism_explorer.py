"""Length, width and processors by hand: what must wait, what must be done, and who is faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..errors import check_range
from ..measure import Parallelism
from ..measure.scaling import count_parallelism, time_bounds
from ..models.recurrent import KINDS, SequenceConfig, same_budget
from ..plots.axes import shared_legend
from ..plots.parallelism import KIND_LABEL, plot_bounds, plot_paths
from ..plots.theme import GREY
from .explorer import Explorer, dropdown, slider
from .theming import NARROW

SIZE_INCHES = (7.2, 4.0)
LENGTHS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
WIDTHS = (8, 16, 32, 64, 128)
MOST_PROCESSORS = 1e5
FLOPS_PER_SECOND = 1e9  # of one processor, assumed
SECONDS_PER_STEP = 5e-6  # that an operation takes at least, assumed
ROWS, VOCABULARY, BUDGET_LENGTH = 2, 64, 128
NARROWEST = 4  # the longest path does not depend on the width


class ParallelismExplorer(Explorer):
    """Work and span of every kind of model at one number of weights, and the time they allow.

    Counts are those of the real graph, of two rows. Times are Brent's least, max(work / p, span),
    for processors of 1 GFLOP/s where an operation takes at least 5 microseconds, about what a GPU
    takes to start one: [O], assumed, and said in the text.

    Attributes:
        length, width, processors, kind: what is chosen with; width is attention's, and the other
            kinds are as wide as the same number of weights lets them be.
        counted: kind -> work and span at the chosen length and width.
        seconds: kind -> the least time.
    """

    counted: dict[str, Parallelism]
    seconds: dict[str, float]

    def __init__(self, *, length: int = 256, width: int = 32, processors: float = 1.0):
        """
        Args:
            length: tokens at first, one of LENGTHS.
            width: at first, one of WIDTHS.
            processors: at first, in [1, 1e5].

        Raises:
            ValueError: an argument is none of these.
        """
        self.length = choice_slider("length", length, LENGTHS)
        self.width = choice_slider("width", width, WIDTHS)
        check_range("processors", processors, 1, MOST_PROCESSORS)
        self.processors = slider(
            widgets.FloatLogSlider, "processors", processors, 0, 5, base=10, step=0.25,
            readout_format=".0f",
        )  # fmt: skip
        self.kind = dropdown("look at", KINDS, labels=KIND_LABEL)
        self._paths = {length: counts_at(length, NARROWEST) for length in LENGTHS}
        controls = [self.length, self.width, self.processors, self.kind]
        super().__init__(controls, size_inches=SIZE_INCHES)

    def _draw(self, figure: Figure) -> str:
        length, width = int(self.length.value), int(self.width.value)
        processors = float(self.processors.value)
        self.counted = counts_at(length, width)
        self.seconds = {kind: self._bounds(kind, processors)[0] for kind in KINDS}
        left, right = figure.subplots(1, 2)
        plot_paths(left, self._paths).set_title("What must wait")
        left.axvline(length, color=GREY, linewidth=1, linestyle="--")
        plot_bounds(
            right, self.counted, flops_per_second=FLOPS_PER_SECOND,
            seconds_per_step=SECONDS_PER_STEP, most_processors=MOST_PROCESSORS,
        )  # fmt: skip
        right.axvline(processors, color=GREY, linewidth=1, linestyle="--")
        right.set_title(f"Least time, {length} tokens")
        shared_legend(figure, left, where="lower")
        return self._said(length, width, processors)

    def _bounds(self, kind: str, processors: float) -> tuple[float, float]:
        """Least time, and that of the chain alone, in seconds."""
        found = self.counted[kind]
        span = found.longest_path * SECONDS_PER_STEP
        return time_bounds(found.flops / FLOPS_PER_SECOND, span, processors)[0], span

    def _said(self, length: int, width: int, processors: float) -> str:
        kind = str(self.kind.value)
        found, (least, span) = self.counted[kind], self._bounds(kind, processors)
        fastest = min(self.seconds, key=self.seconds.__getitem__)
        weights = ""
        if kind == "attention":
            config = base_config(length, width)
            stored = 4 * ROWS * config.depth * config.num_heads * length**2
            weights = f" Its softmax weights, written out, take {stored / 2**20:.3g} MiB."
        return (
            f"{KIND_LABEL[kind]}, {ROWS} rows of {length} tokens: longest path "
            f"{found.longest_path:,} nodes, {found.num_operations:,} operations, "
            f"{found.flops / 1e6:,.1f} MFLOPs.{weights} On {processors:,.0f} processors it takes "
            f"{least * 1e3:.3g} ms at least, held up by its {'work' if least > span else 'chain'}. "
            f"Fastest: {KIND_LABEL[fastest]}, {self.seconds[fastest] * 1e3:.3g} ms. Assumed: "
            "1 GFLOP/s a processor, and 5 µs for any operation."
        )


def base_config(length: int, width: int) -> SequenceConfig:
    """Attention's, whose number of weights the other kinds meet."""
    return SequenceConfig(
        kind="attention", vocabulary_size=VOCABULARY, context_length=length, width=width
    )


def counts_at(length: int, width: int) -> dict[str, Parallelism]:
    """Work and span of each kind on sequences of this length."""
    configs = same_budget(base_config(BUDGET_LENGTH, width), tolerance=0.5)
    return {
        kind: count_parallelism(replace(configs[kind], context_length=length), ROWS)
        for kind in KINDS
    }


def choice_slider(name: str, value: int, values: Sequence[int]) -> widgets.SelectionSlider:
    """A slider over these numbers alone, which answers when it is let go.

    Raises:
        ValueError: the value is none of them.
    """
    if value not in values:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(str, values))}")
    return widgets.SelectionSlider(
        options=list(values), value=value, description=name, continuous_update=False,
        style={"description_width": "9em"}, layout=NARROW,
    )  # fmt: skip
