from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.data import corpus_from_texts, prepare_tokens
from sbldlib.data.arithmetic import KINDS, generate_problems
from sbldlib.data.batches import (
    IGNORE,
    BatchSource,
    MixedBatches,
    ProblemBatches,
    TokenBatches,
    check_vocabulary,
    sequential_batches,
)
from sbldlib.data.tokenizer import train_tokenizer
from sbldlib.losses import IGNORE as LOSS_IGNORE

BYTES = train_tokenizer([], 256)
COUNT = np.arange(1000, dtype=np.uint16)  # token = place, so that a batch shows where it was taken
SIZES = dict(context_length=48, batch_size=3)


def of_count(**changes) -> TokenBatches:
    return TokenBatches(COUNT, **{**SIZES, **changes})


def of_sums(**changes) -> ProblemBatches:
    return ProblemBatches(BYTES, **{**SIZES, "kinds": "add", "depth": 4, **changes})


SOURCES = {
    "tokens": of_count,
    "problems": of_sums,
    "mixed": lambda **changes: MixedBatches([of_count(**changes), of_sums(**changes)], [2, 1]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_batch_is_a_pure_function_of_seed_step_micro_batch_and_rank(name):
    source = SOURCES[name]()
    assert isinstance(source, BatchSource)
    first = source.batch(5, 1)
    source.batch(6)
    again = SOURCES[name]().batch(5, 1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for tensor in first:
        assert tensor.dtype == torch.int64 and tensor.shape == (3, 48) and tensor.is_contiguous()
    others = [
        first,
        source.batch(5, 0),
        source.batch(1, 5),
        source.batch(6, 1),
        SOURCES[name](seed=1).batch(5, 1),
        SOURCES[name](rank=1).batch(5, 1),
    ]
    assert len({tuple(inputs.flatten().tolist()) for inputs, _ in others}) == len(others)


@pytest.mark.parametrize("name", SOURCES)
def test_global_random_state_is_not_touched(name):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    SOURCES[name]().batch(0)
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 5))
def test_targets_are_the_tokens_after_the_inputs(step, context_length, batch_size):
    source = TokenBatches(COUNT, context_length=context_length, batch_size=batch_size)
    inputs, targets = source.batch(step)
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(context_length))


def test_every_place_is_drawn_first_and_last_among_them():
    source = TokenBatches(COUNT[:20], context_length=9, batch_size=100)
    starts = torch.cat([source.batch(step)[0][:, 0] for step in range(20)])
    counts = torch.bincount(starts, minlength=11)
    assert len(counts) == 11  # 20 tokens hold blocks of 10 at places 0..10
    assert (counts - 2000 / 11).abs().max() < 5 * (2000 / 11) ** 0.5


def test_places_are_the_same_on_every_machine():
    assert of_count().batch(3)[0][:, 0].tolist() == [11, 157, 538]


def test_a_text_of_one_block_is_enough_and_one_token_less_is_not():
    exact = TokenBatches(COUNT[:49], **SIZES)
    assert exact.batch(0)[0][:, 0].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="context_length=48 needs 49 tokens; the text has 48"):
        TokenBatches(COUNT[:48], **SIZES)


def test_token_files_tensors_and_arrays_give_the_same(tmp_path):
    file = prepare_tokens(corpus_from_texts({"train": ["abc" * 99]}), BYTES, tmp_path)["train"]
    array = np.array(file.tokens)
    expected = TokenBatches(file, **SIZES, vocabulary_size=256).batch(0)
    for tokens in (array, torch.from_numpy(array.astype(np.int64))):
        given_batch = TokenBatches(tokens, **SIZES).batch(0)
        assert all(torch.equal(a, b) for a, b in zip(given_batch, expected, strict=True))
    with pytest.raises(ValueError, match="vocabulary_size=100 of the model"):
        TokenBatches(file, **SIZES, vocabulary_size=100)


def test_a_vocabulary_that_lacks_tokens_is_refused():
    check_vocabulary(BYTES, 256)
    check_vocabulary(BYTES, 320)
    with pytest.raises(ValueError, match=r"vocabulary_size=255 .* smaller than the tokens' 256"):
        check_vocabulary(BYTES, 255)
    of_count(vocabulary_size=1000)
    with pytest.raises(ValueError, match="build the model with vocabulary_size=1000"):
        of_count(vocabulary_size=999)


@pytest.mark.parametrize("make", [of_count, of_sums])
@pytest.mark.parametrize("field", ["context_length", "batch_size", "seed", "rank"])
def test_sizes_out_of_range_are_named(make, field):
    with pytest.raises(ValueError, match=f"{field}=-1"):
        make(**{field: -1})
    with pytest.raises(ValueError, match=f"{field}=1.5"):
        make(**{field: 1.5})


def test_zero_sizes_and_steps_below_zero_are_named():
    for make in (of_count, of_sums):
        for field in SIZES:
            with pytest.raises(ValueError, match=f"{field}=0"):
                make(**{field: 0})
        with pytest.raises(ValueError, match="counter=-1"):
            make().batch(-1)


@pytest.mark.parametrize("tokens", [COUNT.reshape(10, 100), COUNT.astype(float)])
def test_tokens_of_another_shape_or_type_are_refused(tokens):
    with pytest.raises(ValueError, match="must be whole numbers in one dimension"):
        TokenBatches(tokens, **SIZES)


def problems_in(inputs_T, targets_T) -> list[str]:
    """The problems that a row holds, read back from its tokens."""
    last = targets_T[(targets_T != IGNORE).nonzero().max()]
    tokens = [*inputs_T[: (targets_T != IGNORE).nonzero().max() + 1].tolist(), int(last)]
    return BYTES.decode(tokens).splitlines(keepends=True)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_rows_hold_whole_problems_of_the_train_split_with_loss_on_the_answers(kind):
    train = {p.prompt + p.answer for p in generate_problems(kind, 1, 3000, "train")}
    held_out = {
        p.prompt + p.answer
        for split in ("validation", "test")
        for p in generate_problems(kind, 1, 300, split)
    }
    source = ProblemBatches(BYTES, kinds=kind, depth=1, context_length=64, batch_size=4)
    inputs_BT, targets_BT = source.batch(0)
    for inputs_T, targets_T in zip(inputs_BT, targets_BT, strict=True):
        problems = problems_in(inputs_T, targets_T)
        assert len(problems) >= 2
        assert set(problems) <= train - held_out
        used = sum(map(len, problems))
        assert 65 - used <= max(map(len, train))
        expected = "".join(problem.partition("=")[2] for problem in problems)
        assert BYTES.decode(targets_T[targets_T != IGNORE].tolist()) == expected
        assert (inputs_T[used:] == BYTES.end_of_text).all()
        assert (targets_T[used - 1 :] == IGNORE).all()
        learnt = targets_T != IGNORE
        assert torch.equal(targets_T[:-1][learnt[:-1]], inputs_T[1:][learnt[:-1]])


def test_loss_on_all_teaches_the_prompts_as_well():
    inputs, answers = of_sums().batch(0)
    same_inputs, everything = of_sums(loss_on="all").batch(0)
    assert torch.equal(inputs, same_inputs)
    for inputs_T, targets_T in zip(inputs, everything, strict=True):
        num = int((targets_T != IGNORE).sum())
        assert torch.equal(targets_T[: num - 1], inputs_T[1:num])
        assert (targets_T[num:] == IGNORE).all()
    assert (answers != IGNORE).sum() < (everything != IGNORE).sum()
    with pytest.raises(ValueError, match=r"loss_on='prompts' is not known.*; known: all, answers"):
        of_sums(loss_on="prompts")


def test_steps_bring_other_problems_and_all_kinds():
    source = of_sums(kinds=list(KINDS), depth=2, batch_size=8)
    rows = [
        set(problems_in(inputs_T, targets_T))
        for step in range(6)
        for inputs_T, targets_T in zip(*source.batch(step), strict=True)
    ]
    problems = set().union(*rows)
    assert len(problems) > 0.9 * sum(map(len, rows))
    shown = "".join(problems)
    assert all(mark in shown for mark in ("copy", "reverse", "parity", "max", "%10=", "<", "+"))


def test_a_problem_longer_than_a_row_is_named():
    with pytest.raises(ValueError, match=r"context_length=8 is too short for 'reverse \d+=\d+"):
        of_sums(kinds="reverse", context_length=8).batch(0)


def test_an_ignored_target_is_what_the_loss_ignores():
    assert IGNORE == LOSS_IGNORE


def test_mixed_batches_take_the_first_rows_of_each_source_in_order():
    mixed = SOURCES["mixed"]()
    inputs, targets = mixed.batch(7, 2)
    text, sums = of_count().batch(7, 2), of_sums().batch(7, 2)
    assert torch.equal(inputs, torch.cat([text[0][:2], sums[0][:1]]))
    assert torch.equal(targets, torch.cat([text[1][:2], sums[1][:1]]))
    assert mixed.batch_size == 3


def test_sources_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match=r"num_rows=\(1,\) must hold one number for each of the 2"):
        MixedBatches([of_count(), of_sums()], [1])
    with pytest.raises(ValueError, match="there must be one"):
        MixedBatches([], [])
    with pytest.raises(ValueError, match="num_rows=0"):
        MixedBatches([of_count()], [0])
    with pytest.raises(ValueError, match=r"sources\[1\] gives 3 rows where num_rows asks for 4"):
        MixedBatches([of_count(), of_sums()], [1, 4]).batch(0)
    with pytest.raises(ValueError, match=r"context lengths differ: \[20, 48\]"):
        MixedBatches([of_count(), of_sums(context_length=20)], [1, 1]).batch(0)


@given(st.integers(2, 120), st.integers(1, 12), st.integers(1, 4))
def test_sequential_batches_walk_the_text_without_overlap(num_tokens, context_length, batch_size):
    block = context_length * batch_size
    available = (num_tokens - 1) // block
    if not available:
        with pytest.raises(ValueError, match=str(num_tokens)):
            sequential_batches(COUNT[:num_tokens], context_length, batch_size)
        return
    batches = sequential_batches(COUNT[:num_tokens], context_length, batch_size)
    assert len(batches) == available
    inputs = torch.cat([inputs for inputs, _ in batches])
    assert inputs.flatten().tolist() == list(range(available * block))
    assert all(torch.equal(targets, inputs + 1) for inputs, targets in batches)


def test_sequential_batches_give_the_number_asked_or_say_how_many_there_are():
    first = sequential_batches(COUNT, 10, 3, 2)
    assert len(first) == 2
    assert torch.equal(first[1][0], sequential_batches(COUNT, 10, 3)[1][0])
    with pytest.raises(ValueError, match=r"num_batches=34 .* need 1021 tokens; .* enough for 33"):
        sequential_batches(COUNT, 10, 3, 34)
    for field in ("context_length", "batch_size", "num_batches"):
        sizes = dict(context_length=10, batch_size=3, num_batches=2) | {field: 0}
        with pytest.raises(ValueError, match=f"{field}=0"):
            sequential_batches(COUNT, **sizes)


def test_a_token_below_zero_is_named():
    with pytest.raises(ValueError, match=r"tokens=.* hold -3; each must be at least 0"):
        sequential_batches(np.array([1, 2, -3, 4]), 1, 1)
