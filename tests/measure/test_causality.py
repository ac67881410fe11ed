"""Causality: every language model of the kit, planted leaks, known answers, errors."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from small import T, V, gpt, random_batches, same_weights, weights
from torch import nn

from sbldlib.measure import Causality, measure_causality
from sbldlib.models.conv_gpt import ConvGPT, ConvGPTConfig
from sbldlib.models.diverging_gpt import DivergingGPT, DivergingGPTConfig
from sbldlib.models.recurrent import KINDS, SequenceConfig, SequenceModel

TOKENS_BT = random_batches(1)[0][0]
CONV = ConvGPTConfig(
    vocabulary_size=V, context_length=64, widths=(8, 16, 32), num_heads=2, merge=3, init_std=0.3
)
DIVERGING = DivergingGPTConfig(
    vocabulary_size=V,
    context_length=64,
    num_layers=4,
    num_heads=2,
    width=16,
    stages=(1, 2, 4),
    rank=2,
    init_std=0.3,
)
LONG_BT = torch.randint(V, (2, 30), generator=torch.Generator().manual_seed(1))


def models():
    yield "gpt", gpt(context_length=64), 1
    for kind in KINDS:
        config = SequenceConfig(kind=kind, vocabulary_size=V, context_length=64, width=16)
        yield kind, SequenceModel(config), 1
    for growth in ("diverge", "stack"):
        for stage in range(3):
            config = replace(DIVERGING, growth=growth, stage=stage)
            yield f"diverging-{growth}-{stage}", DivergingGPT(config), 1
    for target in ("next", "ahead"):
        for skip in (True, False):
            config = replace(CONV, target=target, skip_connections=skip)
            yield f"conv-{target}-{skip}", ConvGPT(config), config.offset


MODELS = {name: (model, offset) for name, model, offset in models()}


class Peeking(nn.Module):
    """Logits of each token's own embedding, and at `reader` a little of token `seen` as well."""

    def __init__(self, reader: int, seen: int, share: float = 1e-3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Embedding(V, V)
        self.embedding.weight.data = torch.randn(V, V, generator=generator)
        self.reader, self.seen, self.share = reader, seen, share

    def forward(self, tokens_BT):
        logits_BTV = self.embedding(tokens_BT)
        peek_BTV = torch.zeros_like(logits_BTV)
        peek_BTV[:, self.reader] = logits_BTV[:, self.seen]
        return logits_BTV + self.share * peek_BTV


@pytest.mark.parametrize("method", ["gradient", "substitution"])
@pytest.mark.parametrize("name", MODELS)
def test_no_language_model_of_the_kit_sees_its_answer(name, method):
    model, offset = MODELS[name]
    found = measure_causality(model, LONG_BT, offset=offset, method=method)
    assert found.is_causal and found.leaks == (), found.summary()
    assert found.num_tokens == 30 and found.offset == offset
    if not name.startswith("conv-next-False"):  # which sees each group's first token alone
        assert all(row[i] > 0 for i, row in enumerate(found.influence)), "its own token it does see"
    assert found.lookahead == (0 if offset == 1 else offset - 1)


@pytest.mark.parametrize("method", ["gradient", "substitution"])
@pytest.mark.parametrize("level", [0, 1])
def test_a_compressor_that_is_not_shifted_is_caught(method, level):
    leaking = ConvGPT(CONV)
    leaking.compressors[level].shift = 0
    found = measure_causality(leaking, LONG_BT, method=method)
    assert not found.is_causal
    i, j = found.leaks[0]
    assert i < j <= i + CONV.span, "it sees to the end of its own group"
    assert f"position {i}, whose target is token {i + 1}, depend on token {j}" in found.summary()


@pytest.mark.parametrize("method", ["gradient", "substitution"])
def test_the_model_that_predicts_ahead_would_leak_as_a_next_token_model(method):
    model = ConvGPT(replace(CONV, target="ahead"))
    assert not measure_causality(model, LONG_BT, offset=1, method=method).is_causal
    assert not measure_causality(model, LONG_BT, offset=CONV.span - 1, method=method).is_causal


def test_an_encoder_without_a_mask_is_caught():
    encoder = nn.Sequential(
        nn.Embedding(V, 16),
        nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True),
        nn.Linear(16, V),
    )
    found = measure_causality(encoder, TOKENS_BT)
    assert len(found.leaks) == T * (T - 1) // 2 and found.lookahead == T - 1


@pytest.mark.parametrize("method", ["gradient", "substitution"])
@pytest.mark.parametrize(("reader", "seen", "is_leak"), [(2, 5, True), (5, 2, False), (3, 4, True)])
def test_a_single_leak_is_named(reader, seen, is_leak, method):
    found = measure_causality(Peeking(reader, seen), TOKENS_BT, method=method)
    assert found.leaks == (((reader, seen),) if is_leak else ())
    assert found.influence[reader][seen] > 0


def test_a_leak_far_below_rounding_is_found_by_its_gradient():
    found = measure_causality(Peeking(1, 6, share=1e-30), TOKENS_BT)
    assert found.leaks == ((1, 6),)


def test_a_choice_without_a_gradient_is_found_by_substitution():
    class Choosing(Peeking):
        def forward(self, tokens_BT):
            logits_BTV = self.embedding(tokens_BT)
            return logits_BTV * (1 + tokens_BT[:, -1:, None] % 2)

    with_gradient = measure_causality(Choosing(0, 1), TOKENS_BT)
    assert with_gradient.is_causal
    found = measure_causality(Choosing(0, 1), TOKENS_BT, method="substitution", seed=3)
    assert {j for _, j in found.leaks} == {T - 1}


def test_leaves_the_model_as_it_was():
    model = gpt(dropout=0.5).train()
    before, state = copy.deepcopy(model), torch.get_rng_state()
    first = measure_causality(model, TOKENS_BT)
    assert model.training and same_weights(before, weights(model))
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert first == measure_causality(model, TOKENS_BT)


def test_goes_to_json_and_back():
    found = measure_causality(Peeking(2, 5), TOKENS_BT)
    assert Causality.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens_BT": torch.zeros(3, dtype=torch.int64)}, r"tokens of shape \(3,\)"),
        ({"tokens_BT": [1, 2]}, "tokens="),
        ({"offset": 0}, "offset=0"),
        ({"method": "gradients"}, "method='gradients'.*gradient"),
        ({"seed": -1}, "seed=-1"),
        ({"model": "gpt"}, "model="),
        ({"model": nn.Linear(2, 2)}, "holds no nn.Embedding"),
        ({"embedding": nn.Embedding(V, 4)}, "ran 0 times"),
        (
            {"method": "substitution", "embedding": nn.Linear(2, 2)},
            "does not say which tokens there are",
        ),
    ],
)
def test_bad_input_is_named(changes, message):
    asked = {"model": Peeking(2, 5), "tokens_BT": TOKENS_BT, **changes}
    with pytest.raises(ValueError, match=message):
        measure_causality(asked.pop("model"), asked.pop("tokens_BT"), **asked)


def test_logits_of_another_length_are_refused():
    class Last(Peeking):
        def forward(self, tokens_BT):
            return self.embedding(tokens_BT)[:, -1:]

    with pytest.raises(ValueError, match=r"logits of shape \(1, 1, 32\) for tokens of \(1, 8\)"):
        measure_causality(Last(0, 0), TOKENS_BT)


@pytest.mark.parametrize("influence", [(), ((1.0, 0.0),), ((1.0, -1.0), (0.0, 1.0))])
def test_a_record_that_is_no_square_is_refused(influence):
    with pytest.raises(ValueError, match="influence"):
        Causality(influence=influence, offset=1, method="gradient")
