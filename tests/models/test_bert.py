from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sbldlib.dropping.blocks import find_blocks
from sbldlib.dropping.skipping import skip_layers
from sbldlib.models.bert import PRESETS, Bert, BertBlock, BertConfig, BertOutput

SMALL = BertConfig(
    vocabulary_size=40,
    context_length=12,
    num_layers=3,
    num_heads=2,
    width=8,
    init_std=0.3,
    padding=36,
    classifier=37,
    separator=38,
    mask=39,
)


def rows(num: int = 3, seed: int = 0) -> torch.Tensor:
    tokens_BT = torch.randint(0, 36, (num, 12), generator=torch.Generator().manual_seed(seed))
    tokens_BT[:, 0] = 37
    return tokens_BT


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_output_has_one_row_a_token_and_one_judgement_a_pair(norm):
    model = Bert(replace(SMALL, norm=norm), seed=1)
    output = model(rows())
    assert isinstance(output, BertOutput)
    assert output.hidden_BTD.shape == (3, 12, 8) and output.pooled_BD.shape == (3, 8)
    assert output.masked_logits_BTV.shape == (3, 12, 40)
    assert output.next_sentence_logits_B2.shape == (3, 2)
    assert output.pooled_BD.abs().max() < 1


def test_every_token_depends_on_both_sides():
    model = Bert(SMALL).eval()
    before = model.encode(rows(1))
    for changed in (2, 9):
        tokens_BT = rows(1)
        tokens_BT[0, changed] = (tokens_BT[0, changed] + 1) % 36
        moved = (model.encode(tokens_BT) - before).abs().amax(-1)[0]
        assert (moved > 1e-6).all()


@settings(max_examples=25, deadline=None)
@given(length=st.integers(2, 11), seed=st.integers(0, 1000), norm=st.sampled_from(["post", "pre"]))
def test_padding_is_looked_at_by_no_token(length, seed, norm):
    model = Bert(replace(SMALL, norm=norm)).eval()
    tokens_BT = rows(2, seed)
    mask_BT = (torch.arange(12) < length).expand(2, 12)
    found = model(tokens_BT, mask_BT=mask_BT)
    other = tokens_BT.clone()
    other[:, length:] = (other[:, length:] + 7) % 36
    again = model(other, mask_BT=mask_BT)
    assert torch.equal(found.hidden_BTD[:, :length], again.hidden_BTD[:, :length])
    assert torch.equal(found.next_sentence_logits_B2, again.next_sentence_logits_B2)
    alone = model(tokens_BT[:, :length])
    assert torch.allclose(found.hidden_BTD[:, :length], alone.hidden_BTD, atol=1e-5)


def test_padding_tokens_do_not_count_without_a_mask():
    model = Bert(SMALL).eval()
    tokens_BT = rows()
    tokens_BT[:, 8:] = SMALL.padding
    given_mask = model.encode(tokens_BT, mask_BT=tokens_BT != SMALL.padding)
    assert torch.equal(model.encode(tokens_BT), given_mask)


def test_segments_and_positions_count():
    model = Bert(SMALL).eval()
    tokens_BT = torch.full((1, 6), 5)
    segments_BT = torch.tensor([[0, 0, 0, 1, 1, 1]])
    assert not torch.allclose(model.encode(tokens_BT), model.encode(tokens_BT, segments_BT))
    hidden_TD = model.encode(tokens_BT)[0]
    assert not torch.allclose(hidden_TD[1], hidden_TD[4])


def test_blocks_are_found_and_skipped():
    model = Bert(SMALL).eval()
    entries = find_blocks(model)
    assert [entry.name for entry in entries] == ["blocks.0", "blocks.1", "blocks.2"]
    assert all(isinstance(entry.module, BertBlock) for entry in entries)
    shallow = Bert(replace(SMALL, num_layers=2)).eval()
    weights = {n: w for n, w in model.state_dict().items() if not n.startswith("blocks.2.")}
    shallow.load_state_dict(weights)
    with skip_layers(model, {2}):
        assert torch.equal(model.encode(rows()), shallow.encode(rows()))


def test_the_decoder_is_tied_to_the_embedding():
    model = Bert(SMALL)
    hidden_D = torch.randn(8, generator=torch.Generator().manual_seed(0))
    before_V = model.masked_logits(hidden_D)
    with torch.no_grad():
        model.token_embedding.weight[7] += 1
    after_V = model.masked_logits(hidden_D)
    changed = (before_V != after_V).nonzero().flatten().tolist()
    assert changed == [7] and before_V.shape == (40,)


def test_weights_are_a_function_of_the_seed_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = Bert(SMALL, seed=3), Bert(SMALL, seed=3), Bert(SMALL, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name]), name
    assert not torch.equal(one.token_embedding.weight, other.token_embedding.weight)
    assert abs(float(one.token_embedding.weight.detach().std()) - 0.3) < 0.05
    assert not one.masked_bias.any() and not one.pooler.bias.any()


@pytest.mark.parametrize(
    ("name", "layers", "width", "published"),
    [("bert-base", 12, 768, 110e6), ("bert-large", 24, 1024, 340e6)],
)
def test_published_sizes(name, layers, width, published):
    assert PRESETS[name].num_layers == layers and PRESETS[name].width == width
    with torch.device("meta"):
        counted = Bert.from_preset(name).num_parameters()
    assert abs(counted / published - 1) < 0.015


def test_parameters_are_counted_once():
    D, V, T = SMALL.width, SMALL.vocabulary_size, SMALL.context_length
    embeddings = (V + T + 2) * D
    block = 12 * D * D + 13 * D
    heads = (D * D + D) + (D * D + 3 * D + V) + (2 * D + 2)
    model = Bert(SMALL)
    assert model.num_parameters() == embeddings + 2 * D + 3 * block + heads
    assert model.num_parameters(embeddings=False) == model.num_parameters() - embeddings


def test_save_and_load(tmp_path):
    model = Bert(replace(SMALL, norm="pre"), seed=2).eval()
    again = Bert.load(model.save(tmp_path / "bert")).eval()
    assert again.config == model.config
    assert torch.equal(again(rows()).masked_logits_BTV, model(rows()).masked_logits_BTV)


def test_a_folder_of_another_model_is_refused(tmp_path):
    from sbldlib.models.gpt import GPT

    GPT.from_preset("tiny", width=8, num_heads=2).save(tmp_path)
    with pytest.raises(ValueError, match="missing or unknown"):
        Bert.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 9}, "width=9 must be a multiple of num_heads=2"),
        ({"padding": 40}, r"padding=40 is outside the vocabulary's 0\.\.39"),
        ({"mask": 38}, "must be different tokens"),
        ({"norm": "middle"}, "norm='middle' is not known"),
        ({"norm_epsilon": 0}, "norm_epsilon=0 is outside"),
        ({"dropout": 1.0}, "dropout=1.0 is outside"),
        ({"num_segments": 0}, "num_segments=0 must be at least 1"),
        ({"context_length": 2**30}, "context_length=1073741824 must be at most"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(1, 13, dtype=torch.int64),), "13 tokens exceed context_length=12"),
        ((torch.zeros(3, dtype=torch.int64),), r"shape \(3,\) must be \[batch, tokens\]"),
        ((torch.zeros(2, 0, dtype=torch.int64),), "at least one each"),
        ((torch.full((1, 3), 40),), "token 40 is outside vocabulary_size=40"),
        ((torch.full((1, 3), -1),), "token -1 is outside"),
        ((rows(), rows()[:, :5]), r"segments_BT of shape \(3, 5\)"),
        ((rows(), torch.full((3, 12), 2)), "segment 2 is outside num_segments=2"),
        ((rows(), None, torch.ones(3, 11, dtype=torch.bool)), r"mask_BT of shape \(3, 11\)"),
        ((rows(), None, torch.ones(12, dtype=torch.bool)), r"mask_BT of shape \(12,\)"),
        ((rows(), None, torch.ones(3, 12)), "mask_BT of type torch.float32 must be torch.bool"),
    ],
)
def test_bad_inputs(arguments, message):
    with pytest.raises(ValueError, match=message):
        Bert(SMALL)(*arguments)


def test_bad_presets():
    with pytest.raises(ValueError, match="did you mean 'bert-base'"):
        Bert.from_preset("bert-bas")
    with pytest.raises(ValueError, match="did you mean 'num_layers'"):
        Bert.from_preset("tiny", num_layer=2)
    with pytest.raises(ValueError, match="config=7 must be a BertConfig"):
        Bert(7)
