"""The maps seen through torch's attention against those that transformers writes out itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sbldlib.measure.attention import attention_maps, capture_attention

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peer

TOKENS = torch.tensor([[5, 6, 7, 8, 5, 9]])
LABELS = list("abcdef")


def gpt2(kind: str) -> nn.Module:
    config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=24, n_layer=3, n_head=4)
    config._attn_implementation = kind
    return transformers.GPT2LMHeadModel(config).eval()


def bert(kind: str) -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=8,
    )  # fmt: skip
    config._attn_implementation = kind
    return transformers.BertModel(config).eval()


def pair(make) -> tuple[nn.Module, nn.Module]:
    """The same weights twice: through torch's attention, and written out."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        written_out = make("eager")
    with torch.no_grad():  # drawn so small that all maps would be even
        for weight in written_out.parameters():
            weight.mul_(8 if weight.ndim == 2 else 1)
    through = make("sdpa")
    through.load_state_dict(copy.deepcopy(written_out.state_dict()))
    return through, written_out


@pytest.mark.parametrize("make", [gpt2, bert])
def test_maps_are_those_that_transformers_writes_out(make):
    through, written_out = pair(make)
    with torch.no_grad():
        expected = torch.cat(written_out(TOKENS, output_attentions=True).attentions)
        plain = through(TOKENS)[0]
        with capture_attention() as seen:
            watched = through(TOKENS)[0]
    maps = attention_maps(through, TOKENS, LABELS)
    assert maps.weights_LHTS.std() > 0.05, "maps that can be told apart"
    torch.testing.assert_close(maps.weights_LHTS, expected, atol=1e-5, rtol=1e-4)
    assert len(seen) == 3 and torch.equal(plain, watched)


def test_a_mask_of_padding_is_seen():
    through, written_out = pair(bert)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        out = written_out(TOKENS, attention_mask=mask, output_attentions=True)
    maps = attention_maps(through, TOKENS, LABELS, attention_mask=mask)
    torch.testing.assert_close(maps.weights_LHTS, torch.cat(out.attentions), atol=1e-5, rtol=1e-4)
    assert (maps.weights_LHTS[..., 4:] == 0).all()


def test_a_model_that_writes_its_attention_out_is_refused():
    with pytest.raises(ValueError, match="attn_implementation='sdpa'"):
        attention_maps(pair(gpt2)[1], TOKENS, LABELS)
