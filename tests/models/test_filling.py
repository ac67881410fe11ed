from __future__ import annotations

import pytest
import torch

from sbldlib.models.bert import Bert
from sbldlib.models.filling import (
    likeliest,
    logits_after,
    logits_at_mask,
    share_right,
    write_with_masks,
)
from sbldlib.models.gpt import GPT

TOKENS = torch.tensor([[1025, 5, 1027, 7, 1026], [1025, 1027, 8, 9, 1026]])


def test_logits_are_those_of_the_hole():
    model = Bert.from_preset("tiny").train()
    found = logits_at_mask(model, TOKENS)
    assert model.training
    whole = model.eval()(TOKENS).masked_logits_BTV
    assert torch.allclose(found, torch.stack([whole[0, 2], whole[1, 1]]), atol=1e-5)


def test_bert_looks_behind_the_hole_and_gpt_does_not():
    bert, gpt = Bert.from_preset("tiny"), GPT.from_preset("tiny")
    other = TOKENS.clone()
    other[0, 3] = 70
    assert not torch.allclose(logits_at_mask(bert, TOKENS)[0], logits_at_mask(bert, other)[0])
    assert logits_after(gpt, TOKENS[:, 1:2] % 512).shape == (2, gpt.config.vocabulary_size)


def test_likeliest_first():
    logits = torch.tensor([0.0, 3.0, 1.0, 9.0])
    assert [token for token, _ in likeliest(logits, 2, below=3)] == [1, 2]
    shares = [share for _, share in likeliest(logits, 3, below=3)]
    assert sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)
    assert likeliest(logits, 1)[0][0] == 3


def test_share_right():
    logits = torch.eye(4)
    assert share_right(logits, [0, 1, 2, 0]) == 0.75
    with pytest.raises(ValueError, match=r"targets of shape \(2,\)"):
        share_right(logits, [0, 1])


def test_bert_writes_ordinary_tokens():
    model = Bert.from_preset("tiny")
    written = write_with_masks(model, [5, 6], 4)
    assert written[:2] == [5, 6] and len(written) == 6 and max(written) < 1024
    again = write_with_masks(model, written[:5], 1)
    assert again == written
    with pytest.raises(ValueError, match="holds no token"):
        write_with_masks(model, [], 4)
    with pytest.raises(ValueError, match="exceed context_length=64"):
        write_with_masks(model, [5] * 60, 4)


def test_one_hole_a_row():
    tokens = TOKENS.clone()
    tokens[1, 2] = 1027
    with pytest.raises(ValueError, match=r"row 1 holds 2 \[MASK\] tokens"):
        logits_at_mask(Bert.from_preset("tiny"), tokens)
    with pytest.raises(ValueError, match="num_tokens=9 must be at most 4"):
        likeliest(torch.zeros(4), 9)
