"""The weights that are seen are those that the output is made of, and bad maps are refused.

Legend: B batch, L layers, H heads, T tokens that look, S tokens looked at, E width of a head.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbldlib.dropping.skipping import skip_layers
from sbldlib.measure.attention import (
    AttentionMaps,
    attention_maps,
    capture_attention,
    translation_maps,
)
from sbldlib.models.encoder_decoder import EncoderDecoder
from sbldlib.models.gpt import GPT

B, H, T, S, E = 2, 3, 4, 5, 6
ADDED = torch.zeros(T, S).index_fill(1, torch.tensor([1]), -math.inf)
NOTHING = torch.ones(B, 1, T, S, dtype=torch.bool)
NOTHING[0, 0, 2] = False
CALLS = {
    "plain": {},
    "scale": {"scale": 0.7},
    "causal": {"is_causal": True},
    "booleans": {"attn_mask": torch.ones(T, S, dtype=torch.bool).tril(1)},
    "added": {"attn_mask": ADDED},
    "a row that looks nowhere": {"attn_mask": NOTHING},
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CALLS)
def test_the_weights_times_the_values_are_the_output(name):
    query, key, value = drawn(B, H, T, E), drawn(B, H, S, E, seed=1), drawn(B, H, S, E, seed=2)
    plain = F.scaled_dot_product_attention(query, key, value, **CALLS[name])
    with capture_attention() as seen:
        watched = F.scaled_dot_product_attention(query, key, value, **CALLS[name])
    assert torch.equal(plain, watched), "watching changes nothing"
    (weights,) = seen
    assert weights.shape == (B, H, T, S) and not weights.isnan().any()
    torch.testing.assert_close(weights @ value, plain, atol=1e-5, rtol=1e-5)


def test_a_row_that_may_look_nowhere_is_zero():
    with capture_attention() as seen:
        F.scaled_dot_product_attention(
            *[drawn(B, H, S, E)] * 3, attn_mask=torch.zeros(1, 1, dtype=torch.bool)
        )
    assert (seen[0] == 0).all()


def test_heads_that_share_keys_are_each_seen():
    query, key = drawn(B, 4, T, E), drawn(B, 2, T, E, seed=1)
    with capture_attention() as seen:
        output = F.scaled_dot_product_attention(query, key, key, enable_gqa=True)
    torch.testing.assert_close(seen[0] @ key.repeat_interleave(2, 1), output, atol=1e-5, rtol=1e-5)


def test_gradients_flow_as_without_it_and_the_weights_carry_none():
    query = drawn(B, H, T, E).requires_grad_()
    with capture_attention() as seen:
        F.scaled_dot_product_attention(query, query, query, is_causal=True).sum().backward()
    assert query.grad is not None and query.grad.norm() > 0
    assert not seen[0].requires_grad


@pytest.mark.parametrize("is_asked", [True, False])
def test_torchs_own_module_is_seen_once_a_call(is_asked):
    with torch.random.fork_rng():
        module = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    x_BTD = drawn(B, T, 12)
    plain, expected = module(x_BTD, x_BTD, x_BTD, average_attn_weights=False)
    with capture_attention() as seen:
        output, _ = module(x_BTD, x_BTD, x_BTD, need_weights=is_asked)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], expected.detach(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output, plain, atol=1e-6, rtol=1e-5)


def test_nothing_is_seen_after_it():
    with capture_attention() as seen:
        pass
    F.scaled_dot_product_attention(*[drawn(B, H, T, E)] * 3)
    assert seen == []


def test_a_gpts_maps_are_causal_and_one_a_layer_and_head():
    model = GPT.from_preset("tiny", num_layers=3, num_heads=2, width=16, seed=1)
    tokens = torch.tensor([[5, 6, 7, 5]])
    maps = attention_maps(model.train(), tokens, ["a", "b", "c", "a"])
    assert model.training
    assert (maps.num_layers, maps.num_heads) == (3, 2) and maps.queries == maps.keys
    assert (maps.weights_LHTS.triu(1) == 0).all()
    assert torch.allclose(maps.weights_LHTS.sum(-1), torch.ones(3, 2, 4))
    with skip_layers(model, {1}):
        shorter = attention_maps(model, tokens, ["a", "b", "c", "a"])
    assert shorter.num_layers == 2


def translation() -> tuple[EncoderDecoder, Tensor, Tensor]:
    model = EncoderDecoder.from_preset("tiny", vocabulary_size=9, width=16, num_decoder_layers=3)
    return model, torch.tensor([[3, 4, 5, 2]]), torch.tensor([[1, 6, 7]])


def test_a_translations_three_maps_are_the_models_own():
    model, source, read = translation()
    words = {"source": list("wxyz"), "read": list("abc"), "written": list("bcd")}
    maps = translation_maps(model, source, read, **words)
    expected = model.attention_weights(source, read)
    assert list(maps) == ["encoder", "decoder", "cross"]
    assert maps["cross"].queries == ("b", "c", "d") and maps["cross"].keys == tuple("wxyz")
    assert maps["decoder"].queries == maps["decoder"].keys == ("a", "b", "c")
    for name, found in maps.items():
        assert torch.equal(found.weights_LHTS, torch.cat(getattr(expected, name)))
    with capture_attention() as seen, torch.no_grad():
        model.eval()(source, read)
    for layer, weights in enumerate(seen[3::2]):  # the decoder's own and cross in turn
        torch.testing.assert_close(weights[0], maps["cross"].weights_LHTS[layer])
    with (
        skip_layers(model, {3}),
        pytest.raises(ValueError, match=r"decoder: layers \[1\] are skip"),
    ):
        translation_maps(model, source, read, **words)


def test_the_strongest_links_come_first():
    weights = torch.tensor([[[[0.9, 0.1], [0.3, 0.7]]]])
    maps = AttentionMaps(weights_LHTS=weights, queries=("p", "q"), keys=("r", "s"))
    assert [link[:2] for link in maps.strongest(0, 0)] == [(0, 0), (1, 1), (1, 0)]
    assert maps.strongest(0, 0, 1, num=1) == ((1, 1, pytest.approx(0.7)),)
    for field, given in (("layer", (1, 0)), ("head", (0, 1)), ("query", (0, 0, 2))):
        with pytest.raises(ValueError, match=f"{field}="):
            maps.strongest(*given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights_LHTS": [0.5]}, "must be a tensor of weights"),
        ({"weights_LHTS": torch.full((1, 2, 2), 0.5)}, r"shape \(1, 2, 2\) must be \[layers, head"),
        ({"keys": ("r", "s", "t")}, "there are 2 queries and 3 keys"),
        ({"queries": ("p", 7)}, "queries=7 must be text"),
        ({"queries": "pq"}, "queries='pq' must be a list"),
        ({"weights_LHTS": torch.full((1, 1, 2, 2), 0.4)}, "rows sum to 0.8 to 0.8"),
        ({"weights_LHTS": torch.tensor([[[[1.5, -0.5], [1, 0]]]])}, "from -0.5 to 1.5"),
        ({"weights_LHTS": torch.full((1, 1, 2, 2), math.nan)}, "from nan to nan"),
    ],
)
def test_maps_are_checked_at_the_door(change, message):
    right = {"weights_LHTS": torch.full((1, 1, 2, 2), 0.5), "queries": ["p", "q"]}
    AttentionMaps(**right, keys=("r", "s"))
    with pytest.raises(ValueError, match=message):
        AttentionMaps(**{**right, "keys": ("r", "s"), **change})


def test_what_cannot_be_mapped_is_said():
    model = GPT.from_preset("tiny", num_layers=1, width=16, num_heads=2)
    for tokens in (torch.tensor([1, 2]), torch.tensor([[1], [2]])):
        with pytest.raises(ValueError, match="one sentence"):
            attention_maps(model, tokens, ["a", "b"])
    with pytest.raises(ValueError, match="there are 1 queries and 1 keys"):
        attention_maps(model, torch.tensor([[1, 2]]), ["a"])
    with pytest.raises(ValueError, match="no attention that can be seen"):
        attention_maps(nn.Embedding(3, 2), torch.tensor([[1]]), ["a"])
    with pytest.raises(ValueError, match=r"exceeds? context_length"):
        attention_maps(model, torch.zeros(1, 9999, dtype=torch.int64), ["a"] * 9999)
