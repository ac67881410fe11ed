from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lined import SYMBOLS, made_files

from sbldlib.data.draws import Draws
from sbldlib.data.masking import PairBatches, collate, hide_tokens, prepare_pairs
from sbldlib.data.pairs import Symbols


def batches(**changes) -> PairBatches:
    values = {"symbols": SYMBOLS, "context_length": 43, "batch_size": 16, **changes}
    return PairBatches(made_files(), **values)


@settings(max_examples=30, deadline=None)
@given(step=st.integers(0, 10**6), seed=st.integers(0, 10**6))
def test_properties_of_a_batch(step, seed):
    batch = batches(seed=seed).batch(step)
    tokens, labels = batch["input_ids"], batch["labels"]
    hidden = labels != -100
    original = torch.where(hidden, labels, tokens)
    special = original >= 256
    assert tokens.shape == (16, 43) and tokens.dtype == torch.int64
    assert not (hidden & special).any()
    assert (labels[hidden] < 256).all()
    kept = batch["attention_mask"].bool()
    assert torch.equal(kept, original != SYMBOLS.padding)
    assert (original == SYMBOLS.classifier).sum() == 16
    assert ((original == SYMBOLS.separator).sum(1) == 2).all()
    counts = (kept & ~special).sum(1)
    asked = np.maximum(1, np.round(0.15 * counts.numpy()))
    assert hidden.sum(1).tolist() == asked.tolist()
    assert not (batch["token_type_ids"].bool() & ~kept).any()
    mask_places = tokens == SYMBOLS.mask
    assert not (mask_places & ~hidden).any()


def test_eighty_ten_ten():
    source = batches(batch_size=64)
    found = [source.batch(step) for step in range(40)]
    tokens = torch.cat([batch["input_ids"] for batch in found])
    labels = torch.cat([batch["labels"] for batch in found])
    hidden = labels != -100
    num = int(hidden.sum())
    masked = int((tokens[hidden] == SYMBOLS.mask).sum()) / num
    same = int((tokens[hidden] == labels[hidden]).sum()) / num
    error = 4 * (0.8 * 0.2 / num) ** 0.5
    assert num > 10_000
    assert abs(masked - 0.8) < error
    assert abs(same - 0.1 - 0.1 / 256) < error  # a random token may be the same one
    assert abs(1 - masked - same - 0.1) < error


def test_every_place_of_a_row_is_hidden_alike():
    tokens = torch.arange(40).expand(2000, 40)
    hidden = hide_tokens(tokens, symbols=SYMBOLS, draws=Draws("test", 0))["labels"] != -100
    shares = hidden.float().mean(0)
    assert abs(float(shares.mean()) - 0.15) < 1e-6
    assert float(shares.min()) > 0.15 - 0.04 and float(shares.max()) < 0.15 + 0.04


def test_a_batch_is_a_function_of_seed_step_and_micro_batch():
    one, again = batches(seed=3).batch(7, 1), batches(seed=3).batch(7, 1)
    assert all(torch.equal(one[name], again[name]) for name in one)
    for other in (
        batches(seed=4).batch(7, 1),
        batches(seed=3).batch(8, 1),
        batches(seed=3).batch(7),
    ):
        assert not torch.equal(one["input_ids"], other["input_ids"])


def test_the_label_says_whether_the_tokens_follow():
    batch = batches(batch_size=64).batch(0)
    original = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
    for row, label in enumerate(batch["next_sentence_label"].tolist()):
        kept = original[row] < 256
        second = batch["token_type_ids"][row].bool()
        files = [set((original[row][kept & side] // 60).tolist()) for side in (~second, second)]
        assert (files[0] == files[1]) == (label == 0)


def test_collate_fills_up():
    batch = collate([([1, 2], [3]), ([4], None)], symbols=SYMBOLS, context_length=8)
    assert batch["input_ids"].tolist() == [
        [257, 1, 2, 258, 3, 258, 256, 256],
        [257, 4, 258, 256, 256, 256, 256, 256],
    ]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 0, 0], [0] * 8]
    assert batch["attention_mask"].tolist() == [[1] * 6 + [0] * 2, [1] * 3 + [0] * 5]


def test_bad_rows():
    with pytest.raises(ValueError, match="holds no row"):
        collate([], symbols=SYMBOLS, context_length=8)
    with pytest.raises(ValueError, match="first sentence is empty"):
        collate([([], None)], symbols=SYMBOLS, context_length=8)
    with pytest.raises(ValueError, match="exceeds context_length=8"):
        collate([([1] * 7, None)], symbols=SYMBOLS, context_length=8)
    with pytest.raises(ValueError, match="row 1 holds no ordinary token"):
        tokens = torch.tensor([[257, 5, 258], [257, 258, 256]])
        hide_tokens(tokens, symbols=SYMBOLS, draws=Draws("test", 0))
    with pytest.raises(ValueError, match=r"symbols=.* must be Symbols"):
        batches(symbols=(1, 2, 3, 4))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for file in range(60):
        lines = [f"    name_{file} = call(other_{file}, {line})" for line in range(40)]
        (folder / f"{file}.py").write_text("\n".join(lines))
    settings = {"vocabulary_size": 265, "context_length": 43, "batch_size": 8}
    cache = tmp_path_factory.mktemp("cache")
    return prepare_pairs(root=folder, folder=cache, validation_batches=3, **settings)


def test_no_file_is_in_both_splits(prepared):
    train = {file.path for file in prepared.train_files}
    validation = {file.path for file in prepared.validation_files}
    assert train and validation and not train & validation
    lines = [
        {
            file.tokens[s:e].tobytes()
            for file in files
            for s, e in zip(file.starts, file.starts[1:], strict=False)
        }
        for files in (prepared.train_files, prepared.validation_files)
    ]
    assert not lines[0] & lines[1]  # each file's lines name the file


def test_prepared_data_is_ready_to_train_on(prepared):
    assert prepared.vocabulary_size == 269 and prepared.symbols == Symbols.after(265)
    assert len(prepared.validation) == 3
    batch = prepared.train.batch(0)
    assert batch["input_ids"].shape == (8, 43)
    assert int(batch["input_ids"].max()) < prepared.vocabulary_size
    assert "files" in prepared.description and len(prepared.fingerprint) == 64


def test_a_text_with_a_hole(prepared):
    decode, mask = prepared.tokenizer.decode, prepared.symbols.mask
    tokens = prepared.encode("name_1 = [MASK](other_1,\n 3)")
    place = tokens.index(mask)
    assert tokens.count(mask) == 1
    assert decode(tokens[:place]) == " name_1 =" and decode(tokens[place + 1 :]) == "(other_1, 3)"
    assert prepared.encode("[MASK]") == [mask]
    assert prepared.encode("[MASK] = 3")[0] == mask
    whole = prepared.encode("name_1 = call")
    assert whole == prepared.tokenizer.encode(" name_1 = call")
    with pytest.raises(ValueError, match="holds no word"):
        prepared.encode("  \n")
