"""Our GPT against transformers' GPT2LMHeadModel: same weights, same logits, same counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sbldlib.models.gpt import GPT, PRESETS, GPTConfig

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.peer

NAMES = {
    "token_embedding.": "transformer.wte.",
    "position_embedding.": "transformer.wpe.",
    "final_norm.": "transformer.ln_f.",
    "blocks.": "transformer.h.",
    ".norm1.": ".ln_1.",
    ".norm2.": ".ln_2.",
    ".attention.query_key_value.": ".attn.c_attn.",
    ".attention.output.": ".attn.c_proj.",
    ".mlp.hidden.": ".mlp.c_fc.",
    ".mlp.output.": ".mlp.c_proj.",
}

WIDE = GPTConfig(
    vocabulary_size=211, context_length=33, num_layers=3, num_heads=3, width=48, init_std=0.15
)
CONFIGS = {"tiny": PRESETS["tiny"], "wide": WIDE, "exact gelu": replace(WIDE, activation="gelu")}


def build_peer(config: GPTConfig):
    """transformers' model of the same size."""
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocabulary_size,
            n_positions=config.context_length,
            n_layer=config.num_layers,
            n_head=config.num_heads,
            n_embd=config.width,
            activation_function={"gelu_tanh": "gelu_new", "gelu": "gelu"}[config.activation],
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def peer_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def copy_weights(model: GPT, peer) -> None:
    """Give the peer our weights; its linear maps hold theirs transposed."""
    theirs = dict(peer.named_parameters())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_linear = weight.ndim == 2 and "embedding" not in name
            theirs.pop(peer_name(name)).copy_(weight.T if is_linear else weight)
    assert not theirs


def build_pair(config: GPTConfig):
    model = GPT(config, seed=1)
    with torch.random.fork_rng():
        peer = build_peer(config)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # biases and norms too must be told apart
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(torch.empty_like(weight).normal_(0, 0.2, generator=generator))
    copy_weights(model, peer)
    return model, peer


def draw_tokens(config: GPTConfig) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(config.vocabulary_size, (3, config.context_length), generator=generator)


@pytest.mark.parametrize("name", CONFIGS)
def test_same_weights_give_the_same_logits(name):
    model, peer = build_pair(CONFIGS[name])
    tokens_BT = draw_tokens(CONFIGS[name])
    with torch.no_grad():
        ours_BTV, theirs_BTV = model.eval()(tokens_BT), peer.eval()(tokens_BT).logits
    assert theirs_BTV.std() > 0.5  # logits that 1e-5 can tell apart
    torch.testing.assert_close(ours_BTV, theirs_BTV, atol=1e-5, rtol=1e-5)


def test_same_weights_give_the_same_gradients():
    model, peer = build_pair(WIDE)
    tokens_BT = draw_tokens(WIDE)
    for logits_BTV in (model(tokens_BT), peer(tokens_BT).logits):
        F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), tokens_BT[:, 1:].flatten()).backward()
    theirs = dict(peer.named_parameters())
    for name, weight in model.named_parameters():
        gradient = theirs[peer_name(name)].grad
        expected = gradient.T if weight.ndim == 2 and "embedding" not in name else gradient
        torch.testing.assert_close(weight.grad, expected, atol=1e-5, rtol=1e-4, msg=name)


def test_greedy_generation_gives_the_same_tokens():
    model, peer = build_pair(WIDE)
    prompt_BT = draw_tokens(WIDE)[:, :3]
    ours_BT = model.generate(prompt_BT, 20, temperature=0)
    theirs_BT = peer.eval().generate(
        prompt_BT,
        attention_mask=torch.ones_like(prompt_BT),
        max_new_tokens=20,
        do_sample=False,
        pad_token_id=0,
    )
    assert torch.equal(ours_BT, theirs_BT)


def test_five_training_steps_give_the_same_losses():
    model, peer = build_pair(WIDE)
    inputs_BT, targets_BT = draw_tokens(WIDE)[:, :-1], draw_tokens(WIDE)[:, 1:]
    losses = []
    for one, forward in ((model, model), (peer, lambda tokens_BT: peer(tokens_BT).logits)):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.3)
        for _ in range(5):
            optimizer.zero_grad()
            loss = F.cross_entropy(forward(inputs_BT).flatten(0, 1), targets_BT.flatten())
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[4] < losses[0] - 0.5
    assert losses[:5] == pytest.approx(losses[5:], abs=1e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_as_many_parameters(name):
    with torch.device("meta"):
        model, peer = GPT.from_preset(name), build_peer(PRESETS[name])
    assert model.num_parameters() == sum(weight.numel() for weight in peer.parameters())


def test_published_parameter_counts():
    with torch.device("meta"):
        counts = {name: GPT.from_preset(name).num_parameters() for name in PRESETS}
    assert counts["gpt2-124m"] == 124_439_808
    assert counts["gpt2-medium"] == 354_823_168
    assert counts["gpt3-medium"] == pytest.approx(350e6, rel=0.02)  # given as "350M"
