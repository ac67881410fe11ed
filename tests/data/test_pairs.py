from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from lined import SYMBOLS, made_files

from sbldlib.data.draws import Draws
from sbldlib.data.pairs import (
    PairDraws,
    joined,
    line_files,
    pair_row,
    sentences,
    spans,
)
from sbldlib.data.text import corpus_from_texts
from sbldlib.data.tokenizer import train_tokenizer


def drawn(num: int = 400, context_length: int = 43, seed: int = 0):
    pairs = PairDraws(made_files(), context_length=context_length)
    draws = Draws("test", seed)
    return pairs, [pairs.pair(draws) for _ in range(num)]


def test_sentences_have_no_layout():
    text = "def f(x):\n\n    return   x\t+ 1\n \n"
    assert sentences(text) == [" def f(x):", " return x + 1"]


def test_a_span_that_follows_begins_where_the_first_ends():
    _, found = drawn()
    files = made_files()
    for pair in found:
        file = files[pair.files[0]]
        whole = np.concatenate([pair.first, pair.second]).tolist()
        tokens = file.tokens.tolist()
        inside = any(
            tokens[place : place + len(whole)] == whole
            for place in range(len(tokens) - len(whole) + 1)
        )
        assert inside == pair.follows


def test_half_of_the_pairs_follow_and_the_others_are_of_two_files():
    _, found = drawn(1000)
    follow = sum(pair.follows for pair in found)
    assert 430 < follow < 570
    assert all((pair.files[0] == pair.files[1]) == pair.follows for pair in found)
    for pair in found:
        for span, file in zip((pair.first, pair.second), pair.files, strict=True):
            assert set(span // 60) == {file}


def test_lengths_do_not_tell_which():
    pairs, found = drawn(2000)
    lengths = {
        follows: np.array([(len(p.first), len(p.second)) for p in found if p.follows == follows])
        for follows in (True, False)
    }
    assert pairs.longest == 20 and pairs.shortest == 15
    for side in (0, 1):
        assert set(lengths[True][:, side]) == set(lengths[False][:, side]) == set(range(15, 21))
        gap = lengths[True][:, side].mean() - lengths[False][:, side].mean()
        assert abs(gap) < 0.35  # about 4 standard errors


def test_a_second_span_begins_with_a_line_either_way():
    _, found = drawn()
    files = made_files()
    for pair in found:
        file = files[pair.files[1]]
        heads = {tuple(file.tokens[s : s + len(pair.second)]) for s in file.starts}
        assert tuple(pair.second) in heads


def test_longer_files_are_drawn_more_often():
    short, long = made_files(2, 60)[0], made_files(2, 400)[1]
    pairs = PairDraws((short, long), context_length=43)
    draws = Draws("test", 1)
    first = [pairs.pair(draws).files[0] for _ in range(600)]
    share = len(long) / (len(long) + len(short))
    assert abs(np.mean(first) - share) < 4 * (share * (1 - share) / 600) ** 0.5


def test_pairs_are_a_function_of_the_stream():
    for one, other in zip(drawn(20)[1], drawn(20)[1], strict=True):
        assert np.array_equal(one.first, other.first) and one.files == other.files
    assert [p.files for p in drawn(20)[1]] != [p.files for p in drawn(20, seed=1)[1]]


def test_line_files_of_a_corpus():
    texts = {"train": ["x = 1\n    y = 2\n", "a\nb\nc\n", "short"], "validation": ["z = 3"]}
    corpus = corpus_from_texts(texts)
    tokenizer = train_tokenizer([], 256)
    files = line_files(corpus, "train", tokenizer, min_tokens=6)
    assert [file.path for file in files] == ["train/000000", "train/000001", "train/000002"]
    assert tokenizer.decode(files[0].tokens) == " x = 1 y = 2"
    assert files[0].starts.tolist() == [0, 6]
    with pytest.raises(ValueError, match="holds 1 file"):
        line_files(corpus, "train", tokenizer, min_tokens=12)


def test_joined_text_for_a_decoder():
    files = made_files(2, 3)
    tokens = joined(files, 255)
    assert tokens[len(files[0])] == 255 and tokens[-1] == 255
    assert len(tokens) == len(files[0]) + len(files[1]) + 2


def test_spans_of_a_file_do_not_overlap():
    files = made_files()
    pieces, of = spans(files, num_tokens=12, most_a_file=5)
    assert len(pieces) == len(of) and [of.count(file) for file in range(4)] == [5] * 4
    assert all(len(piece) == 12 for piece in pieces)
    places = []
    for piece, file in zip(pieces, of, strict=True):
        tokens = files[file].tokens.tolist()
        starts = [s for s in files[file].starts if tokens[s : s + 12] == piece.tolist()]
        assert starts
        places.append((file, starts[0]))
    assert all(b[1] >= a[1] + 12 for a, b in pairwise(places) if a[0] == b[0])
    assert spans(files, num_tokens=10**6, most_a_file=5) == ([], [])


def test_a_row_of_two_sentences_and_of_one():
    tokens, segments = pair_row([5, 6], [7], symbols=SYMBOLS, context_length=6)
    assert tokens == [257, 5, 6, 258, 7, 258] and segments == [0, 0, 0, 0, 1, 1]
    tokens, segments = pair_row([5, 259], None, symbols=SYMBOLS, context_length=4)
    assert tokens == [257, 5, 259, 258] and segments == [0] * 4


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([], [1], "first sentence is empty"),
        ([1], [], "second sentence is empty"),
        ([1, 256], None, r"holds token 256, which is neither .* 0\.\.255 nor \[MASK\], 259"),
        ([-1], None, "holds token -1"),
        ([1] * 5, [1] * 3, "row of 11 tokens, .* exceeds context_length=10; .* by 1"),
    ],
)
def test_bad_rows(first, second, message):
    with pytest.raises(ValueError, match=message):
        pair_row(first, second, symbols=SYMBOLS, context_length=10)


def test_bad_files():
    with pytest.raises(ValueError, match="files holds 1; a pair that does not follow needs 2"):
        PairDraws(made_files(1), context_length=43)
    with pytest.raises(ValueError, match=r"files\[1\] of \d+ tokens has no two neighbouring"):
        short = made_files(2, 3)[1]
        PairDraws((made_files(1)[0], short), context_length=43)
    with pytest.raises(ValueError, match="context_length=10 must be at least 11"):
        PairDraws(made_files(), context_length=10)
