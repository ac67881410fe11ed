"""Bits per byte: the same targets for every model, held to sums by hand, errors at the door.

Legend: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sbldlib.data import corpus_from_texts, prepare_tokens
from sbldlib.data.batches import sequential_batches
from sbldlib.data.tokenizer import train_tokenizer
from sbldlib.losses import evaluate_loss
from sbldlib.measure.scoring import (
    TextScore,
    bytes_of_tokens,
    score_frequencies,
    score_pairs,
    score_text,
)
from sbldlib.models.conv_gpt import ConvGPT, ConvGPTConfig
from sbldlib.models.gpt import GPT, GPTConfig

TEXTS = {
    "train": ["def größe(x):\n    return x + 1\n" * 20, "print('naïve – 10')\n" * 20],
    "test": ["def größe(y):\n    return y + 2\n" * 8, "print('ä€')\n" * 8],
}
TOKENIZER = train_tokenizer(TEXTS["train"], 280)
V = TOKENIZER.vocabulary_size


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return prepare_tokens(
        corpus_from_texts(TEXTS, source="made up"), TOKENIZER, tmp_path_factory.mktemp("tokens")
    )


def a_gpt(context_length: int = 16, vocabulary_size: int = V) -> GPT:
    config = GPTConfig(
        vocabulary_size=vocabulary_size, context_length=context_length, num_layers=2, num_heads=2,
        width=8, init_std=0.3,
    )  # fmt: skip
    return GPT(config)


class Seer(nn.Module):
    """Names the token `offset` places after each input, with a logit of 5, from the text itself."""

    def __init__(self, tokens: np.ndarray, offset: int) -> None:
        super().__init__()
        self.tokens, self.offset = torch.from_numpy(tokens.astype(np.int64)), offset
        self.none = nn.Parameter(torch.zeros(()))
        self.seen: list[int] = []

    def forward(self, tokens_BT):
        logits_BTV = torch.zeros(*tokens_BT.shape, V) + self.none
        for row, row_T in enumerate(tokens_BT):
            place = self._place(row_T)
            targets_T = self.tokens[place + self.offset :][: len(row_T)]
            self.seen += range(place + self.offset, place + self.offset + len(row_T))
            logits_BTV[row, torch.arange(len(row_T)), targets_T] = 5.0
        return logits_BTV

    def _place(self, row_T):
        places = self.tokens.unfold(0, len(row_T), 1)
        return next(p for p in torch.where((places == row_T).all(1))[0].tolist() if self.next(p))

    def next(self, place):
        return place + self.offset not in self.seen


def test_every_token_has_its_bytes(files):
    sizes_V = bytes_of_tokens(TOKENIZER)
    assert sizes_V.shape == (V,) and sizes_V[TOKENIZER.end_of_text] == 0
    for file in files.values():
        assert sizes_V[file.tokens].sum() == file.num_bytes
    for text in ("größe", "€", "print("):
        assert sizes_V[TOKENIZER.encode(text)].sum() == len(text.encode())
    assert bytes_of_tokens(train_tokenizer([], 256))[1:].tolist() == [1] * 255


@given(
    T=st.integers(1, 40), offset=st.integers(1, 9), num=st.integers(1, 60), batch=st.integers(1, 5)
)
def test_the_targets_do_not_depend_on_context_offset_or_batch(files, T, offset, num, batch):
    model = Seer(np.arange(V), offset)
    tokens = np.arange(V, dtype=np.uint16)  # token = place
    text = files["test"].write(
        files["test"].path.with_name("count.tokens"), tokens, num_bytes=9, tokenizer=TOKENIZER,
        name="count",
    )  # fmt: skip
    found = score_text(
        model, text, TOKENIZER, first_target=9, num_targets=num, context_length=T, offset=offset,
        batch_size=batch,
    )  # fmt: skip
    assert model.seen == list(range(9, 9 + num)), "each once, in order"
    by_hand = math.log(1 + (V - 1) * math.exp(-5))
    assert found.nats == pytest.approx(by_hand, rel=1e-5)
    assert found.accuracy == 1 and found.num_targets == num
    assert found.num_bytes == bytes_of_tokens(TOKENIZER)[9 : 9 + num].sum()


def test_bits_per_byte_are_nats_by_real_bytes(files):
    model, text = a_gpt(), files["test"]
    found = score_text(
        model, text, TOKENIZER, first_target=5, num_targets=37, context_length=16, batch_size=1
    )
    nats = 0.0
    with torch.no_grad():
        for start in range(0, 37, 16):
            length = min(16, 37 - start)
            tokens_T = torch.tensor(text.tokens[4 + start : 5 + start + length].astype(np.int64))
            logits_TV = model(tokens_T[None, :-1])[0]
            nats -= float(logits_TV.log_softmax(-1)[torch.arange(length), tokens_T[1:]].sum())
    written = TOKENIZER.decode(text.tokens[5:42]).replace("<|endoftext|>", "")
    assert found.nats == pytest.approx(nats / 37, rel=1e-5)
    assert found.num_bytes == len(written.encode())
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / len(written.encode()))
    assert TextScore.from_json(found.to_json()) == found


def test_whole_rows_agree_with_evaluate_loss(files):
    conv = ConvGPTConfig(
        vocabulary_size=V, context_length=16, widths=(8, 16), num_heads=2, target="ahead",
        skip_connections=False, init_std=0.3,
    )  # fmt: skip
    for model in (a_gpt(), a_gpt(8), ConvGPT(conv)):
        T, offset = model.config.context_length, model.config.offset
        batches = sequential_batches(files["test"], T, 2, 3, offset=offset)
        found = score_text(
            model, files["test"], TOKENIZER, first_target=offset, num_targets=6 * T,
            context_length=T, offset=offset,
        )  # fmt: skip
        assert found.nats == pytest.approx(evaluate_loss(model, batches), rel=1e-5)


def test_the_model_is_left_as_it_was(files):
    model = a_gpt().train()
    model.blocks[0].eval()
    score_text(model, files["test"], TOKENIZER, first_target=1, num_targets=9, context_length=4)
    assert model.training and not model.blocks[0].training
    assert all(weight.grad is None for weight in model.parameters())


def test_frequencies_by_hand(files):
    train, test = files["train"], files["test"]
    found = score_frequencies(train, test, TOKENIZER, first_target=3, num_targets=50)
    targets = test.tokens[3:53].tolist()
    seen = train.tokens.tolist()
    nats = [-math.log((seen.count(t) + 1) / (len(seen) + V)) for t in targets]
    assert found.nats == pytest.approx(sum(nats) / 50)
    most = max(range(V), key=seen.count)
    assert found.accuracy == targets.count(most) / 50
    same = score_text(
        a_gpt(), test, TOKENIZER, first_target=3, num_targets=50, context_length=16
    ).num_bytes
    assert found.num_bytes == same


def test_pairs_by_hand(files):
    train, test = files["train"], files["test"]
    found = score_pairs(train, test, TOKENIZER, first_target=3, num_targets=50, weight=2.0)
    seen = train.tokens.tolist()
    pairs = list(pairwise(seen))
    nats, right = 0.0, 0
    for place in range(3, 53):
        before, target = test.tokens[place - 1 : place + 1].tolist()

        def share(token, before=before):
            often = (seen.count(token) + 1) / (len(seen) + V)
            return (pairs.count((before, token)) + 2 * often) / (seen[:-1].count(before) + 2)

        nats -= math.log(share(target))
        right += target == max(range(V), key=share)
    assert found.nats == pytest.approx(nats / 50)
    assert found.accuracy == right / 50
    with pytest.raises(ValueError, match="weight=0"):
        score_pairs(train, test, TOKENIZER, first_target=3, num_targets=50, weight=0)
    with pytest.raises(ValueError, match="first_target=0 has no input"):
        score_pairs(train, test, TOKENIZER, first_target=0, num_targets=50)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_target": 2, "offset": 3}, "first_target=2 has no input 3 token"),
        ({"first_target": -1}, "first_target"),
        ({"num_targets": 0}, "num_targets"),
        ({"num_targets": 10**6}, "first_target=9 and num_targets=1000000 end at 1000009; the text"),
        ({"context_length": 0}, "context_length"),
        ({"offset": 0}, "offset"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"model": "gpt"}, "model='gpt'"),
        ({"text": "test"}, "text='test'"),
        ({"tokenizer": None}, "tokenizer=None"),
        ({"tokenizer": train_tokenizer([], 256)}, "has 256 tokens, text is of 280"),
        ({"model": a_gpt(vocabulary_size=30)}, "tokens must lie|vocabulary|30"),
        ({"context_length": 32}, "exceed context_length=16"),
    ],
)
def test_errors_name_the_field(files, changes, message):
    asked = {
        "model": a_gpt(), "text": files["test"], "tokenizer": TOKENIZER, "first_target": 9,
        "num_targets": 40, "context_length": 16, **changes,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        score_text(asked.pop("model"), asked.pop("text"), asked.pop("tokenizer"), **asked)


def test_a_target_outside_the_logits_and_a_text_without_bytes_are_refused(files):
    class Narrow(a_gpt().__class__):
        def forward(self, tokens_BT, cache=None):
            return super().forward(tokens_BT, cache)[..., :9]

    with pytest.raises(ValueError, match="gives 9 logits, the text holds token"):
        score_text(
            Narrow(a_gpt().config), files["test"], TOKENIZER, first_target=1, num_targets=9,
            context_length=8,
        )  # fmt: skip
    ends = np.full(9, TOKENIZER.end_of_text, dtype=np.uint16)
    text = files["test"].write(
        files["test"].path.with_name("ends.tokens"), ends, num_bytes=0, tokenizer=TOKENIZER,
        name="ends",
    )  # fmt: skip
    with pytest.raises(ValueError, match="num_targets=4 of these tokens stand for no byte"):
        score_text(a_gpt(), text, TOKENIZER, first_target=1, num_targets=4, context_length=4)
    with pytest.raises(ValueError, match="train is of 280"):
        score_frequencies(
            files["train"], text, train_tokenizer([], 256), first_target=0, num_targets=2
        )
