"""Our encoder-decoder against torch.nn.Transformer: same weights, same logits, same training.

Legend: B batch, S source tokens, T target tokens, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbldlib.models.beam import greedy_decode
from sbldlib.models.encoder_decoder import (
    EncoderDecoder,
    EncoderDecoderConfig,
    shift_right,
    translation_loss,
)

pytestmark = pytest.mark.peer

BASE = EncoderDecoderConfig(
    vocabulary_size=31,
    context_length=16,
    num_encoder_layers=3,
    num_decoder_layers=2,
    num_heads=3,
    width=24,
    hidden_width=40,
)
CONFIGS = {
    "post": replace(BASE, norm="post"),
    "pre": BASE,
    "gelu": replace(BASE, activation="gelu"),
    "no bias": replace(BASE, bias=False, norm="post"),
}
B, S, T = 4, 9, 6


class Peer(nn.Module):
    """torch.nn.Transformer between our embedding and head, which are not its business."""

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.config, config = model.config, model.config
        self.embedding = nn.Embedding.from_pretrained(model.embedding.weight.clone(), freeze=False)
        self.positions_TD = model.positions_TD
        with torch.random.fork_rng():
            self.transformer = build_transformer(config)
        copy_stack(model.encoder, self.transformer.encoder)
        copy_stack(model.decoder, self.transformer.decoder)

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        size = target_BT.shape[1]
        is_padding_BS = source_BS == self.config.padding
        x_BTD = self.transformer(
            self._embed(source_BS),
            self._embed(target_BT),
            tgt_mask=torch.ones(size, size, dtype=torch.bool).triu(1),
            src_key_padding_mask=is_padding_BS,
            memory_key_padding_mask=is_padding_BS,
        )
        return F.linear(x_BTD, self.embedding.weight)

    def _embed(self, tokens_BT: Tensor) -> Tensor:
        scaled_BTD = self.embedding(tokens_BT) * self.config.width**0.5
        return scaled_BTD + self.positions_TD[: tokens_BT.shape[1]]


def build_transformer(config: EncoderDecoderConfig) -> nn.Transformer:
    """torch's model of the same size; a last norm after pre-norm blocks alone, as in 2017."""
    is_pre_norm = config.norm == "pre"
    assert config.hidden_width is not None
    settings = {
        "d_model": config.width,
        "nhead": config.num_heads,
        "dim_feedforward": config.hidden_width,
        "dropout": 0.0,
        "activation": config.activation,
        "batch_first": True,
        "norm_first": is_pre_norm,
        "bias": config.bias,
    }
    norms = [
        nn.LayerNorm(config.width, bias=config.bias) if is_pre_norm else None for _ in range(2)
    ]
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**settings),
        config.num_encoder_layers,
        norm=norms[0],
        enable_nested_tensor=False,
    )
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(**settings), config.num_decoder_layers, norm=norms[1]
    )
    return nn.Transformer(
        d_model=config.width,
        nhead=config.num_heads,
        custom_encoder=encoder,
        custom_decoder=decoder,
        batch_first=True,
    )


@torch.no_grad()
def copy_stack(ours: nn.Module, theirs: nn.Module) -> None:
    """Give torch's half our weights; each of its weights is set once."""
    left = dict(theirs.named_parameters())

    def give(name: str, *weights: Tensor) -> None:
        left.pop(name).copy_(torch.cat(weights))

    for place, block in enumerate(ours.blocks):
        norms = [name for name, _ in block.named_children() if name.startswith("norm")]
        attentions = {"self_attn": block.attention}
        if len(norms) == 3:
            attentions["multihead_attn"] = block.cross_attention
        for kind in ("weight", "bias") if block.norm1.bias is not None else ("weight",):
            for name, attention in attentions.items():
                parts = attention.query, attention.key, attention.value
                whole = f"layers.{place}.{name}"
                give(f"{whole}.in_proj_{kind}", *(getattr(part, kind) for part in parts))
                give(f"{whole}.out_proj.{kind}", getattr(attention.output, kind))
            hidden, output = block.feed_forward.hidden, block.feed_forward.output
            give(f"layers.{place}.linear1.{kind}", getattr(hidden, kind))
            give(f"layers.{place}.linear2.{kind}", getattr(output, kind))
            for name in norms:
                give(f"layers.{place}.{name}.{kind}", getattr(getattr(block, name), kind))
    for name, weight in ours.final_norm.named_parameters():
        give(f"norm.{name}", weight)
    assert not left


def build_pair(name: str) -> tuple[EncoderDecoder, Peer]:
    model = EncoderDecoder(CONFIGS[name], seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # biases and norms too must be told apart
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(torch.empty_like(weight).normal_(0, 0.2, generator=generator))
    return model, Peer(model)


def draw_batch() -> tuple[Tensor, Tensor]:
    """Sources of different lengths, and targets."""
    generator = torch.Generator().manual_seed(0)
    source_BS = torch.randint(3, BASE.vocabulary_size, (B, S), generator=generator)
    targets_BT = torch.randint(3, BASE.vocabulary_size, (B, T), generator=generator)
    lengths_B1 = torch.tensor([[S], [S - 3], [2], [1]])
    source_BS[torch.arange(S) >= lengths_B1] = BASE.padding
    return source_BS, targets_BT


@pytest.mark.parametrize("name", CONFIGS)
def test_same_weights_give_the_same_logits(name):
    model, peer = build_pair(name)
    source_BS, targets_BT = draw_batch()
    read_BT = shift_right(targets_BT, start=1, padding=0)
    ours_BTV, theirs_BTV = model(source_BS, read_BT), peer(source_BS, read_BT)
    assert theirs_BTV.std() > 0.5  # logits that 1e-5 can tell apart
    torch.testing.assert_close(ours_BTV, theirs_BTV, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["post", "pre"])
def test_same_weights_give_the_same_gradients(name):
    model, peer = build_pair(name)
    for one in (model, peer):
        translation_loss(one, draw_batch()).backward()
    ours = [weight.grad for weight in model.parameters()]
    theirs = [weight.grad for weight in peer.parameters()]
    norms = [torch.stack([g.norm() for g in side]).norm() for side in (ours, theirs)]
    assert norms[0] > 0.1
    torch.testing.assert_close(*norms, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        model.embedding.weight.grad, peer.embedding.weight.grad, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["post", "pre"])
def test_five_training_steps_give_the_same_losses(name):
    losses = []
    for one in build_pair(name):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            loss = translation_loss(one, draw_batch())
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[4] < losses[0] - 0.3
    assert losses[:5] == pytest.approx(losses[5:], abs=1e-4)


@pytest.mark.parametrize("name", ["post", "pre"])
def test_attention_weights_are_those_of_torchs_modules(name):
    model, peer = build_pair(name)
    source_BS, targets_BT = draw_batch()
    theirs = {"encoder": [], "decoder": [], "cross": []}

    def listen(kind: str, attention: nn.MultiheadAttention) -> None:
        def ask(module, args, kwargs, _output):
            asked = {**kwargs, "need_weights": True, "average_attn_weights": False}
            theirs[kind].append(nn.MultiheadAttention.forward(module, *args, **asked)[1])

        attention.register_forward_hook(ask, with_kwargs=True)

    for layer in peer.transformer.encoder.layers:
        listen("encoder", layer.self_attn)
    for layer in peer.transformer.decoder.layers:
        listen("decoder", layer.self_attn)
        listen("cross", layer.multihead_attn)
    peer(source_BS, targets_BT)
    ours = model.attention_weights(source_BS, targets_BT)
    for kind, expected in theirs.items():
        found = getattr(ours, kind)
        assert len(found) == len(expected) > 0
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other.detach(), atol=1e-5, rtol=1e-5)


def test_greedy_decoding_writes_what_the_peer_writes():
    model, peer = build_pair("post")
    source_BS, _ = draw_batch()
    written_BT = torch.full((B, 1), BASE.start)
    for _ in range(8):
        next_B = peer(source_BS, written_BT)[:, -1].argmax(-1)
        written_BT = torch.cat((written_BT, next_B[:, None]), dim=1)
    for one, row in zip(
        greedy_decode(model, source_BS, max_tokens=8), written_BT[:, 1:].tolist(), strict=True
    ):
        end = row.index(BASE.end) if BASE.end in row else 8
        assert one.tokens == tuple(row[:end])
