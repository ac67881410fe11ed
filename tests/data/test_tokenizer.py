from __future__ import annotations

import heapq
import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.data.tokenizer import END_OF_TEXT, Tokenizer, token_dtype, train_tokenizer

TEXTS = inspect.getsource(heapq).split("\n\n")
BYTES = train_tokenizer([], 256)
SMALL = train_tokenizer(TEXTS, 300)


@given(st.text() | st.text(alphabet="a1 \n\r\t<|>endoftxé漢🙂"))
def test_round_trip_is_exact(text):
    for tokenizer in (BYTES, SMALL):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
def test_plain_bytes_are_the_bytes(text):
    assert BYTES.encode(text) == list(text.encode())


def test_the_whole_vocabulary_is_used_and_no_more():
    for size in (257, 280):
        tokenizer = train_tokenizer(TEXTS, size)
        assert tokenizer.vocabulary_size == size
        assert max(tokenizer.backend.get_vocab().values()) == size - 1


def test_merging_makes_the_text_shorter():
    assert len(SMALL.encode_documents(TEXTS)) < 0.8 * len(BYTES.encode_documents(TEXTS))


def test_every_digit_is_a_token_of_its_own():
    digits = [token for token in SMALL.backend.get_vocab() if set(token) & set("0123456789")]
    assert sorted(digits) == list("0123456789")
    assert len(SMALL.encode("12345")) == 5


def test_the_words_for_the_end_of_text_are_not_the_token():
    assert SMALL.end_of_text not in SMALL.encode(f"a{END_OF_TEXT}b")
    assert SMALL.decode([SMALL.end_of_text]) == END_OF_TEXT
    assert BYTES.end_of_text == 0


def test_a_cut_letter_shows_as_the_replacement_character():
    assert BYTES.decode(list("é".encode())[:1]) == "\N{REPLACEMENT CHARACTER}"


def test_training_twice_gives_the_same_tokenizer():
    assert train_tokenizer(iter(TEXTS), 300) == SMALL
    assert train_tokenizer(TEXTS, 299) != SMALL


def test_saved_and_loaded_it_is_the_same(tmp_path):
    path = SMALL.save(tmp_path / "deep" / "tokenizer.json")
    loaded = Tokenizer.load(path)
    assert loaded == SMALL
    text = f"{END_OF_TEXT} return 42"
    assert loaded.encode(text) == SMALL.encode(text)
    assert [entry.name for entry in path.parent.iterdir()] == ["tokenizer.json"]


def test_documents_are_joined_by_the_end_of_text():
    texts = ["number 1", "", "number 2"]
    end = SMALL.end_of_text
    expected = [token for text in texts for token in [*SMALL.encode(text), end]]
    tokens = SMALL.encode_documents(texts)
    assert tokens.tolist() == expected
    assert tokens.dtype == np.uint16


def test_chunks_do_not_change_the_tokens(monkeypatch):
    whole = SMALL.encode_documents(TEXTS)
    monkeypatch.setattr("sbldlib.data.tokenizer.ENCODED_CHARACTERS", 100)
    assert (SMALL.encode_documents(TEXTS) == whole).all()


def test_bad_sizes_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="vocabulary_size=255 must be at least 256"):
        train_tokenizer(TEXTS, 255)
    with pytest.raises(ValueError, match=r"vocabulary_size=50000 is more .* end at \d+ tokens"):
        train_tokenizer(TEXTS, 50_000)
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(ValueError, match="no tokenizer"):
        Tokenizer.load(tmp_path / "t.json")


@pytest.mark.parametrize(("size", "num_bytes"), [(256, 2), (65_536, 2), (65_537, 4)])
def test_tokens_take_the_bytes_that_their_vocabulary_needs(size, num_bytes):
    dtype = token_dtype(size)
    assert dtype.itemsize == num_bytes
    assert np.iinfo(dtype).max >= size - 1
