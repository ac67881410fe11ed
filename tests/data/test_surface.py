from __future__ import annotations

import pytest
from lined import SYMBOLS, made_files

from sbldlib.data.masking import PairBatches, collate
from sbldlib.data.surface import lengths, rule_accuracy, shared_tokens


def test_lengths_count_special_tokens_with_their_span():
    batch = collate([([1, 2], [3]), ([4], [5, 6])], symbols=SYMBOLS, context_length=9)
    assert lengths(batch)[:, :2].tolist() == [[4, 2], [3, 3]]


def test_shared_tokens_look_behind_the_masks():
    batch = collate([([1, 2, 3], [2, 9, 9]), ([1, 2], [5])], symbols=SYMBOLS, context_length=10)
    batch["labels"] = batch["input_ids"].clone().fill_(-100)
    assert shared_tokens(batch)[:, 0].tolist() == [0.5, 0.0]
    batch["input_ids"][0, 2], batch["labels"][0, 2] = SYMBOLS.mask, 2
    assert shared_tokens(batch)[0, 0] == 0.5


def test_lengths_are_at_chance_and_shared_tokens_are_not():
    source = PairBatches(made_files(), symbols=SYMBOLS, context_length=43, batch_size=64)
    train = [source.batch(step) for step in range(16)]
    held_out = [source.batch(step) for step in range(100, 116)]
    assert abs(rule_accuracy(lengths, train, held_out) - 0.5) < 0.07  # 4 standard errors
    # Files share no token here, so that the rule is nearly perfect.
    assert rule_accuracy(shared_tokens, train, held_out) > 0.9


def test_no_batches():
    source = PairBatches(made_files(), symbols=SYMBOLS, context_length=43, batch_size=4)
    with pytest.raises(ValueError, match=r"held_out=.. holds no batch"):
        rule_accuracy(lengths, [source.batch(0)], [])
