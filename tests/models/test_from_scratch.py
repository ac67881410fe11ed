"""The parts written out: equal to torch.nn's own on copied weights, to 1e-5."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sbldlib.dropping.blocks import find_blocks
from sbldlib.models.from_scratch import (
    DecoderBlock,
    EncoderBlock,
    FeedForward,
    LayerNorm,
    Linear,
    MultiHeadAttention,
    causal_mask,
    scaled_dot_product_attention,
    sinusoidal_positions,
    softmax,
)

SIZE = st.integers(1, 5)
SEED = st.integers(0, 2**32)
NORMS = ("post", "pre")
B, T, S, D, H, HIDDEN = 3, 5, 7, 12, 3, 20


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).normal_(generator=generator(seed))


def padding(num_tokens: int = S) -> Tensor:
    """True where a token counts, [B, S]: rows of different lengths."""
    lengths_B1 = torch.tensor([[num_tokens], [num_tokens - 2], [1]])
    return torch.arange(num_tokens) < lengths_B1


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def shake(module: nn.Module) -> nn.Module:
    """Biases and norms, which start at 0 and 1, must be told apart too."""
    with torch.no_grad():
        for place, weight in enumerate(module.parameters()):
            if weight.ndim == 1:
                weight.add_(draw(*weight.shape, seed=place) * 0.3)
    return module


def torch_attention(ours: MultiHeadAttention) -> nn.MultiheadAttention:
    """torch's own module with the same weights."""
    with torch.random.fork_rng():
        theirs = nn.MultiheadAttention(D, H, batch_first=True)
    copy_attention(ours, theirs)
    return theirs


@torch.no_grad()
def copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    parts = ours.query, ours.key, ours.value
    assert theirs.in_proj_weight is not None
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


def torch_block(ours: EncoderBlock | DecoderBlock) -> nn.Module:
    """torch's own layer with the same weights."""
    is_decoder = isinstance(ours, DecoderBlock)
    kind = nn.TransformerDecoderLayer if is_decoder else nn.TransformerEncoderLayer
    with torch.random.fork_rng():
        theirs = kind(D, H, HIDDEN, 0.0, batch_first=True, norm_first=ours.norm == "pre")
    copy_attention(ours.attention, theirs.self_attn)
    if isinstance(ours, DecoderBlock):
        copy_attention(ours.cross_attention, theirs.multihead_attn)
        theirs.norm3.load_state_dict(ours.norm3.state_dict())
    theirs.linear1.load_state_dict(ours.feed_forward.hidden.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.output.state_dict())
    theirs.norm1.load_state_dict(ours.norm1.state_dict())
    theirs.norm2.load_state_dict(ours.norm2.state_dict())
    return theirs


def same_input_gradients(x: Tensor, ours: Tensor, theirs: Tensor) -> None:
    """Both outputs pull alike on what came in."""
    pull = draw(*ours.shape, seed=9)
    gradients = [torch.autograd.grad((y * pull).sum(), x)[0] for y in (ours, theirs)]
    assert gradients[0].norm() > 0.1
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


@given(SIZE, SIZE, SIZE, SIZE, SEED, st.booleans())
def test_attention_is_torchs(rows, heads, queries, keys, seed, masked):
    query, key, value = (
        draw(rows, heads, num, 4, seed=seed + i) for i, num in enumerate((queries, keys, keys))
    )
    mask = None
    if masked:
        mask = torch.rand(rows, 1, queries, keys, generator=generator(seed)) < 0.5
        mask[..., 0] = True
    ours, weights = scaled_dot_product_attention(query, key, value, mask)
    close(ours, F.scaled_dot_product_attention(query, key, value, attn_mask=mask))
    close(weights.sum(-1), torch.ones(rows, heads, queries))
    close(weights @ value, ours)
    assert mask is None or (weights.masked_select(~mask) == 0).all()


def test_attention_by_hand():
    query, key = torch.tensor([[[[2.0]]]]), torch.tensor([[[[0.0], [math.log(3) / 2]]]])
    value = torch.tensor([[[[4.0], [8.0]]]])
    output, weights = scaled_dot_product_attention(query, key, value)
    close(weights.flatten(), torch.tensor([0.25, 0.75]))
    assert output.item() == pytest.approx(7)


def test_a_query_that_may_look_nowhere_takes_nothing_and_learns_nothing():
    query = draw(1, 1, 2, 4).requires_grad_()
    mask = torch.tensor([[True, True], [False, False]])
    output, weights = scaled_dot_product_attention(query, draw(1, 1, 2, 4), draw(1, 1, 2, 4), mask)
    assert torch.equal(output[0, 0, 1], torch.zeros(4))
    assert torch.equal(weights[0, 0, 1], torch.zeros(2))
    output.sum().backward()
    assert torch.equal(query.grad[0, 0, 1], torch.zeros(4))
    assert query.grad[0, 0, 0].norm() > 0


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(2, 5, 6, dtype=torch.bool), r"mask of shape \(2, 5, 6\) .* \(1, 2, 5, 7\)"),
        (torch.ones(9, 1, 2, 5, 7, dtype=torch.bool), r"\(9, 1, 2, 5, 7\) must broadcast"),
        (torch.ones(3, 1, 5, 7, dtype=torch.bool), r"\(3, 1, 5, 7\) must broadcast"),
        (torch.ones(5, 7), "mask of type torch.float32 must be torch.bool"),
        ([[True]], "must be a tensor of booleans"),
    ],
)
def test_masks_that_do_not_fit(mask, words):
    with pytest.raises(ValueError, match=words):
        scaled_dot_product_attention(draw(1, 2, 5, 4), draw(1, 2, 7, 4), draw(1, 2, 7, 4), mask)


@given(SEED, st.floats(0.1, 1e4))
def test_softmax_is_torchs_at_any_size(seed, scale):
    scores = draw(3, 6, seed=seed) * scale
    close(softmax(scores), scores.softmax(-1))


def test_causal_mask():
    assert causal_mask(3).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_positions_are_the_papers():
    table = sinusoidal_positions(50, 16)
    for position in (0, 1, 17, 49):
        for i in range(8):
            angle = position / 10000 ** (2 * i / 16)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


@given(st.integers(1, 20), st.integers(0, 40), st.integers(0, 20))
def test_how_alike_two_positions_are_depends_on_their_distance_alone(half, first, distance):
    table = sinusoidal_positions(64, 2 * half)
    alike = table[first] @ table[first + distance]
    assert alike.item() == pytest.approx((table[0] @ table[distance]).item(), abs=1e-4)
    assert (table[first] @ table[first]).item() == pytest.approx(half, rel=1e-4)


def test_an_odd_width_has_one_cosine_less():
    assert torch.equal(sinusoidal_positions(4, 1), sinusoidal_positions(4, 2)[:, :1])
    assert sinusoidal_positions(4, 7).shape == (4, 7)


def test_linear_is_torchs():
    ours = shake(Linear(4, 6, generator()))
    theirs = nn.Linear(4, 6, device="meta").to_empty(device="cpu")
    theirs.load_state_dict(ours.state_dict())
    close(ours(draw(2, 3, 4)), theirs(draw(2, 3, 4)))


def test_feed_forward_by_hand():
    ours = FeedForward(1, 2, generator())
    with torch.no_grad():
        ours.hidden.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        ours.output.weight.copy_(torch.tensor([[10.0, 100.0]]))
    assert ours(torch.tensor([[[2.0], [-3.0]]])).flatten().tolist() == [20.0, 300.0]


@given(SEED, st.floats(1e-3, 100), st.floats(-10, 10))
def test_layer_norm_is_torchs(seed, scale, shift):
    ours, theirs = shake(LayerNorm(D)), nn.LayerNorm(D)
    theirs.load_state_dict(ours.state_dict())
    x = draw(2, 3, D, seed=seed)
    close(ours(x), theirs(x))
    # Where the mean is far above the spread, single precision rounds either of them.
    far = x.double() * scale + shift
    torch.testing.assert_close(ours.double()(far), theirs.double()(far), atol=1e-9, rtol=1e-7)


def test_layer_norm_of_equal_numbers_is_its_bias():
    ours = shake(LayerNorm(D))
    close(ours(torch.full((1, 1, D), 7.0))[0, 0], ours.bias)


@pytest.mark.parametrize("mask", ["none", "causal", "padding"])
def test_multi_head_self_attention_is_torchs(mask):
    ours = shake(MultiHeadAttention(D, H, generator(1)))
    theirs = torch_attention(ours)
    x = draw(B, T, D).requires_grad_()
    asked = {
        "none": (None, {}),
        "causal": (causal_mask(T), {"attn_mask": ~causal_mask(T)}),
        "padding": (padding(T)[:, None, None], {"key_padding_mask": ~padding(T)}),
    }
    mask_for_ours, told = asked[mask]
    output, weights = ours(x, x, mask_for_ours)
    expected, expected_weights = theirs(x, x, x, average_attn_weights=False, **told)
    close(output, expected)
    close(weights, expected_weights)
    same_input_gradients(x, output, expected)


def test_multi_head_cross_attention_is_torchs():
    ours = shake(MultiHeadAttention(D, H, generator(1)))
    theirs = torch_attention(ours)
    x, seen = draw(B, T, D), draw(B, S, D, seed=1)
    output, weights = ours(x, seen, padding()[:, None, None])
    expected, expected_weights = theirs(
        x, seen, seen, key_padding_mask=~padding(), average_attn_weights=False
    )
    assert weights.shape == (B, H, T, S)
    close(output, expected)
    close(weights, expected_weights)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("masked", [False, True])
def test_an_encoder_block_is_torchs(norm, masked):
    ours = EncoderBlock(D, H, HIDDEN, generator(2), norm)
    theirs = torch_block(shake(ours))
    x = draw(B, S, D).requires_grad_()
    output = ours(x, padding()[:, None, None] if masked else None)
    expected = theirs(x, src_key_padding_mask=~padding() if masked else None)
    close(output, expected)
    same_input_gradients(x, output, expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("masked", [False, True])
def test_a_decoder_block_is_torchs(norm, masked):
    ours = DecoderBlock(D, H, HIDDEN, generator(3), norm)
    theirs = torch_block(shake(ours))
    x, memory = draw(B, T, D).requires_grad_(), draw(B, S, D, seed=1)
    output = ours(x, memory, padding()[:, None, None] if masked else None)
    expected = theirs(
        x,
        memory,
        tgt_mask=~causal_mask(T),
        memory_key_padding_mask=~padding() if masked else None,
    )
    close(output, expected)
    same_input_gradients(x, output, expected)


@pytest.mark.parametrize("kind", [EncoderBlock, DecoderBlock])
def test_blocks_in_a_list_are_found(kind):
    model = nn.Module()
    model.blocks = nn.ModuleList(kind(D, H, HIDDEN, generator(i)) for i in range(3))
    assert [entry.name for entry in find_blocks(model)] == ["blocks.0", "blocks.1", "blocks.2"]


def test_weights_come_from_the_generator_and_nothing_else():
    before = torch.get_rng_state()
    one, two, other = (
        DecoderBlock(D, H, HIDDEN, generator(seed)).state_dict() for seed in (5, 5, 6)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["attention.query.weight"], other["attention.query.weight"])
    bound = math.sqrt(6 / (D + HIDDEN))
    hidden = one["feed_forward.hidden.weight"]
    assert 0.9 * bound < hidden.abs().max() <= bound


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MultiHeadAttention(10, 3, generator()), "width=10 must be a multiple of num_h"),
        (lambda: EncoderBlock(D, H, HIDDEN, generator(), "both"), "norm='both' is not known"),
        (lambda: LayerNorm(0), "width=0 must be at least 1"),
        (lambda: sinusoidal_positions(0, 4), "num_positions=0 must be at least 1"),
        (lambda: causal_mask(0), "num_tokens=0 must be at least 1"),
    ],
)
def test_sizes_that_cannot_be(make, words):
    with pytest.raises(ValueError, match=words):
        make()
