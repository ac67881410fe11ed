"""Greedy and beam decoding against every sentence that there is, on a vocabulary of five."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sbldlib.models.beam import Hypothesis, beam_decode, greedy_decode, length_penalty
from sbldlib.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

MINI = EncoderDecoderConfig(
    vocabulary_size=5,
    context_length=6,
    num_encoder_layers=1,
    num_decoder_layers=1,
    num_heads=2,
    width=8,
)
START, END = MINI.start, MINI.end
MOST = 3  # tokens a sentence
SEED = st.integers(0, 10_000)
STRENGTH = st.sampled_from([0.0, 0.6, 2.0])
SOURCES_BS = torch.tensor([[3, 4, 4, 2], [4, 2, 0, 0], [3, 3, 2, 0]])


def build(seed: int = 0, **changes) -> EncoderDecoder:
    """A model whose next tokens differ much in probability."""
    model = EncoderDecoder(replace(MINI, **changes), seed)
    with torch.no_grad():
        model.embedding.weight.mul_(2)
    return model


def sentences(most: int) -> list[tuple[int, ...]]:
    """All that can be written: ended within `most` tokens, or cut there."""
    others = [token for token in range(MINI.vocabulary_size) if token != END]
    ended = [
        (*tokens, END)
        for length in range(most)
        for tokens in itertools.product(others, repeat=length)
    ]
    return ended + list(itertools.product(others, repeat=most))


@torch.no_grad()
def log_probabilities(model: EncoderDecoder, source_1S: Tensor, written) -> list[float]:
    """Of each sentence, by one pass over each from its start to its end."""
    found = []
    for tokens in written:
        read = torch.tensor([[START, *tokens[:-1]]])
        log_TV = model(source_1S, read)[0].double().log_softmax(-1)
        found.append(sum(log_TV[i, token].item() for i, token in enumerate(tokens)))
    return found


def by_brute_force(model: EncoderDecoder, source_1S: Tensor, strength: float, most: int = MOST):
    """Every sentence with its score, the best first."""
    written = sentences(most)
    totals = log_probabilities(model, source_1S, written)
    scores = [
        total / ((5 + len(tokens)) / 6) ** strength
        for tokens, total in zip(written, totals, strict=True)
    ]
    return sorted(zip(scores, written, strict=True), reverse=True)


def text(hypothesis: Hypothesis) -> tuple[int, ...]:
    return (*hypothesis.tokens, END) if hypothesis.ended else hypothesis.tokens


def test_there_are_as_many_sentences_as_there_should_be():
    assert len(sentences(MOST)) == len(set(sentences(MOST))) == 1 + 4 + 16 + 64


@settings(max_examples=8)
@given(SEED, STRENGTH)
def test_a_beam_with_room_for_all_finds_all_and_ranks_them(seed, strength):
    model, source_1S = build(seed), SOURCES_BS[:1]
    expected = by_brute_force(model, source_1S, strength)
    (found,) = beam_decode(
        model, source_1S, beam_width=85, length_strength=strength, max_tokens=MOST
    )
    assert {text(one) for one in found} == {tokens for _, tokens in expected}
    assert [one.score for one in found] == pytest.approx([score for score, _ in expected], abs=1e-4)
    assert found[0].score == max(one.score for one in found)


@settings(max_examples=15)
@given(SEED)
def test_a_beam_of_one_is_greedy(seed):
    model = build(seed)
    greedy = greedy_decode(model, SOURCES_BS)
    beams = beam_decode(model, SOURCES_BS, beam_width=1, length_strength=0)
    assert [len(beam) for beam in beams] == [1, 1, 1]
    for one, (other,) in zip(greedy, beams, strict=True):
        assert (one.tokens, one.ended) == (other.tokens, other.ended)
        assert one.score == pytest.approx(other.score, abs=1e-5)


@settings(max_examples=10)
@given(SEED)
def test_greedy_takes_the_likeliest_token_at_every_step(seed):
    model, written = build(seed), []
    for _ in range(MINI.context_length):
        logits_BTV = model(SOURCES_BS[:1], torch.tensor([[START, *written]]))
        written.append(int(logits_BTV[0, -1].argmax()))
        if written[-1] == END:
            break
    (found,) = greedy_decode(model, SOURCES_BS[:1])
    assert text(found) == tuple(written)


@settings(max_examples=10)
@given(SEED, st.integers(1, 6), STRENGTH)
def test_what_a_beam_says_of_its_sentences_is_so(seed, beam_width, strength):
    model = build(seed)
    beams = beam_decode(
        model, SOURCES_BS, beam_width=beam_width, length_strength=strength, max_tokens=4
    )
    for row, beam in enumerate(beams):
        written = [text(one) for one in beam]
        assert len(set(written)) == len(written) == beam_width
        totals = log_probabilities(model, SOURCES_BS[row : row + 1], written)
        assert [one.log_probability for one in beam] == pytest.approx(totals, abs=1e-4)
        for one, tokens in zip(beam, written, strict=True):
            penalty = length_penalty(len(tokens), strength)
            assert one.score == pytest.approx(one.log_probability / penalty)
            assert END not in one.tokens
            assert one.ended or len(one.tokens) == 4
        scores = [one.score for one in beam]
        assert scores == sorted(scores, reverse=True)


def test_a_beam_finds_what_greedy_misses():
    seeds = [
        seed
        for seed in range(10)
        if beam_decode(build(seed), SOURCES_BS[:1], beam_width=4, length_strength=0)[0][0].score
        > greedy_decode(build(seed), SOURCES_BS[:1])[0].score + 1e-3
    ]
    assert seeds


def test_a_stronger_penalty_prefers_longer_sentences():
    lengths = []
    for strength in (0.0, 0.6, 4.0):
        found = []
        for seed in range(4):
            model = build(seed)
            with torch.no_grad():  # the end is likely at any place
                model.decoder.final_norm.bias.copy_(model.embedding.weight[END])
            settings = {"beam_width": 85, "length_strength": strength, "max_tokens": MOST}
            found += beam_decode(model, SOURCES_BS, **settings)
        lengths.append(sum(len(text(beam[0])) for beam in found))
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


@given(st.integers(1, 100), st.floats(0, 3))
def test_the_length_penalty_grows_from_one(num_tokens, strength):
    assert length_penalty(1, strength) == 1
    assert length_penalty(num_tokens, 0) == 1
    assert length_penalty(num_tokens + 1, strength) >= length_penalty(num_tokens, strength)
    assert length_penalty(7, 1) == pytest.approx(2)


def test_rows_do_not_depend_on_each_other():
    model = build(7)
    together = beam_decode(model, SOURCES_BS, beam_width=3)
    greedy = greedy_decode(model, SOURCES_BS)
    for row, num in enumerate((4, 2, 3)):
        source_1S = SOURCES_BS[row : row + 1, :num]
        (alone,) = beam_decode(model, source_1S, beam_width=3)
        assert [one.tokens for one in alone] == [one.tokens for one in together[row]]
        assert greedy_decode(model, source_1S)[0].tokens == greedy[row].tokens


def test_the_end_stops_a_sentence_and_the_most_tokens_cut_it():
    model = build()
    with torch.no_grad():  # every next token is the one whose embedding the last norm's bias has
        model.embedding.weight.copy_(torch.eye(MINI.vocabulary_size, MINI.width))
        model.decoder.final_norm.weight.zero_()
        model.decoder.final_norm.bias.copy_(9 * model.embedding.weight[END])
    assert greedy_decode(model, SOURCES_BS)[0] == Hypothesis(
        tokens=(),
        log_probability=pytest.approx(0, abs=0.01),
        score=pytest.approx(0, abs=0.01),
        ended=True,
    )
    with torch.no_grad():
        model.decoder.final_norm.bias.copy_(9 * model.embedding.weight[3])
    assert [one.tokens for one in greedy_decode(model, SOURCES_BS, max_tokens=2)] == [(3, 3)] * 3
    assert not greedy_decode(model, SOURCES_BS)[0].ended
    assert len(greedy_decode(model, SOURCES_BS)[0].tokens) == MINI.context_length


def test_mode_gradients_and_random_state_are_left_alone():
    model, before = build(dropout=0.5).train(), torch.get_rng_state()
    one, two = (beam_decode(model, SOURCES_BS) for _ in range(2))
    assert one == two
    assert greedy_decode(model, SOURCES_BS) == greedy_decode(model, SOURCES_BS)
    assert model.training and model.decoder.training
    assert torch.equal(before, torch.get_rng_state())
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"beam_width": 0}, "beam_width=0 must be at least 1"),
        ({"length_strength": -0.1}, r"length_strength=-0.1 is outside \[0, inf\)"),
        ({"length_strength": math.nan}, "length_strength=nan is outside"),
        ({"max_tokens": 7}, "max_tokens=7 is more than context_length=6"),
        ({"max_tokens": 0}, "max_tokens=0 must be at least 1"),
    ],
)
def test_settings_that_cannot_be(arguments, words):
    with pytest.raises(ValueError, match=words):
        beam_decode(build(), SOURCES_BS, **arguments)


@pytest.mark.parametrize("decode", [greedy_decode, beam_decode])
def test_what_cannot_be_decoded(decode):
    with pytest.raises(ValueError, match="row 0 of 1 is an empty sentence"):
        decode(build(), torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="source: token 5 is outside vocabulary_size=5"):
        decode(build(), torch.full((1, 3), 5))
    with pytest.raises(ValueError, match="must be an EncoderDecoder"):
        decode(torch.nn.Linear(2, 2), SOURCES_BS)
