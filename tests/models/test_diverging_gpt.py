"""DivergingGPT: shared blocks, growing without a change of function, low rank, skipping, files."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from small import Source, same_weights, weights
from torch.nn.utils import parametrize

from sbldlib.dropping.blocks import find_blocks
from sbldlib.dropping.skipping import skip_layers
from sbldlib.models.diverging_gpt import PRESETS, DivergingGPT, DivergingGPTConfig, LowRank
from sbldlib.models.gpt import GPT
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

MINI = DivergingGPTConfig(
    vocabulary_size=32,
    context_length=8,
    num_layers=4,
    num_heads=2,
    width=16,
    init_std=0.3,
    stages=(1, 2, 4),
    rank=2,
)
TOKENS_BT = Source().batch(0)[0]


def trained(model: DivergingGPT, steps: int = 5) -> DivergingGPT:
    config = TrainConfig(budget=Budget(steps=steps))
    train(model, Source(), make_optimizer(model, learning_rate=1e-2), config=config)
    return model


def first_part(model: DivergingGPT, layer: int) -> int:
    return id(model.blocks[layer].mlp)


def test_the_source_s_stages():
    config = PRESETS["small"]
    assert (config.stages, config.num_layers, config.num_heads, config.width) == (
        (3, 6, 12), 12, 6, 192,
    )  # fmt: skip
    assert config.leaders == (0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8)
    assert replace(config, stage=1).leaders == (0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10)
    assert replace(config, stage=2).leaders == tuple(range(12))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_has_as_many_different_blocks_as_its_stage_says(stage):
    model = DivergingGPT(replace(MINI, stage=stage, rank=0))
    assert len({first_part(model, layer) for layer in range(4)}) == MINI.stages[stage]
    assert len({id(block) for block in model.blocks}) == 4
    one_block = sum(
        p.numel() for p in GPT.from_preset("tiny", width=16, num_heads=2).blocks[0].parameters()
    )
    others = (32 + 8) * 16 + 2 * 16
    assert model.num_parameters() == others + MINI.stages[stage] * one_block


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("freeze", [True, False])
def test_growing_changes_no_output(rank, freeze):
    model = trained(DivergingGPT(replace(MINI, rank=rank, freeze_attention=freeze)))
    for stage in (1, 2):
        before = model(TOKENS_BT)
        model.grow()
        assert model.stage == stage
        torch.testing.assert_close(model(TOKENS_BT), before, atol=1e-5, rtol=1e-5)
        trained(model)
        assert not torch.allclose(model(TOKENS_BT), before, atol=1e-2)


def test_copies_diverge():
    model = DivergingGPT(replace(MINI, stages=(1, 4)))
    origin = model.grow()
    blocks = [weights(block) for block in model.blocks]
    assert all(torch.equal(blocks[0][name], blocks[3][name]) for name in blocks[0])
    assert len(origin) == 3 * len(list(model.blocks[0].parameters()))
    assert all(torch.equal(new, old) and new is not old for new, old in origin.items())
    trained(model)
    after = [weights(block) for block in model.blocks]
    assert not any(
        torch.equal(after[0][name], after[3][name]) for name in after[0] if "weight" in name
    )


def test_between_the_ends_attention_stands_still_and_its_change_learns():
    model = DivergingGPT(replace(MINI, stage=1))
    attention = model.blocks[2].attention.query_key_value
    original, start = attention.parametrizations.weight.original, attention.weight.detach().clone()
    before, mlp = original.detach().clone(), model.blocks[2].mlp.hidden.weight.detach().clone()
    trained(model)
    assert torch.equal(original, before) and not torch.equal(attention.weight, start)
    assert not torch.equal(model.blocks[2].mlp.hidden.weight, mlp)
    change = attention.weight.detach() - before
    assert int(torch.linalg.matrix_rank(change)) <= MINI.rank
    merged = attention.weight.detach().clone()
    model.grow()
    assert not parametrize.is_parametrized(model.blocks[2].attention.query_key_value)
    torch.testing.assert_close(model.blocks[2].attention.query_key_value.weight, merged)
    assert all(weight.requires_grad for weight in model.parameters())


def test_a_low_rank_change_is_the_matrix_and_the_product():
    weight = torch.linspace(-1, 1, 15).view(3, 5)
    change = LowRank(weight, 2, torch.Generator().manual_seed(0))
    assert torch.equal(change(weight), weight)
    with torch.no_grad():
        change.up.copy_(torch.arange(6.0).view(3, 2))
    torch.testing.assert_close(change(weight), weight + change.up @ change.down)


def test_a_shared_block_is_skipped_at_one_place_alone():
    model = DivergingGPT(MINI)
    assert len(find_blocks(model)) == 4
    ran = []
    model.blocks[0].mlp.register_forward_hook(lambda *call: ran.append(1))
    with skip_layers(model, {1, 3}):
        model(TOKENS_BT)
    assert len(ran) == 2, "its one MLP ran at two of four places"


def test_stacking_runs_more_layers_at_each_stage_and_copies_them():
    model = DivergingGPT(replace(MINI, growth="stack", rank=0, freeze_attention=False))
    for stage, running in enumerate((1, 2, 4)):
        assert (model.stage, len(model.running_blocks)) == (stage, running)
        trained(model, 3)
        if stage < 2:
            model.grow()
            pairs = zip(model.blocks[:running], model.blocks[running : 2 * running], strict=True)
            assert all(same_weights(old, weights(new)) for old, new in pairs)
            assert first_part(model, 0) != first_part(model, running)


def test_the_same_seed_makes_the_same_weights_at_every_stage():
    first, again = DivergingGPT(MINI, 7), DivergingGPT(MINI, 7)
    for _ in range(2):
        first.grow(), again.grow()
        assert same_weights(first, weights(again))


def test_growing_beyond_the_last_stage_is_refused():
    model = DivergingGPT(replace(MINI, stage=2))
    with pytest.raises(ValueError, match=r"stage=2 of stages=\(1, 2, 4\) is the last one"):
        model.grow()


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_saved_and_loaded_it_is_the_same_and_grows_on(tmp_path, stage):
    model = trained(DivergingGPT(replace(MINI, stage=stage)))
    again = DivergingGPT.load(model.save(tmp_path))
    assert again.config == model.config
    assert torch.equal(again(TOKENS_BT), model(TOKENS_BT))
    sharing = [first_part(again, layer) == first_part(again, 0) for layer in range(4)]
    assert sharing == [first_part(model, layer) == first_part(model, 0) for layer in range(4)]
    if stage < 2:
        again.grow()
        torch.testing.assert_close(again(TOKENS_BT), model(TOKENS_BT), atol=1e-5, rtol=1e-5)


def test_a_deep_copy_shares_among_itself_alone():
    model = DivergingGPT(MINI)
    other = copy.deepcopy(model)
    assert first_part(other, 0) == first_part(other, 3) != first_part(model, 0)


def test_a_deep_copy_and_its_model_grow_each_by_itself():
    model = trained(DivergingGPT(replace(MINI, stage=1)))
    other, before = copy.deepcopy(model), model(TOKENS_BT)
    model.grow()
    for one in (model, other):
        torch.testing.assert_close(one(TOKENS_BT), before, atol=1e-5, rtol=1e-5)
    other.grow()
    assert same_weights(other, weights(model))


@pytest.mark.parametrize("stage", [0, 1])
def test_generates_with_a_cache_as_without(stage):
    model = DivergingGPT(replace(MINI, stage=stage, growth="stack", rank=0))
    written = model.generate(TOKENS_BT[:, :3], 4, temperature=0)
    again = model.generate(TOKENS_BT[:, :3], 4, temperature=0, use_cache=False)
    assert torch.equal(written, again)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": (3, 4)}, r"stages=\(3, 4\) must grow, each dividing the next"),
        ({"stages": (1, 2)}, "up to num_layers=4"),
        ({"stages": (2, 2, 4)}, "must grow"),
        ({"stages": ()}, "must grow"),
        ({"stages": (0, 4)}, "stages=0"),
        ({"growth": "stacking"}, "growth='stacking'.*stack"),
        ({"rank": -1}, "rank=-1"),
        ({"freeze_attention": 2}, "freeze_attention=2"),
        ({"stage": 3}, "stage=3"),
    ],
)
def test_a_bad_configuration_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(MINI, **changes)
