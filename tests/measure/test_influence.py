from __future__ import annotations

import pytest
import torch
from torch import nn

from sbldlib.measure.influence import influence_map
from sbldlib.models.bert import Bert
from sbldlib.models.gpt import GPT

TOKENS = torch.arange(1, 9)[None]


def test_a_decoder_sees_what_stands_before_it_and_no_more():
    found = influence_map(GPT.from_preset("tiny", num_layers=2), TOKENS)
    assert found.shape == (8, 8)
    assert torch.equal(found > 0, torch.ones(8, 8).tril() > 0)


def test_an_encoder_sees_every_token():
    found = influence_map(Bert.from_preset("tiny"), TOKENS)
    assert (found > 0).all()


def test_outputs_can_be_chosen_and_padding_is_not_seen():
    model = Bert.from_preset("tiny")
    tokens = TOKENS.clone()
    tokens[0, 6:] = model.config.padding
    found = influence_map(model, tokens, outputs=lambda m, t: m.masked_logits(m.encode(t)))
    assert (found[:6, :6] > 0).all() and not found[:6, 6:].any()


def test_the_norm_of_a_known_jacobian():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(10, 3)

        def forward(self, tokens_BT):
            x_BTD = self.embedding(tokens_BT)
            return torch.stack([2 * x_BTD[:, 0], x_BTD[:, 0] + 5 * x_BTD[:, 1]], dim=1)

    found = influence_map(Sum(), torch.tensor([[1, 2]]), num_directions=3)
    assert found[0, 1] == 0
    assert float(found[0, 0] / found[1, 0]) == pytest.approx(2)
    assert float(found[1, 1] / found[1, 0]) == pytest.approx(5)


def test_weights_keep_their_gradients_and_the_mode():
    model = GPT.from_preset("tiny", num_layers=2).train()
    influence_map(model, TOKENS)
    assert model.training and all(p.grad is None for p in model.parameters())


def test_bad_arguments():
    model = GPT.from_preset("tiny", num_layers=2)
    with pytest.raises(ValueError, match=r"shape \(2, 8\) must be \[1, tokens\]"):
        influence_map(model, TOKENS.expand(2, 8))
    with pytest.raises(ValueError, match=r"shape \(1, 64\) must be \[1, 8, any\]"):
        influence_map(Bert.from_preset("tiny"), TOKENS, outputs=lambda m, t: m(t).pooled_BD)
    with pytest.raises(ValueError, match="num_directions=0"):
        influence_map(model, TOKENS, num_directions=0)
