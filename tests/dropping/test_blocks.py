"""Residual blocks are found by their shape: which modules, in which order, and what is refused."""

from __future__ import annotations

import pytest
import torch
from dropping.toys import Block, D, Stack, Widening, stack
from small import gpt
from torch import Tensor, nn

from sbldlib.dropping.blocks import BlockEntry, NoBlocksError, find_blocks


def names(model: nn.Module, **settings) -> list[str]:
    return [block.name for block in find_blocks(model, **settings)]


class Expert(nn.Module):
    """Looks like a block: a norm and two matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(D), nn.Linear(D, D), nn.Linear(D, D)


class ExpertBlock(nn.Module):
    """Attention, and a list of experts of which each looks like a block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.attention = nn.MultiheadAttention(D, 2)
        self.router = nn.Linear(D, 3)
        self.experts = nn.ModuleList(Expert() for _ in range(3))


class Stage(nn.Module):
    """Blocks and a downsampling of one norm and one matrix, as in Swin."""

    def __init__(self, *, downsamples: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(4 * D) if downsamples else nn.Identity()
        self.reduction = nn.Linear(4 * D, 2 * D) if downsamples else nn.Identity()


class BiasBlock(Block):
    """As T5's: the first one of a stack computes a bias that the others are given."""

    def __init__(self, *, has_bias: bool) -> None:
        super().__init__()
        if has_bias:
            self.relative_attention_bias = nn.Embedding(4, 2)

    def forward(self, x_BTD: Tensor, position_bias: Tensor | None = None):
        return x_BTD, position_bias


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = stack(2)
        self.decoder = stack(3)


def test_a_gpts_blocks_in_layer_order():
    model = gpt(num_layers=12)
    blocks = find_blocks(model)
    assert [block.name for block in blocks] == [f"blocks.{layer}" for layer in range(12)]
    assert [block.module for block in blocks] == list(model.blocks)


def test_an_entrys_name_leads_to_its_module():
    model = EncoderDecoder()
    for block in find_blocks(model):
        assert model.get_submodule(block.name) is block.module


def test_torchs_encoder_and_decoder_layers_are_blocks():
    model = nn.Transformer(D, 2, 2, 3, dim_feedforward=D, batch_first=True)
    encoder = ["encoder.layers.0", "encoder.layers.1"]
    decoder = ["decoder.layers.0", "decoder.layers.1", "decoder.layers.2"]
    assert names(model) == encoder + decoder
    assert names(model, within="decoder") == decoder


@pytest.mark.parametrize("container", [nn.ModuleList, lambda blocks: nn.Sequential(*blocks)])
def test_the_model_itself_may_be_the_list(container):
    assert names(container([Block(), Block()])) == ["0", "1"]


def test_blocks_that_are_sequentials_are_found():
    def block():
        return nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D), nn.GELU(), nn.Linear(D, D))

    assert names(nn.Sequential(nn.Linear(D, D), nn.Sequential(block(), block()))) == ["1.0", "1.1"]


def test_experts_inside_a_block_are_no_blocks_even_where_they_look_like_one():
    model = nn.ModuleDict({"layers": nn.ModuleList(ExpertBlock() for _ in range(2))})
    assert names(model) == ["layers.0", "layers.1"]


def test_blocks_of_stages_are_blocks_and_stages_are_not():
    stages = nn.ModuleList([Stage(downsamples=True), Stage(downsamples=False)])
    expected = ["0.blocks.0", "0.blocks.1", "1.blocks.0", "1.blocks.1"]
    assert names(stages) == expected


def test_lists_of_lists_of_blocks():
    groups = nn.ModuleList([nn.ModuleList([Block(), Block()]), nn.ModuleList([Block()])])
    assert names(groups) == ["0.0", "0.1", "1.0"]


def test_a_list_of_parts_that_is_never_called_is_no_block():
    """Some models keep a block's parts in a ModuleList and call these: no call could be skipped."""
    layers = nn.ModuleList(
        nn.ModuleList([nn.LayerNorm(D), nn.Linear(D, D), nn.Linear(D, D, bias=False)])
        for _ in range(3)
    )
    with pytest.raises(NoBlocksError, match=r"\(the model\): 3 x ModuleList"):
        find_blocks(layers)


@pytest.mark.parametrize("within, expected", [("", 5), ("encoder", 2), ("decoder.blocks", 3)])
def test_within_names_a_part(within, expected):
    found = names(EncoderDecoder(), within=within)
    assert len(found) == expected
    assert all(name.startswith(within) for name in found)


@pytest.mark.parametrize("within", ["encodr", "encoder.blocks.7", "."])
def test_within_that_is_no_part_is_quoted(within):
    with pytest.raises(ValueError, match=f"within='{within}' names no part of EncoderDecoder"):
        find_blocks(EncoderDecoder(), within=within)


@pytest.mark.parametrize(
    "model, seen",
    [
        (nn.Linear(D, D), "Linear has 0 residual.*no ModuleList or Sequential"),
        (nn.Sequential(nn.Linear(D, D), nn.Linear(D, D)), "2 x Linear"),
        (stack(1), "Stack has 1 residual.*blocks: 1 x Block"),
        (nn.LSTM(D, D, num_layers=3), "LSTM has 0"),
    ],
)
def test_a_model_without_blocks_is_told_what_was_looked_at(model, seen):
    with pytest.raises(NoBlocksError, match=seen):
        find_blocks(model)


def test_norm_or_matrix_alone_is_no_block():
    layers = nn.ModuleList(nn.TransformerEncoderLayer(D, 2, D) for _ in range(2))
    assert len(find_blocks(layers)) == 2
    for layer in layers:
        layer.norm1, layer.norm2 = nn.Identity(), nn.Identity()
    with pytest.raises(NoBlocksError):
        find_blocks(layers)
    one_matrix = nn.ModuleList(nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D)) for _ in range(2))
    with pytest.raises(NoBlocksError):
        find_blocks(one_matrix)


def test_a_list_of_several_classes_is_no_stack():
    with pytest.raises(NoBlocksError, match="one class"):
        find_blocks(Stack(Block(), Widening()))


def test_one_block_at_several_places_is_refused_wherever_it_stands_again():
    shared = Block()
    for model in (Stack(shared, shared, shared), Stack(shared, Block(), shared)):
        with pytest.raises(NoBlocksError, match="several places"):
            find_blocks(model)
    two_lists = EncoderDecoder()
    two_lists.decoder.blocks[1] = two_lists.encoder.blocks[0]
    with pytest.raises(NoBlocksError, match="several places"):
        find_blocks(two_lists)


def test_a_list_that_has_two_names_is_one_list():
    model = stack(3)
    model.alias = model.blocks
    assert names(model) == ["blocks.0", "blocks.1", "blocks.2"]


def test_blocks_that_share_a_bias_are_refused_with_the_reason():
    model = Stack(BiasBlock(has_bias=True), BiasBlock(has_bias=False))
    with pytest.raises(NoBlocksError, match=r"share state.*first BiasBlock.*position_bias.*T5"):
        find_blocks(model)


def test_a_bias_that_each_block_computes_for_itself_is_no_shared_state():
    assert len(find_blocks(Stack(BiasBlock(has_bias=True), BiasBlock(has_bias=True)))) == 2
    assert len(find_blocks(Stack(BiasBlock(has_bias=False), BiasBlock(has_bias=False)))) == 2


def test_finding_changes_nothing():
    model = stack()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert find_blocks(model) == find_blocks(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(type(block) is Block for block in model.blocks)


def test_an_entry_is_frozen():
    entry = BlockEntry(name="a", module=nn.Identity())
    with pytest.raises(AttributeError):
        entry.name = "b"
