"""Sizes of DivergingGPT: the configuration, the named ones, and which layers share a block.

Source: [S] see `diverging_gpt`; "small" is the reported shape but for its vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from ..errors import check_choice, check_flag, check_positive_int, check_range, items
from .gpt_config import PRESETS as GPT_PRESETS
from .gpt_config import GPTConfig

GROWTHS = ("diverge", "stack")
MAX_RANK = 1024


@dataclass(frozen=True, kw_only=True)
class DivergingGPTConfig(GPTConfig):
    """The size and shape of a DivergingGPT: a GPT's, and how it grows.

    Attributes:
        stages: different blocks at each stage; each divides the next, the last is num_layers.
        growth: "diverge" (all places run from the first stage on, neighbours sharing a block) or
            "stack" (as many places run as there are blocks; a copy of them is put on top; not for
            a dropping method, which would plan for places that do not run yet).
        rank: R of the change that the stages between the first and the last learn of their
            attention, >= 0; 0 is none.
        freeze_attention: whether these stages hold attention's own weights still.
        stage: that the model is at, from 0.

    Raises:
        ValueError: a value outside its range, named with its field.
    """

    stages: tuple[int, ...] = (3, 6, 12)
    growth: str = "diverge"
    rank: int = 8
    freeze_attention: bool = True
    stage: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = tuple(check_positive_int("stages", num) for num in items("stages", self.stages))
        fits = all(after % before == 0 < after - before for before, after in pairwise(stages))
        if not stages or not fits or stages[-1] != self.num_layers:
            raise ValueError(
                f"stages={stages} must grow, each dividing the next, up to num_layers="
                f"{self.num_layers}, such as {(1, self.num_layers)}"
            )
        check_choice("growth", self.growth, GROWTHS)
        rank = check_positive_int("rank", self.rank, minimum=0, maximum=MAX_RANK)
        check_flag("freeze_attention", self.freeze_attention)
        stage = int(check_range("stage", self.stage, 0, len(stages) - 1))
        for name, value in {"stages": stages, "rank": rank, "stage": stage}.items():
            object.__setattr__(self, name, value)

    @property
    def num_blocks(self) -> int:
        """Different blocks at the stage that it is at."""
        return self.stages[self.stage]

    @property
    def num_running(self) -> int:
        """Layers that take part at the stage that it is at."""
        return self.num_blocks if self.growth == "stack" else self.num_layers

    @property
    def is_between(self) -> bool:
        """Whether it is at a stage between the first and the last."""
        return 0 < self.stage < len(self.stages) - 1

    @property
    def leaders(self) -> tuple[int, ...]:
        """For each layer the first one that has its block."""
        if self.growth == "stack":
            return tuple(range(self.num_layers))
        shared = self.num_layers // self.num_blocks
        return tuple(layer // shared * shared for layer in range(self.num_layers))


def _diverging(name: str, **changes: object) -> DivergingGPTConfig:
    return DivergingGPTConfig(**{**vars(GPT_PRESETS[name]), **changes})  # pyright: ignore


PRESETS = {
    "tiny": _diverging("tiny", stages=(2, 4, 8)),
    "small": _diverging("small"),
}
