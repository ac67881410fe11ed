"""Text in, and what the model writes, looks at and computes comes out; bad text is refused."""

from __future__ import annotations

import pytest
import torch

from sbldlib.data.translation import make_vocabulary
from sbldlib.models.beam import greedy_decode
from sbldlib.models.encoder_decoder import EncoderDecoder
from sbldlib.translation.translator import Translator

VOCABULARY = make_vocabulary("word")
SIZES = {"vocabulary_size": VOCABULARY.vocabulary_size, "width": 16, "context_length": 8}


@pytest.fixture
def translator() -> Translator:
    return Translator(
        model=EncoderDecoder.from_preset("tiny", seed=2, **SIZES), vocabulary=VOCABULARY
    )


@pytest.mark.parametrize(
    ("text", "words", "language"),
    [("twenty-one", "twenty-one", "de"), ("fr: 21", "21", "fr"), (" en :zwei ", "zwei", "en")],
)
def test_it_writes_what_the_model_writes(translator, text, words, language):
    source = torch.tensor([VOCABULARY.encode_source(words, language)])
    (expected,) = greedy_decode(translator.model, source)
    assert translator.write(text) == VOCABULARY.decode(expected.tokens)
    flow = translator.trace(text)
    assert [VOCABULARY.symbols[t] for t in expected.tokens] == list(
        flow.written[: len(expected.tokens)]
    )


def test_its_maps_name_what_is_written_and_what_is_read(translator):
    maps = translator.attend("twenty-one")
    written = translator.trace("twenty-one").written
    assert list(maps) == ["cross", "encoder", "decoder"]
    assert maps["encoder"].keys == ("<de>", "twenty", "-", "one", "<end>") == maps["cross"].keys
    assert maps["cross"].queries == written
    assert maps["decoder"].queries == ("<start>", *written[:-1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no word"),
        ("fr: ", "holds no word"),
        ("it: two", "language='it' is not known"),
        ("twenty-un!", "'!' starts with no symbol"),
        ("1" * 7, "makes 9 tokens, more than the model's context_length=8"),
        (21, "text=21 must be text"),
    ],
)
def test_text_that_cannot_be_read_is_refused(translator, text, message):
    for method in (translator.write, translator.attend, translator.trace):
        with pytest.raises(ValueError, match=message):
            method(text)


def test_another_vocabulary_or_language_is_refused(translator):
    with pytest.raises(ValueError, match=r"vocabulary_size=\d+, the vocabulary \d+"):
        Translator(model=translator.model, vocabulary=make_vocabulary("character"))
    with pytest.raises(ValueError, match="language='it'"):
        Translator(model=translator.model, vocabulary=VOCABULARY, language="it")
