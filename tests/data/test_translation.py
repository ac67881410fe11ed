"""Number words as tokens and batches, and what counts as a right translation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

pytest.importorskip("num2words")

from sbldlib.data.batches import BatchSource
from sbldlib.data.number_words import (
    DIRECTIONS,
    HIGHEST,
    LANGUAGES,
    generate_pairs,
    number_words,
    split_of_number,
    translate_number,
)
from sbldlib.data.translation import (
    TranslationBatches,
    encode_pairs,
    exact_match_by_direction,
    make_vocabulary,
    translated,
)
from sbldlib.models.beam import greedy_decode
from sbldlib.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, translation_loss

VOCABULARIES = {unit: make_vocabulary(unit) for unit in ("character", "word")}
CHARACTERS, WORDS = VOCABULARIES["character"], VOCABULARIES["word"]
UNIT = st.sampled_from(sorted(VOCABULARIES))
CONFIG = EncoderDecoderConfig(
    vocabulary_size=CHARACTERS.vocabulary_size,
    context_length=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
    num_heads=2,
    width=16,
)


class Knows(nn.Module):
    """Writes the right translation of some pairs, and padding for others."""

    def __init__(self, pairs, vocabulary) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.vocabulary, self.modes = vocabulary, []
        sources_BS, targets_BT = encode_pairs(pairs, vocabulary, context_length=64)
        self.known = {
            tuple(source): target
            for source, target in zip(sources_BS.tolist(), targets_BT, strict=True)
        }

    def forward(self, source_BS: Tensor, read_BT: Tensor) -> Tensor:
        self.modes.append(self.training)
        B, T = read_BT.shape
        logits_BTV = torch.zeros(B, T, self.vocabulary.vocabulary_size)
        for row, source in enumerate(source_BS.tolist()):
            full = (*source, *[self.vocabulary.padding] * (64 - len(source)))
            if full in self.known:
                targets_T = self.known[full][:T].clamp(min=0)
                logits_BTV[row].scatter_(1, targets_T[:, None], 1.0)
        return logits_BTV


@given(UNIT, st.integers(0, HIGHEST), st.sampled_from(LANGUAGES))
def test_words_of_every_number_survive_their_tokens(unit, number, language):
    vocabulary, text = VOCABULARIES[unit], number_words(number, language)
    tokens = vocabulary.encode(text)
    assert vocabulary.decode(tokens) == text
    assert all(7 <= token < vocabulary.vocabulary_size for token in tokens)
    assert vocabulary.decode([*vocabulary.encode_target(text), 9, 9]) == text
    assert vocabulary.decode(vocabulary.encode_source(text, language)) == text
    assert unit == "word" or len(tokens) == len(text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_are_cut_where_they_are_joined(language):
    for number in range(1000):
        text = number_words(number, language)
        assert WORDS.decode(WORDS.encode(text)) == text
    shown = [WORDS.symbols[token] for token in WORDS.encode(number_words(321, language))]
    assert (
        shown
        == {
            "digits": ["3", "2", "1"],
            "de": ["drei", "hundert", "ein", "und", "zwanzig"],
            "en": ["three", " ", "hundred", " ", "and", " ", "twenty", "-", "one"],
            "fr": ["trois", " ", "cent", " ", "vingt", " ", "et", " ", "un"],
        }[language]
    )


@pytest.mark.parametrize("unit", VOCABULARIES)
def test_special_symbols_come_first_and_are_those_of_the_model(unit):
    vocabulary = VOCABULARIES[unit]
    marks = tuple(f"<{language}>" for language in LANGUAGES)
    assert vocabulary.symbols[:7] == ("<padding>", "<start>", "<end>", *marks)
    assert (vocabulary.padding, vocabulary.start, vocabulary.end) == (
        CONFIG.padding,
        CONFIG.start,
        CONFIG.end,
    )
    assert len(set(vocabulary.symbols)) == vocabulary.vocabulary_size
    assert vocabulary == make_vocabulary(unit)


def test_the_mark_asks_for_a_language():
    one, other = (CHARACTERS.encode_source("21", language) for language in ("de", "fr"))
    assert one[1:] == other[1:] and one[0] != other[0]
    assert one[-1] == CHARACTERS.end
    assert CHARACTERS.symbols[one[0]] == "<de>"


@given(UNIT, st.lists(st.sampled_from(DIRECTIONS), min_size=1, max_size=3), st.integers(0, 9))
@settings(max_examples=20)
def test_batches_are_pairs_of_the_train_split(unit, directions, seed):
    vocabulary = VOCABULARIES[unit]
    source = TranslationBatches(
        vocabulary, directions=directions, context_length=40, batch_size=4, seed=seed
    )
    assert isinstance(source, BatchSource)
    source_BS, targets_BT = source.batch(3, 1)
    assert source_BS.shape == targets_BT.shape == (4, 40)
    assert source_BS.dtype == targets_BT.dtype == torch.int64
    for source_S, targets_T in zip(source_BS.tolist(), targets_BT.tolist(), strict=True):
        mark = vocabulary.symbols[source_S[0]].strip("<>")
        end = targets_T.index(vocabulary.end)
        assert targets_T[end + 1 :] == [-100] * (39 - end)
        assert set(source_S[source_S.index(vocabulary.end) + 1 :]) <= {vocabulary.padding}
        words = vocabulary.decode(source_S), vocabulary.decode(targets_T)
        (number,) = [n for n in range(1000) if number_words(n, mark) == words[1]]
        fits = [name for name in directions if name.endswith(f"-{mark}")]
        assert words[0] in {translate_number(number, name).source for name in fits}
        assert split_of_number(number) == "train"


def test_batches_are_functions_of_seed_step_micro_batch_and_rank():
    def batch(step=0, micro_batch=0, **settings):
        made = TranslationBatches(
            CHARACTERS, directions="en-de", context_length=40, batch_size=8, **settings
        )
        return made.batch(step, micro_batch)

    assert all(map(torch.equal, batch(5, 1), batch(5, 1)))
    others = [batch(6, 1), batch(5, 0), batch(5, 1, seed=1), batch(5, 1, rank=1)]
    assert not any(torch.equal(batch(5, 1)[0], other[0]) for other in others)


def test_pairs_as_tensors():
    pairs = [translate_number(number, "digits-en") for number in (7, 30)]
    source_BS, targets_BT = encode_pairs(pairs, WORDS)
    assert source_BS.shape == (2, 4) and targets_BT.shape == (2, 2)
    assert source_BS[0, 3] == WORDS.padding
    assert [WORDS.decode(row) for row in targets_BT.tolist()] == ["seven", "thirty"]


def test_exact_match_counts_each_direction_by_itself():
    pairs = generate_pairs(("en-de", "de-fr", "fr-digits"), 60, "test")
    known = [pair for pair in pairs if pair.direction == "en-de"]
    known += [pair for pair in pairs if pair.direction == "de-fr"][:5]
    right = sum(pair in known for pair in pairs if pair.direction == "de-fr")
    found = exact_match_by_direction(Knows(known, CHARACTERS), pairs, CHARACTERS, batch_size=7)
    assert found == {"en-de": 1.0, "de-fr": right / 20, "fr-digits": 0.0}


def test_one_wrong_letter_is_a_wrong_translation():
    right = translate_number(21, "en-de")
    wrong = replace(right, target="einundzwanzix")
    short = replace(right, target="einundzwanzi")
    model = Knows([right], CHARACTERS)
    assert translated(model, [right, wrong, short], CHARACTERS) == (True, False, False)


def test_the_mode_is_restored():
    pairs = [translate_number(21, "en-de")]
    model = Knows(pairs, CHARACTERS)
    assert translated(model.train(), pairs, CHARACTERS) == (True,)
    assert model.training and model.modes == [False]


def test_what_is_counted_right_is_what_greedy_decoding_writes():
    model = EncoderDecoder(CONFIG)
    few = TranslationBatches(
        CHARACTERS, directions="digits-en", highest=9, context_length=8, batch_size=16
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for step in range(60):
        optimizer.zero_grad()
        translation_loss(model, few.batch(step)).backward()
        optimizer.step()
    pairs = [translate_number(number, "digits-en") for number in range(10)]
    sources_BS, _ = encode_pairs(pairs, CHARACTERS)
    written = greedy_decode(model, sources_BS)
    decoded = [CHARACTERS.decode(one.tokens) for one in written]
    is_right = translated(model, pairs, CHARACTERS)
    assert is_right == tuple(
        one.ended and text == pair.target
        for one, text, pair in zip(written, decoded, pairs, strict=True)
    )
    assert 2 <= sum(is_right) <= 8  # those that were learnt, and not those that were not seen


BAD = {
    "unit": (lambda: make_vocabulary("letter"), "unit='letter' is not known"),
    "text": (lambda: CHARACTERS.encode("21?"), r"text='21\?': '\?' starts with no symbol"),
    "word": (lambda: WORDS.encode("twentyish"), "'ish' starts with no symbol"),
    "mark": (lambda: CHARACTERS.encode_source("21", "es"), "language='es' is not known"),
    "token": (lambda: CHARACTERS.decode([999]), "token=999 must be at most"),
    "symbols": (lambda: replace(WORDS, symbols=("a", "b")), "must start with"),
    "twice": (lambda: replace(WORDS, symbols=(*WORDS.symbols, "0")), "each symbol once"),
    "no pairs": (lambda: encode_pairs([], WORDS), "pairs=.. holds no pair"),
    "none to match": (lambda: translated(nn.Linear(1, 1), [], WORDS), "holds no pair"),
    "short": (
        lambda: encode_pairs([translate_number(21, "en-de")], CHARACTERS, context_length=13),
        "context_length=13 is too short for 'twenty-one' and 'einundzwanzig' of 14 tokens",
    ),
    "directions": (
        lambda: TranslationBatches(WORDS, directions="en", context_length=9, batch_size=1),
        "directions='en' is not known",
    ),
    "vocabulary": (
        lambda: TranslationBatches(
            40,  # pyright: ignore
            directions="en-de",
            context_length=9,
            batch_size=1,
        ),
        "vocabulary=40 must be a Vocabulary",
    ),
    "batch_size": (
        lambda: TranslationBatches(WORDS, directions="en-de", context_length=9, batch_size=0),
        "batch_size=0 must be at least 1",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit(case):
    make, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        make()
