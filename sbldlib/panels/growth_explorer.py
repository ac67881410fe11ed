"""How a model grows, by hand: layers, stages, when to grow, low rank; and at once what it takes."""

from __future__ import annotations

from dataclasses import replace

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..errors import check_choice
from ..measure.stages import StageCount, count_stages, flops_of_run
from ..models.diverging_gpt_config import GROWTHS, PRESETS, DivergingGPTConfig
from ..plots.divergence import draw_growth
from .explorer import Explorer, dropdown, show_only_where, slider
from .parallelism_explorer import choice_slider

SIZE_INCHES = (6.8, 4.6)
LAYERS = (4, 6, 8, 12, 16, 24)
RANKS = (0, 2, 4, 8, 16, 32)
MAX_STAGES = 4
CALLED = {"diverge": "all places from the first", "stack": "copies put on top"}


class GrowthExplorer(Explorer):
    """Choose how a model grows; see who shares which block, what learns and what it costs.

    Attributes:
        layers, stages, growth, last, rank, freeze: what is chosen with. The number of
            different blocks doubles from stage to stage; `last` is the share of the run at which
            the last stage begins, the others divide what lies before it.
        config: the model that is chosen now, at its first stage.
        counts: its stages.
        at: progress at which each later stage begins.
        share: operations of the run, of the same GPT's in as many tokens.
    """

    config: DivergingGPTConfig
    counts: tuple[StageCount, ...]
    at: tuple[float, ...]
    share: float

    def __init__(self, *, layers: int = 12, stages: int = 3, growth: str = "diverge"):
        """
        Args:
            layers: at first, one of LAYERS.
            stages: at first, in 1..4; where the layers cannot be halved as often, fewer.
            growth: at first, one of GROWTHS.

        Raises:
            ValueError: an argument is none of these.
        """
        self.layers = choice_slider("layers", layers, LAYERS)
        self.stages = slider(widgets.IntSlider, "stages", stages, 1, MAX_STAGES)
        check_choice("growth", growth, GROWTHS)
        self.growth = dropdown("grow by", GROWTHS, value=growth, labels=CALLED)
        self.rank = choice_slider("rank", 8, RANKS)
        self.freeze = widgets.Checkbox(description="hold attention still", value=True)
        self.last = slider(widgets.FloatSlider, "last stage at", 0.67, 0.05, 0.95, step=0.01)
        super().__init__(
            [self.layers, self.stages, self.growth, self.last, self.rank, self.freeze],
            size_inches=SIZE_INCHES,
        )  # fmt: skip

    def _draw(self, figure: Figure) -> str:
        numbers = halved(int(self.layers.value), int(self.stages.value))
        num_later = len(numbers) - 1
        begins = float(self.last.value)
        self.at = tuple(begins * (place + 1) / num_later for place in range(num_later))
        show_only_where(self.last, num_later > 0)
        for control in (self.rank, self.freeze):
            show_only_where(control, num_later > 1)
        self.config = replace(
            PRESETS["small"],
            num_layers=numbers[-1],
            stages=numbers,
            growth=str(self.growth.value),
            rank=int(self.rank.value),
            freeze_attention=bool(self.freeze.value),
        )
        self.counts = count_stages(self.config)
        self.share = flops_of_run(self.counts, self.at) / self.counts[-1].flops_per_token
        draw_growth(figure, self.config, self.counts, self.at)
        return self._in_words(len(numbers) < int(self.stages.value))

    def _in_words(self, is_cut: bool) -> str:
        numbers = " → ".join(str(count.num_blocks) for count in self.counts)
        learning = " → ".join(f"{count.learning / 1e6:.2f}" for count in self.counts)
        cut = f" (they cannot be halved as often as {int(self.stages.value)} stages ask)"
        return (
            f"{numbers} different blocks for {self.config.num_layers} places"
            f"{cut if is_cut else ''}; {learning} million weights learn, of a GPT's "
            f"{self.counts[-1].learning / 1e6:.2f}. Over the run, {self.share:.1%} of the "
            f"operations of a GPT that reads as many tokens."
        )


def halved(num_layers: int, num_stages: int) -> tuple[int, ...]:
    """Different blocks at each stage: halved from the last one back, while that is a whole number.

    Args:
        num_layers: of the last stage, >= 1.
        num_stages: the most stages, >= 1.
    """
    numbers = [num_layers]
    while len(numbers) < num_stages and numbers[0] % 2 == 0:
        numbers.insert(0, numbers[0] // 2)
    return tuple(numbers)
