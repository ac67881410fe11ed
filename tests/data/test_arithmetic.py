from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sbldlib.data.arithmetic import (
    KINDS,
    MAX_DEPTH,
    Problem,
    answered,
    chance_level,
    exact_match,
    exact_match_by_kind,
    generate_problems,
)
from sbldlib.data.batches import ProblemBatches
from sbldlib.data.reading import SPLITS
from sbldlib.data.tokenizer import train_tokenizer
from sbldlib.losses import next_token_loss
from sbldlib.models.gpt import GPT
from sbldlib.models.gpt_config import GPTConfig

BYTES = train_tokenizer([], 256)
EXPRESSIONS = ("add", "subtract", "compare", "max", "modular", "chain")
KIND = st.sampled_from(sorted(KINDS))
DEPTH = st.integers(1, MAX_DEPTH)
SPLIT = st.sampled_from(SPLITS)


@given(st.sampled_from(EXPRESSIONS), DEPTH, SPLIT, st.integers(0, 2**64 - 1))
def test_the_answer_is_what_python_says(kind, depth, split, seed):
    for problem in generate_problems(kind, depth, 3, split, seed):
        assert problem.answer == f"{eval(problem.prompt.removesuffix('='))}\n"


@given(DEPTH, SPLIT, st.integers(0, 9))
def test_the_answers_of_the_kinds_that_python_cannot_say(depth, split, seed):
    kinds = ("copy", "reverse", "parity")
    for problem in generate_problems(kinds, depth, 3, split, seed):
        kind, _, digits = problem.prompt.removesuffix("=").partition(" ")
        ones = "odd" if digits.count("1") % 2 else "even"
        right = {"copy": digits, "reverse": digits[::-1], "parity": ones}[kind]
        assert problem.answer == f"{right}\n"
        assert problem.kind == kind and problem.depth == depth


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_problem_lies_in_two_splits_whatever_the_seed_and_depth(kind):
    homes: dict[str, str] = {}
    for split in SPLITS:
        for depth in (1, 2):
            for seed in range(3):
                for problem in generate_problems(kind, depth, 150, split, seed):
                    assert homes.setdefault(problem.prompt, split) == split
    assert set(homes.values()) == set(SPLITS)


@pytest.mark.parametrize(("kind", "mark"), [("add", "+"), ("compare", "<")])
def test_a_mirrored_problem_lies_in_the_same_split(kind, mark):
    def operands(split):
        problems = generate_problems(kind, 1, 300, split)
        return {tuple(sorted(p.prompt.removesuffix("=").split(mark))) for p in problems}

    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not operands(one) & operands(other)


def test_every_kind_has_problems_in_every_split_at_every_depth():
    for kind in KINDS:
        for depth in range(1, MAX_DEPTH + 1):
            for split in SPLITS:
                assert len(set(generate_problems(kind, depth, 60, split))) >= 5


def test_the_splits_hold_three_fifths_and_a_fifth_each():
    sums = {split: set(generate_problems("max", 1, 4000, split)) for split in SPLITS}
    total = sum(map(len, sums.values()))
    assert 990 <= total <= 1000  # nearly all there are
    assert 0.5 < len(sums["train"]) / total < 0.7
    assert 0.15 < len(sums["validation"]) / total < 0.25


@given(st.lists(KIND, min_size=1, unique=True), DEPTH, SPLIT, st.integers(0, 99))
def test_problems_are_a_function_of_their_number(kinds, depth, split, seed):
    problems = generate_problems(kinds, depth, 9, split, seed)
    assert problems == generate_problems(kinds, depth, 20, split, seed)[:9]
    assert [p.kind for p in problems] == [kinds[i % len(kinds)] for i in range(9)]


def test_seeds_give_other_problems_and_depth_gives_longer_ones():
    assert generate_problems("add", 4, 20, seed=0) != generate_problems("add", 4, 20, seed=1)
    for kind in KINDS:
        short, long = (generate_problems(kind, depth, 50) for depth in (1, 4))
        assert sum(len(p.prompt) for p in short) < sum(len(p.prompt) for p in long)


def test_the_chance_level_is_the_best_constant_answer_of_each_kind():
    def problem(kind, answer):
        return Problem(kind=kind, depth=1, prompt="?", answer=answer)

    problems = [problem(kind, answer) for kind, answer in zip("aaaabb", "xxxyzw", strict=True)]
    assert chance_level(problems) == (3 + 1) / 6
    assert abs(chance_level(generate_problems("compare", 3, 2000)) - 0.5) < 0.05
    assert chance_level(generate_problems("add", 3, 2000)) < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ad", 1, 5), "kinds='ad' is not known .did you mean 'add'"),
        (((), 1, 5), "names no kind"),
        (("add", 0, 5), "depth=0"),
        (("add", 9, 5), r"depth=9 is outside 1\.\.8"),
        (("add", 1, 0), "num=0"),
        (("add", 1, 5, "valid"), "split='valid' is not known .did you mean 'validation'"),
        (("add", 1, 5, "train", -1), "seed=-1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate_problems(*arguments)


@pytest.fixture(scope="module")
def half_taught():
    """A small model that answers some problems right and others wrong."""
    sizes = dict(vocabulary_size=256, context_length=48, num_layers=2, num_heads=2, width=32)
    model = GPT(GPTConfig(**sizes, init_std=0.1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    source = ProblemBatches(BYTES, kinds="compare", context_length=48, batch_size=8)
    for step in range(60):
        optimizer.zero_grad()
        next_token_loss(model, source.batch(step)).backward()
        optimizer.step()
    return model


def greedy_answer(model: GPT, problem: Problem) -> str:
    prompt = BYTES.encode(problem.prompt)
    num_tokens = len(BYTES.encode(problem.answer))
    tokens = model.generate(torch.tensor([prompt]), num_tokens, temperature=0)
    return BYTES.decode(tokens[0, len(prompt) :].tolist())


def test_exact_match_is_what_a_greedy_decode_gives(half_taught):
    problems = generate_problems(("compare", "max"), 1, 60, "validation")
    decoded = tuple(greedy_answer(half_taught, p) == p.answer for p in problems)
    assert 5 < sum(decoded) < 55
    assert answered(half_taught, problems, BYTES) == decoded
    assert exact_match(half_taught, problems, BYTES) == sum(decoded) / 60
    by_kind = exact_match_by_kind(half_taught, problems, BYTES)
    assert by_kind == {"compare": sum(decoded[::2]) / 30, "max": sum(decoded[1::2]) / 30}


def test_padding_and_batch_size_do_not_change_the_answers(half_taught):
    problems = generate_problems(("compare", "chain"), 2, 30, "test")
    one_by_one = answered(half_taught, problems, BYTES, batch_size=1)
    assert answered(half_taught, problems, BYTES, batch_size=7) == one_by_one
    assert answered(half_taught, problems, BYTES) == one_by_one


class Output:
    def __init__(self, logits):
        self.logits = logits


class Oracle(nn.Module):
    """Knows one text by heart; wrong from token `wrong_at` on."""

    def __init__(self, text: str, wrong_at: int | None = None) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.next_tokens = BYTES.encode(text)[1:]
        self.wrong_at = wrong_at

    def forward(self, tokens_BT):
        assert not self.training
        logits_BTV = torch.zeros(*tokens_BT.shape, 256)
        for place, token in enumerate(self.next_tokens):
            logits_BTV[:, place, 0 if place + 1 == self.wrong_at else token] = 1
        return Output(logits_BTV)


def test_every_token_of_the_answer_counts_and_none_of_the_prompt():
    problem = Problem(kind="add", depth=2, prompt="60+55=", answer="115\n")
    text = problem.prompt + problem.answer
    assert exact_match(Oracle(text), [problem], BYTES) == 1
    for place in range(1, len(text)):
        expected = place < len(problem.prompt)
        assert answered(Oracle(text, wrong_at=place), [problem], BYTES) == (expected,)


def test_the_mode_is_restored_and_nothing_is_recorded(half_taught):
    problems = generate_problems("compare", 1, 4)
    for training in (True, False):
        half_taught.train(training)
        exact_match(half_taught, problems, BYTES)
        assert half_taught.training is training


def test_no_problem_is_no_accuracy(half_taught):
    with pytest.raises(ValueError, match="holds no problem"):
        exact_match(half_taught, [], BYTES)
    with pytest.raises(ValueError, match="holds no problem"):
        chance_level([])
    with pytest.raises(ValueError, match="batch_size=0"):
        answered(half_taught, generate_problems("add", 1, 1), BYTES, batch_size=0)
