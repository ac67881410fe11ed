"""Heads that look at the right word are counted as such, wherever in the number it stands."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sbldlib.data.number_words import translate_number
from sbldlib.data.translation import make_vocabulary
from sbldlib.models.encoder_decoder import EncoderDecoder
from sbldlib.translation.alignment import measure_alignment

VOCABULARY = make_vocabulary("word")
NUMBERS = (21, 85, 421, 199)
PAIRS = [translate_number(number, "en-de") for number in NUMBERS]
# Written out: in the source ["<de>", "twenty", "-", "one", "<end>"], in the target "ein", "und",
# "zwanzig"; with hundreds, ["<de>", "four", " ", "hundred", " ", "and", " ", "twenty", ...].
RIGHT = [{0: 3, 2: 1}, {0: 3, 2: 1}, {2: 9, 4: 7}, {2: 9, 4: 7}]


@pytest.fixture
def model() -> EncoderDecoder:
    sizes = {"vocabulary_size": VOCABULARY.vocabulary_size, "context_length": 16, "width": 16}
    return EncoderDecoder.from_preset("tiny", **sizes)


def looking(places: list[dict[int, int]]):
    """Weights of 1 layer and 2 heads: head 0 looks at these places, head 1 always at the first."""
    weights = torch.zeros(len(places), 2, 6, 11)
    weights[..., 0] = 0.1
    for row, looks in enumerate(places):
        for target, source in looks.items():
            weights[row, 0, target, source] = 0.9
    return SimpleNamespace(cross=(weights,))


def test_a_head_that_looks_right_has_all_and_another_none(model, monkeypatch):
    monkeypatch.setattr(model, "attention_weights", lambda *_: looking(RIGHT))
    found = measure_alignment(model, PAIRS, VOCABULARY)
    assert found.shares_LH.tolist() == [[1.0, 0.0]] and found.best() == (0, 0)
    assert found.num_words == 8
    assert found.chance == pytest.approx((1 / 5 + 1 / 5 + 1 / 11 + 1 / 11) / 4)


def test_a_head_that_goes_by_place_fails_where_places_move(model, monkeypatch):
    monkeypatch.setattr(model, "attention_weights", lambda *_: looking([RIGHT[0]] * 4))
    assert measure_alignment(model, PAIRS, VOCABULARY).shares_LH[0, 0] == 0.5


def test_the_models_own_maps_are_counted(model):
    found = measure_alignment(model, PAIRS[:1], VOCABULARY)
    source = torch.tensor([VOCABULARY.encode_source("twenty-one", "de")])
    target = VOCABULARY.encode_target("einundzwanzig")
    read = torch.tensor([[VOCABULARY.start, *target[:-1]]])
    for layer, weights in enumerate(model.attention_weights(source, read).cross):
        looks = weights[0].argmax(-1)
        expected = ((looks[:, 0] == 3).float() + (looks[:, 2] == 1)) / 2
        assert torch.equal(found.shares_LH[layer], expected)


@pytest.mark.parametrize(
    "pair",
    [
        translate_number(n, d)
        for n, d in ((20, "en-de"), (30, "en-de"), (13, "en-de"), (21, "de-en"))
    ],
)
def test_numbers_without_a_word_for_each_are_refused(model, pair):
    with pytest.raises(ValueError, match=f"pairs: {pair.number} "):
        measure_alignment(model, [pair], VOCABULARY)
    with pytest.raises(ValueError, match="at least one is needed"):
        measure_alignment(model, [], VOCABULARY)
