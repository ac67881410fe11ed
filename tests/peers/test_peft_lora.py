"""Our low-rank change against peft's: on the same weights the same function, once and merged."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from sbldlib.models.diverging_gpt import DivergingGPT, LowRank

peft = pytest.importorskip("peft")

pytestmark = pytest.mark.peer

RANK = 3


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_peft(model: nn.Module, targets: list[str], rank: int) -> nn.Module:
    """A copy with peft's LoRA on these parts; its scale is 1, as ours has none."""
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=targets)
    return peft.get_peft_model(copy.deepcopy(model), config)


@torch.no_grad()
def put_changes(theirs: nn.Module, ours: nn.Module) -> None:
    """Give both the same low-rank change, part by part."""
    named = dict(theirs.named_modules())
    for name, part in ours.named_modules():
        if not parametrize.is_parametrized(part, "weight"):
            continue
        change = part.parametrizations.weight[0]
        change.up.copy_(draw(*change.up.shape, seed=len(name)) / 10)
        layer = named[f"base_model.model.{name}"]
        layer.lora_A["default"].weight.copy_(change.down)
        layer.lora_B["default"].weight.copy_(change.up)


def test_one_matrix_computes_and_merges_as_peft_s():
    plain = nn.Sequential(nn.Linear(5, 7))
    theirs = with_peft(plain, ["0"], RANK)
    change = LowRank(plain[0].weight, RANK, torch.Generator().manual_seed(0))
    ours = copy.deepcopy(plain)
    parametrize.register_parametrization(ours[0], "weight", change)
    put_changes(theirs, ours)
    x = draw(4, 5, seed=9)
    torch.testing.assert_close(ours(x), theirs(x))
    assert not torch.allclose(ours(x), plain(x), atol=1e-2)
    merged = theirs.merge_and_unload()
    torch.testing.assert_close(ours[0].weight, merged[0].weight)
    assert sum(p.numel() for p in change.parameters()) == RANK * (5 + 7)


def test_a_stage_between_computes_learns_and_merges_as_peft_s():
    ours = DivergingGPT.from_preset("tiny", num_layers=4, stages=(1, 2, 4), stage=1, rank=RANK)
    plain = DivergingGPT.from_preset("tiny", num_layers=4, stages=(2, 4), rank=0)
    plain.load_state_dict(_without_changes(ours))
    theirs = with_peft(plain, [r"query_key_value", r"attention.output"], RANK)
    put_changes(theirs, ours)
    tokens_BT = torch.arange(24).view(2, 12)
    torch.testing.assert_close(ours(tokens_BT), theirs(tokens_BT), atol=2e-5, rtol=1e-4)
    mine = {n for n, p in ours.blocks.named_parameters() if p.requires_grad and "original" in n}
    assert not mine, "attention stands still, as under peft"
    ours.grow()
    merged = theirs.merge_and_unload()
    for layer, block in enumerate(ours.blocks):
        torch.testing.assert_close(
            block.attention.output.weight, merged.blocks[layer].attention.output.weight
        )


def _without_changes(model: nn.Module) -> dict[str, torch.Tensor]:
    state = {
        name.replace("parametrizations.weight.original", "weight"): value
        for name, value in model.state_dict().items()
        if ".weight.0." not in name
    }
    return state | {"stage_index": torch.tensor(0)}
