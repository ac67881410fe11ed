"""Errors have names, and a beam's sentences are set against the greedy one."""

from __future__ import annotations

import pytest

from sbldlib.data.number_words import translate_number
from sbldlib.data.translation import encode_pairs, make_vocabulary
from sbldlib.models.beam import Hypothesis, beam_decode, greedy_decode, length_penalty
from sbldlib.models.encoder_decoder import EncoderDecoder
from sbldlib.translation.pairs import KINDS, Translation, error_kind, translate_pairs

VOCABULARY = make_vocabulary("word")
PAIRS = [translate_number(n, d) for n, d in ((21, "en-de"), (304, "de-fr"), (7, "digits-en"))]


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("ein und zwanzig", "right"),
        ("zwanzig und ein", "order"),
        ("ein zwanzig", "missing"),
        ("", "missing"),
        ("ein und und zwanzig", "too much"),
        ("ein und dreißig", "another word"),
        ("zwei und dreißig", "several"),
        ("zwanzig und zwei", "several"),
        ("zwei zwanzig", "several"),
    ],
)
def test_every_kind_of_error_has_its_name(written, kind):
    assert error_kind(["ein", "und", "zwanzig"], written.split()) == kind
    assert kind in KINDS


def test_what_is_written_is_what_the_decoders_write():
    sizes = {"vocabulary_size": VOCABULARY.vocabulary_size, "context_length": 12, "width": 16}
    model = EncoderDecoder.from_preset("tiny", seed=1, **sizes)
    source, _ = encode_pairs(PAIRS, VOCABULARY)
    found = translate_pairs(model, PAIRS, VOCABULARY, beam_width=3)
    assert tuple(one.greedy for one in found) == greedy_decode(model, source)
    assert tuple(one.beam for one in found) == beam_decode(
        model, source, beam_width=3, length_strength=0.0
    )
    for one, pair in zip(found, PAIRS, strict=True):
        assert one.pair == pair and VOCABULARY.decode(one.target) == pair.target
        assert one.written == VOCABULARY.decode(one.greedy.tokens)
        assert one.gain == one.beam[0].log_probability - one.greedy.log_probability
    without = translate_pairs(model, PAIRS, VOCABULARY)
    assert [one.greedy for one in without] == [one.greedy for one in found]
    assert {one.beam for one in without} == {()}


def hypothesis(num_tokens: int, log_probability: float) -> Hypothesis:
    return Hypothesis(
        tokens=(9,) * num_tokens, log_probability=log_probability, score=0.0, ended=True
    )


def test_a_stronger_penalty_chooses_longer_sentences():
    beam = (hypothesis(2, -2.0), hypothesis(5, -2.5), hypothesis(9, -4.2))
    one = Translation(pair=PAIRS[0], target=(9,), greedy=beam[0], beam=beam, written="")
    chosen = [len(one.best(strength).tokens) for strength in (0.0, 0.6, 1.0, 3.0)]
    assert chosen[0] == 2 and chosen[-1] == 9 and chosen == sorted(chosen)
    score = {
        len(h.tokens): h.log_probability / length_penalty(len(h.tokens) + 1, 0.6) for h in beam
    }
    assert chosen[1] == max(score, key=lambda size: score[size])
    assert one.kind == "too much"
