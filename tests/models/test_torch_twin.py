"""torch's modules with our weights say what ours say, and making them draws nothing.

Legend: B batch, S source tokens, T target tokens, D width.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sbldlib.models.encoder_decoder import EncoderDecoder
from sbldlib.models.from_scratch import (
    DecoderBlock,
    EncoderBlock,
    FeedForward,
    LayerNorm,
    MultiHeadAttention,
    causal_mask,
)
from sbldlib.models.torch_twin import torch_twin

B, S, T, D, H = 3, 7, 5, 12, 3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shaken(module: nn.Module) -> nn.Module:
    """Biases and norms too must be told apart from their first values."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.empty_like(weight).normal_(0, 0.3, generator=generator))
    return module


def alike(ours: Tensor, theirs: Tensor) -> None:
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_norm_and_its_epsilon():
    module = shaken(LayerNorm(D, epsilon=0.1))
    alike(module(drawn(B, T, D)), torch_twin(module)(drawn(B, T, D)))


def test_attention_with_and_without_a_mask():
    module = shaken(MultiHeadAttention(D, H, torch.Generator().manual_seed(0)))
    twin, x, seen = torch_twin(module), drawn(B, T, D), drawn(B, S, D, seed=1)
    alike(module(x, seen)[0], twin(x, seen, seen)[0])
    mask = causal_mask(T)
    ours, weights = module(x, x, mask)
    theirs = twin(x, x, x, attn_mask=~mask, average_attn_weights=False)
    alike(ours, theirs[0])
    alike(weights, theirs[1])


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_blocks(norm):
    generator = torch.Generator().manual_seed(0)
    encoder = shaken(EncoderBlock(D, H, 20, generator, norm))
    decoder = shaken(DecoderBlock(D, H, 20, generator, norm))
    x, memory = drawn(B, T, D), drawn(B, S, D, seed=1)
    alike(encoder(x), torch_twin(encoder)(x))
    theirs = torch_twin(decoder)(x, memory, tgt_mask=~causal_mask(T))
    alike(decoder(x, memory), theirs)


@pytest.mark.parametrize(
    "changes", [{"norm": "post"}, {"norm": "pre"}, {"bias": False}, {"activation": "gelu"}]
)
def test_a_whole_model_with_padding(changes):
    sizes = {"vocabulary_size": 11, "width": D, "num_heads": H, "num_decoder_layers": 3}
    model = shaken(EncoderDecoder.from_preset("tiny", **sizes, **changes))
    source = torch.tensor([[3, 4, 5, 2], [6, 2, 0, 0]])
    read = torch.tensor([[1, 7, 8], [1, 9, 0]])
    alike(model(source, read), torch_twin(model)(source, read))


def test_the_weights_are_a_copy_and_nothing_is_drawn():
    module = MultiHeadAttention(D, H, torch.Generator().manual_seed(0))
    before = torch.random.get_rng_state()
    twin = torch_twin(module)
    torch_twin(EncoderDecoder.from_preset("tiny"))
    assert torch.equal(torch.random.get_rng_state(), before) and not twin.training
    with torch.no_grad():
        module.output.weight.zero_()
    assert twin.out_proj.weight.abs().sum() > 0


def test_what_has_no_twin_is_refused():
    with pytest.raises(ValueError, match="has no twin; LayerNorm, MultiHead"):
        torch_twin(FeedForward(D, 20, torch.Generator()))
