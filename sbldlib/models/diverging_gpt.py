"""DivergingGPT: a GPT that begins with a few blocks standing at many places, and lets them diverge.

A stage says how many different blocks the L places share: neighbours share one. To grow is to give
places a copy of their own of what they shared, so that the function stays what it was, and training
lets the copies diverge. Stages between the first and the last may hold attention still and learn a
low-rank change of it instead; merged into the matrix before it is used, so that a stage is no
slower for it.

Legend: L layers (places), D width, R rank.

Source: [S] the progressive-diverging variant that this kit's sources describe: 12 layers, three
blocks shared by four, six by two with attention frozen and LoRA, then twelve. LoRA: Hu et al. 2021,
arXiv 2106.09685. "stack", the field's reference: Gong et al., "Efficient Training of BERT by
Progressively Stacking", ICML 2019. [O] where the source is silent: which layers share a block, what
LoRA is put on, its initial weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .diverging_gpt_config import PRESETS, DivergingGPTConfig
from .gpt import GPT, Block

__all__ = ["PRESETS", "DivergingGPT", "DivergingGPTConfig", "LowRank"]


class LowRank(nn.Module):
    """A matrix and a change of it of rank R, as one matrix; without change at first.

    Args:
        weight: [out, in], what is changed.
        rank: R.
        generator: of the initial `down`, as normal as the rows of an ordinary matrix.
    """

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        drawn = torch.empty(rank, inputs, device="cpu")
        drawn.normal_(0.0, inputs**-0.5, generator=generator)
        self.down = nn.Parameter(drawn.to(weight))
        self.up = nn.Parameter(weight.new_zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.addmm(weight, self.up, self.down)


class DivergingGPT(GPT):
    """A GPT whose layers share blocks at first and own them at last; see `grow`.

    Args:
        config: size, shape, and the stage that it begins at.
        seed: of the initial weights, and of those that growing adds.

    Sizes by name: "tiny" and "small", which is the source's but for its vocabulary.

    Example:
        >>> model = DivergingGPT.from_preset("tiny")  # 8 layers, 2 different blocks
        >>> new_weights = model.grow()  # 4 different blocks, the same outputs
    """

    config_class, presets = DivergingGPTConfig, PRESETS
    config: DivergingGPTConfig
    stage_index: Tensor  # the stage once more, for a state dict to say what it is of

    def __init__(self, config: DivergingGPTConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self._seed = seed
        self.register_buffer("stage_index", torch.tensor(config.stage))
        self._share()
        self._open_stage()

    @property
    def stage(self) -> int:
        """That it is at, from 0."""
        return self.config.stage

    @property
    def num_stages(self) -> int:
        """Of all."""
        return len(self.config.stages)

    @property
    def running_blocks(self) -> nn.ModuleList:
        """The blocks that take part at this stage, in order."""
        return self.blocks[: self.config.num_running]

    def grow(self) -> dict[nn.Parameter, nn.Parameter]:
        """Go to the next stage; returns each new weight and the old one that it is a copy of.

        With "diverge" the outputs stay what they were, to rounding.

        Raises:
            ValueError: it is at its last stage.
        """
        if self.stage == self.num_stages - 1:
            raise ValueError(f"stage={self.stage} of stages={self.config.stages} is the last one")
        self._close_stage()
        before = list(self.config.leaders)
        num_before = self.config.num_blocks
        self.config = replace(self.config, stage=self.stage + 1)
        self.stage_index.fill_(self.stage)
        if self.config.growth == "stack":
            new = {layer: layer % num_before for layer in range(num_before, self.config.num_blocks)}
        else:
            leaders = sorted(set(self.config.leaders) - set(before))
            new = {layer: before[layer] for layer in leaders}
        origin: dict[nn.Parameter, nn.Parameter] = {}
        for layer, old in new.items():
            origin |= _copy(self.blocks[old], self.blocks[layer])
        self._share()
        self._open_stage()
        return origin

    def grow_to_fit(self, weights: Mapping[str, Tensor]) -> None:
        """Go to the stage that a state dict is of, so that it can be loaded.

        Raises:
            ValueError: it says no stage, or one before this model's.
        """
        asked = weights.get("stage_index")
        if not isinstance(asked, Tensor) or asked.numel() != 1:
            raise ValueError("the weights say no stage: they are not a DivergingGPT's")
        if not self.stage <= int(asked) < self.num_stages:
            raise ValueError(
                f"the weights are of stage {int(asked)}, the model is at stage {self.stage} of "
                f"{self.num_stages}: load them into a model at its first stage"
            )
        while self.stage < int(asked):
            self.grow()

    def _share(self) -> None:
        """Let every layer hold the parts of its leader, a block of its own around them."""
        for layer, leader in enumerate(self.config.leaders):
            for name, part in self.blocks[leader].named_children():
                setattr(self.blocks[layer], name, part)

    def _open_stage(self) -> None:
        """Hold attention still and put the low-rank change on it, where the stage asks for it."""
        config = self.config
        if not config.is_between:
            return
        generator = torch.Generator().manual_seed(self._seed)
        for block in self._own_blocks():
            if config.freeze_attention:
                block.attention.requires_grad_(False)
            for part in _matrices(block) if config.rank else ():
                change = LowRank(part.weight, config.rank, generator)
                parametrize.register_parametrization(part, "weight", change)

    def _close_stage(self) -> None:
        """Merge the changes into what they change, and let everything learn again."""
        for block in self._own_blocks():
            for part in _matrices(block):
                if parametrize.is_parametrized(part):
                    _merge(part)
            block.attention.requires_grad_(True)

    def _own_blocks(self) -> Iterator[Block]:
        """The different blocks that run, in order."""
        for layer in sorted(set(self.config.leaders[: self.config.num_running])):
            block = self.blocks[layer]
            assert isinstance(block, Block)
            yield block


def _matrices(block: Block) -> tuple[nn.Linear, ...]:
    """What the low-rank change is put on."""
    return block.attention.query_key_value, block.attention.output


@torch.no_grad()
def _merge(part: nn.Linear) -> None:
    """Write the change into the matrix, which stays the parameter that it was.

    `remove_parametrizations` would take it out of the class, which a deep copy of the model shares.
    """
    change: Any = part.parametrizations
    held = change.weight.original
    held.copy_(part.weight)
    del part.parametrizations
    part.__class__ = nn.Linear
    part.weight = held


def _copy(old: nn.Module, new: nn.Module) -> dict[nn.Parameter, nn.Parameter]:
    """Give `new` copies of the parts of `old`; returns each new weight and its old one."""
    for name, part in old.named_children():
        setattr(new, name, copy.deepcopy(part))
    return dict(zip(new.parameters(), old.parameters(), strict=True))
