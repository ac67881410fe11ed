"""Rows of the batch, forward alone and scaled residuals in models that others wrote."""

from __future__ import annotations

import copy

import pytest
import torch
from peers.zoo import PEERS, Peer
from torch import Tensor, nn

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import logits_of

pytestmark = pytest.mark.peer

every_peer = pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
NUM_ROWS = 3
ROWS = {0: (1,), 2: (), 3: (0, 2)}  # layer 1 runs whole


def make(peer: Peer) -> nn.Module:
    """A model without dropout whose blocks take themselves to be in training, and no cache."""
    model = peer.model().eval()
    for block in attach(model).blocks:
        block.module.training = True
    config = getattr(model, "config", None)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return model


def inputs(peer: Peer) -> Tensor:
    return torch.cat([peer.inputs(seed)[:1] for seed in range(NUM_ROWS)])


def run(model: nn.Module, given: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradients that there are."""
    model.zero_grad(set_to_none=True)
    logits = logits_of(model(given))
    logits.square().sum().backward()
    named = model.named_parameters()
    return logits.detach(), {name: p.grad for name, p in named if p.grad is not None}


def assert_close(found: tuple[Tensor, dict], expected: tuple[Tensor, dict]) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-4)
    assert found[1].keys() == expected[1].keys()
    for name, grad in found[1].items():
        scale = expected[1][name].abs().max().item()
        torch.testing.assert_close(grad, expected[1][name], rtol=1e-3, atol=1e-4 * (1 + scale))


@every_peer
def test_each_row_runs_its_own_layers(peer):
    model, given = make(peer), inputs(peer)
    logits, total = [], {}
    for row in range(NUM_ROWS):
        with skip_layers(model, [layer for layer, some in ROWS.items() if row not in some]):
            found, grads = run(model, given[row : row + 1])
        logits.append(found)
        for name, grad in grads.items():
            total[name] = total.get(name, 0) + grad
    full = run(model, given)[0]
    attach(model).set_rows(ROWS, num_rows=NUM_ROWS)
    found = run(model, given)
    assert_close(found, (torch.cat(logits), total))
    assert not torch.allclose(found[0], full), "the rows do not matter"


@pytest.mark.parametrize("name", ["GPT-2", "BERT", "Llama"])
def test_masks_of_padding_go_by_row(name):
    """transformers makes one [B, 1, T, T] or [B, T] mask of it, which the blocks share."""
    peer = PEERS[name]
    model, given = make(peer), inputs(peer)
    mask_BT = torch.ones_like(given)
    mask_BT[0, :2], mask_BT[2, :1] = 0, 0  # on the left: a causal model sees it too
    with torch.no_grad():
        alone = []
        for row in range(NUM_ROWS):
            with skip_layers(model, [layer for layer, some in ROWS.items() if row not in some]):
                one = slice(row, row + 1)
                alone.append(logits_of(model(given[one], attention_mask=mask_BT[one])))
        attach(model).set_rows(ROWS, num_rows=NUM_ROWS)
        found = logits_of(model(given, attention_mask=mask_BT))
        unmasked = logits_of(model(given))
    seen_BT1 = mask_BT[..., None]
    torch.testing.assert_close(found * seen_BT1, torch.cat(alone) * seen_BT1, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found * seen_BT1, unmasked * seen_BT1)


def test_a_cache_of_transformers_is_refused_with_what_to_do():
    peer = PEERS["GPT-2"]
    model = make(peer)
    model.config.use_cache = True
    attach(model).set_rows({1: (0,)})
    with pytest.raises(ValueError, match=r"layer 1 \(transformer.h.1\) .* use_cache=False"):
        model(inputs(peer))


@every_peer
def test_forward_alone_is_the_same_forward(peer):
    model, given = make(peer), inputs(peer)
    full, grads = run(model, given)
    attach(model).set_forward_only({1, 2})
    found, others = run(model, given)
    assert torch.equal(found, full)
    missing = {name for name in grads if name not in others}
    assert missing == {n for n in grads if n.startswith((f"{peer.names[1]}.", f"{peer.names[2]}."))}
    attach(model).set_forward_only({1}, gradient="none")
    _, others = run(model, given)
    assert not any(name.startswith(f"{peer.names[0]}.") for name in others)
    assert any(name.startswith(f"{peer.names[2]}.") for name in others)


@every_peer
def test_a_residual_scaled_by_one_is_plain_and_by_little_nearly_skipped(peer):
    model, given = make(peer), inputs(peer)
    plain = copy.deepcopy(model)
    skipping = attach(model)
    skipping.set_residual_scale({1: 1.0})
    assert torch.equal(run(model, given)[0], run(plain, given)[0])
    skipping.set_residual_scale({1: 1e-6})
    with skip_layers(plain, {1}):
        skipped = run(plain, given)[0]
    torch.testing.assert_close(run(model, given)[0], skipped, rtol=1e-3, atol=1e-3)
