"""What a stage costs, by formula and as real models count it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sbldlib.losses import next_token_loss
from sbldlib.measure.graph import written_out
from sbldlib.measure.stages import count_stages, flops_of_run
from sbldlib.models.diverging_gpt import PRESETS, DivergingGPT, DivergingGPTConfig
from sbldlib.models.gpt import GPT
from sbldlib.models.gpt_config import flops_per_token

MINI = DivergingGPTConfig(
    vocabulary_size=32, context_length=8, num_layers=4, num_heads=2, width=16, stages=(1, 2, 4),
    rank=2,
)  # fmt: skip
CASES = {
    "as the source": {},
    "no low rank": {"rank": 0},
    "nothing frozen": {"freeze_attention": False},
    "plain": {"rank": 0, "freeze_attention": False},
    "no biases": {"bias": False},
    "stack": {"growth": "stack", "rank": 0, "freeze_attention": False},
    "stack with low rank": {"growth": "stack"},
    "two stages": {"stages": (2, 4)},
    "one stage": {"stages": (4,)},
}


def counted(config: DivergingGPTConfig, rows: int) -> tuple[float, int, int]:
    """Operations a token of a whole batch, weights in use, and those of them that learn."""
    model, counter = DivergingGPT(config), FlopCounterMode(display=False)
    tokens_BT = torch.zeros(rows, config.context_length, dtype=torch.long)
    with written_out(), counter:
        next_token_loss(model, (tokens_BT, tokens_BT)).backward()
    running = {id(weight) for weight in model.running_blocks.parameters()}
    idle = {id(weight) for weight in model.blocks.parameters()} - running
    weights = [weight for weight in model.parameters() if id(weight) not in idle]
    learning = sum(weight.numel() for weight in weights if weight.requires_grad)
    flops = counter.get_total_flops() / tokens_BT.numel()
    return flops, sum(weight.numel() for weight in weights), learning


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_every_stage_is_what_the_real_model_counts(name, rows):
    config = replace(MINI, **CASES[name])
    stages = count_stages(config, rows=rows)
    assert [stage.num_blocks for stage in stages] == list(config.stages)
    for stage in stages:
        flops, parameters, learning = counted(replace(config, stage=stage.stage), rows)
        assert (stage.parameters, stage.learning) == (parameters, learning)
        assert stage.flops_per_token == pytest.approx(flops, rel=1e-12)


def test_the_last_stage_costs_what_a_gpt_costs_and_it_begins_with_fewer_weights():
    first, between, last = count_stages(PRESETS["small"])
    gpt = PRESETS["small"]
    assert last.flops_per_token == first.flops_per_token == flops_per_token(gpt) == 43_646_976
    with torch.device("meta"):
        assert last.parameters == GPT.from_preset("small").num_parameters()
    assert first.learning < last.learning / 2.8 and not (first.is_frozen or last.has_low_rank)
    assert between.is_frozen and between.has_low_rank and between.learning < between.parameters


def test_freezing_alone_saves_operations_and_a_merged_change_takes_them_back():
    frozen = count_stages(replace(PRESETS["tiny"], rank=0))
    assert frozen[1].flops_per_token < 0.95 * frozen[0].flops_per_token
    changed = count_stages(PRESETS["tiny"])
    assert 1 < changed[1].flops_per_token / changed[0].flops_per_token < 1.01


def test_of_a_stack_only_what_runs_costs():
    stages = count_stages(replace(PRESETS["tiny"], growth="stack", rank=0))
    assert [stage.num_running for stage in stages] == [2, 4, 8]
    assert stages[0].flops_per_token < 0.31 * stages[2].flops_per_token


def test_a_run_is_the_mean_of_its_stages_by_their_lengths():
    stages = count_stages(CONFIG_STACK)
    costs = [stage.flops_per_token for stage in stages]
    assert flops_of_run(stages, (0.5, 0.75)) == pytest.approx(
        0.5 * costs[0] + 0.25 * costs[1] + 0.25 * costs[2]
    )
    assert flops_of_run(count_stages(replace(MINI, stages=(4,))), ()) == costs[2]


CONFIG_STACK = replace(MINI, growth="stack", rank=0, freeze_attention=False)


def test_what_cannot_be_counted_is_named():
    with pytest.raises(ValueError, match="config="):
        count_stages(GPT.from_preset("tiny").config)
    with pytest.raises(ValueError, match="rows=0"):
        count_stages(MINI, rows=0)
    with pytest.raises(ValueError, match=r"at=\(0.5,\) must hold 2 share"):
        flops_of_run(count_stages(MINI), (0.5,))
