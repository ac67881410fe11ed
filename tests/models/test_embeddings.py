from __future__ import annotations

import pytest
import torch

from sbldlib.data.masking import collate
from sbldlib.data.pairs import Symbols
from sbldlib.models.bert import Bert
from sbldlib.models.embeddings import (
    cosines,
    nearest_neighbours,
    sentence_embeddings,
)

SYMBOLS = Symbols.after(1024)
ROWS = [([1, 2, 3], None), ([4, 5], None), ([1, 2, 3, 9], None)]


def batch_of(rows=ROWS, context_length=10):
    return collate(rows, symbols=SYMBOLS, context_length=context_length)


def test_mean_is_over_ordinary_tokens():
    model = Bert.from_preset("tiny").eval()
    found = sentence_embeddings(model, [batch_of()])
    hidden_TD = model.encode(batch_of()["input_ids"])[1]
    assert found.shape == (3, 64)
    assert torch.allclose(found[1], hidden_TD[1:3].mean(0), atol=1e-6)


def test_cls_is_the_first_vector():
    model = Bert.from_preset("tiny").eval()
    found = sentence_embeddings(model, [batch_of()], pooling="cls")
    assert torch.allclose(found, model.encode(batch_of()["input_ids"])[:, 0], atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_does_not_matter(pooling):
    model = Bert.from_preset("tiny")
    short = sentence_embeddings(model, [batch_of()], pooling=pooling)
    long = sentence_embeddings(model, [batch_of(context_length=30)], pooling=pooling)
    assert torch.allclose(short, long, atol=1e-5)


def test_batches_do_not_matter():
    model = Bert.from_preset("tiny")
    parts = [batch_of(ROWS[:1]), batch_of(ROWS[1:])]
    assert torch.allclose(
        sentence_embeddings(model, parts), sentence_embeddings(model, [batch_of()]), atol=1e-6
    )


def test_neighbours_are_by_angle():
    vectors = torch.tensor([[1.0, 0.1], [10.0, 0.0], [0.0, 1.0], [-0.1, 3.0]])
    assert nearest_neighbours(vectors, centre=False)[:, 0].tolist() == [1, 0, 3, 2]
    assert nearest_neighbours(vectors, 3, centre=False)[0].tolist() == [1, 2, 3]
    assert torch.allclose(cosines(vectors).diagonal(), torch.ones(4))


def test_centring_takes_a_common_direction_off():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(50, 8, generator=generator) + 100
    assert float(cosines(vectors, centre=False).min()) > 0.99
    assert float(cosines(vectors).min()) < 0


def test_bad_embeddings():
    model = Bert.from_preset("tiny")
    with pytest.raises(ValueError, match="pooling='max' is not known"):
        sentence_embeddings(model, [batch_of()], pooling="max")
    with pytest.raises(ValueError, match="no ordinary token"):
        only_special = {**batch_of(), "input_ids": torch.full((3, 10), SYMBOLS.classifier)}
        sentence_embeddings(model, [only_special])
    with pytest.raises(ValueError, match="holds no sentence"):
        sentence_embeddings(model, [])
    with pytest.raises(ValueError, match=r"shape \(1, 4\) must be"):
        cosines(torch.ones(1, 4))
    with pytest.raises(ValueError, match="num_neighbours=4 must be at most 3"):
        nearest_neighbours(torch.eye(4), 4)
