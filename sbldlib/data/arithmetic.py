"""Generated reasoning problems whose answers are right or wrong: accuracy as a real number.

Legend: B problems, T tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import check_choice, check_positive_int, check_seed, items
from .draws import Draws
from .reading import SPLITS

MAX_DEPTH = 8
MAX_PROBLEMS = 10**7  # in memory at once
MAX_TRIES = 10_000  # a split holds a fifth of the problems, so a miss means that it holds none


class Encoder(Protocol):
    """What turns text into token numbers."""

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem: after `prompt`, the text `answer` is right; it ends with a line end."""

    kind: str
    depth: int
    prompt: str
    answer: str


# Each kind draws (question, answer, key). Problems with one key fall into one split: the question,
# or its operands in order, so that 5+7 in training does not give 7+5 away.


def _add(draws: Draws, depth: int) -> tuple[str, str, str]:
    a, b = draws.below(10**depth), draws.below(10**depth)
    return f"{a}+{b}", str(a + b), f"{min(a, b)}+{max(a, b)}"


def _subtract(draws: Draws, depth: int) -> tuple[str, str, str]:
    a, b = draws.below(10**depth), draws.below(10**depth)
    return f"{a}-{b}", str(a - b), f"{a}-{b}"


def _compare(draws: Draws, depth: int) -> tuple[str, str, str]:
    a = draws.below(10**depth)
    b = (
        a + 1 + draws.below(10**depth - 1)
    ) % 10**depth  # never a itself: a coin flip is right half
    return f"{a}<{b}", str(a < b), f"{min(a, b)}<{max(a, b)}"


def _max(draws: Draws, depth: int) -> tuple[str, str, str]:
    numbers = [draws.below(10**depth) for _ in range(3)]
    shown = ",".join(map(str, numbers))
    return f"max({shown})", str(max(numbers)), f"max{sorted(numbers)}"


def _modular(draws: Draws, depth: int) -> tuple[str, str, str]:
    a, b = draws.below(10 ** (depth + 1)), 2 + draws.below(8)
    return f"{a}%{b}", str(a % b), f"{a}%{b}"


def _parity(draws: Draws, depth: int) -> tuple[str, str, str]:
    bits = "".join(str(draws.below(2)) for _ in range(2 * depth + 4))
    return f"parity {bits}", ("even", "odd")[bits.count("1") % 2], bits


def _copy(draws: Draws, depth: int) -> tuple[str, str, str]:
    digits = "".join(str(draws.below(10)) for _ in range(depth + 1))
    return f"copy {digits}", digits, f"copy {digits}"


def _reverse(draws: Draws, depth: int) -> tuple[str, str, str]:
    digits = "".join(str(draws.below(10)) for _ in range(depth + 1))
    return f"reverse {digits}", digits[::-1], f"reverse {digits}"


def _chain(draws: Draws, depth: int) -> tuple[str, str, str]:
    value = draws.below(10)
    shown = str(value)
    for _ in range(depth):
        sign, operand = "+-*"[draws.below(3)], draws.below(10)
        shown = f"({shown}{sign}{operand})"
        value = {"+": value + operand, "-": value - operand, "*": value * operand}[sign]
    return f"{shown}%10", str(value % 10), shown


KINDS: dict[str, Callable[[Draws, int], tuple[str, str, str]]] = {
    "add": _add,
    "subtract": _subtract,
    "compare": _compare,
    "max": _max,
    "modular": _modular,
    "parity": _parity,
    "copy": _copy,
    "reverse": _reverse,
    "chain": _chain,
}


def generate_problems(
    kinds: str | Sequence[str], depth: int, num: int, split: str = "train", seed: int = 0
) -> tuple[Problem, ...]:
    """Problems of one split, the kinds in turn; each is a function of its number and the arguments.

    No problem of one split is in another, whatever the seeds and depths: the split is a hash of the
    problem's text (3 fifths train, 1 validation, 1 test). Within a split problems repeat where
    there are few, as in sums of two single digits.

    Args:
        kinds: one or more of `KINDS`.
        depth: how hard, in 1..8. "add", "subtract", "compare", "max": numbers of up to depth
            digits. "modular": a number of up to depth + 1 digits modulo 2..9. "parity" of the ones
            in 2 depth + 4 bits. "copy", "reverse": depth + 1 digits. "chain": depth operations
            on single digits, modulo 10.
        num: how many, >= 1.
        split: "train", "validation" or "test".
        seed: a whole number >= 0.

    Raises:
        ValueError: unknown kind or split, a depth or number out of range.
    """
    names = check_kinds(kinds)
    depth = check_depth(depth)
    num = check_positive_int("num", num, maximum=MAX_PROBLEMS)
    seed = check_seed("seed", seed)
    check_choice("split", split, SPLITS)
    return tuple(
        draw_problem(kind, depth, split, Draws(f"problems {kind} {split}", seed, i))
        for i, kind in enumerate(itertools.islice(itertools.cycle(names), num))
    )


def draw_problem(kind: str, depth: int, split: str, draws: Draws) -> Problem:
    """The stream's next problem of this kind that belongs to the split."""
    for _ in range(MAX_TRIES):
        question, answer, key = KINDS[kind](draws, depth)
        if split_of(key) == split:
            return Problem(kind=kind, depth=depth, prompt=f"{question}=", answer=f"{answer}\n")
    raise ValueError(f"kind={kind!r} at depth={depth} has no problem in split {split!r}; go deeper")


def split_of(key: str) -> str:
    """The one split that problems with this key belong to."""
    fifth = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 5
    return {0: "test", 1: "validation"}.get(fifth, "train")


def check_kinds(kinds: str | Sequence[str]) -> tuple[str, ...]:
    """The kinds as a tuple, or ValueError for none or an unknown one."""
    names = (kinds,) if isinstance(kinds, str) else tuple(items("kinds", kinds))
    if not names:
        raise ValueError(f"kinds={kinds!r} names no kind; known: {', '.join(sorted(KINDS))}")
    return tuple(check_choice("kinds", name, KINDS) for name in names)


def check_depth(depth: int) -> int:
    """The depth, or ValueError where it is outside 1..8."""
    number = check_positive_int("depth", depth)
    if number > MAX_DEPTH:
        raise ValueError(f"depth={depth!r} is outside 1..{MAX_DEPTH}")
    return number


def chance_level(problems: Sequence[Problem]) -> float:
    """The share that is right when every kind always gives its most frequent answer, in (0, 1].

    The best score without reading more than the kind; with few problems it is an upper bound.
    """
    answers: dict[tuple[str, int], Counter] = {}
    for problem in _some(problems):
        answers.setdefault((problem.kind, problem.depth), Counter())[problem.answer] += 1
    return sum(max(counts.values()) for counts in answers.values()) / len(problems)


def exact_match(
    model: nn.Module, problems: Sequence[Problem], tokenizer: Encoder, *, batch_size: int = 256
) -> float:
    """The share of problems whose whole answer a greedy decode would give, in [0, 1]."""
    return sum(answered(model, problems, tokenizer, batch_size=batch_size)) / len(problems)


def exact_match_by_kind(
    model: nn.Module, problems: Sequence[Problem], tokenizer: Encoder, *, batch_size: int = 256
) -> dict[str, float]:
    """`exact_match` of each kind among the problems."""
    right, asked = Counter(), Counter()
    correct = answered(model, problems, tokenizer, batch_size=batch_size)
    for problem, is_right in zip(problems, correct, strict=True):
        asked[problem.kind] += 1
        right[problem.kind] += is_right
    return {kind: right[kind] / num for kind, num in asked.items()}


@torch.no_grad()
def answered(
    model: nn.Module, problems: Sequence[Problem], tokenizer: Encoder, *, batch_size: int = 256
) -> tuple[bool, ...]:
    """Whether a greedy decode would give each problem's answer, without decoding.

    A greedy decode gives the answer exactly when each of its tokens is the argmax after the true
    prompt and the true answer so far, so one forward pass with the answers filled in is enough.
    Rows are padded on the right, which a causal model does not see. Runs in evaluation mode and
    restores the mode after.

    Args:
        model: causal; maps tokens [B, T] to logits [B, T, V], or to an output with `.logits`.
        problems: at least one.
        tokenizer: the one the model was trained with.
        batch_size: problems a forward pass.
    """
    check_positive_int("batch_size", batch_size)
    pairs = [(tokenizer.encode(p.prompt), tokenizer.encode(p.answer)) for p in _some(problems)]
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        correct: list[bool] = []
        for start in range(0, len(pairs), batch_size):
            tokens_BT, is_answer_BT = _padded(pairs[start : start + batch_size])
            output = model(tokens_BT[:, :-1].to(device))
            logits_BTV: Tensor = getattr(output, "logits", output)
            hit_BT = logits_BTV.argmax(-1).cpu() == tokens_BT[:, 1:]
            correct += (hit_BT | ~is_answer_BT[:, 1:]).all(1).tolist()
    finally:
        model.train(was_training)
    return tuple(correct)


def _padded(pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Prompts with their answers as one tensor, and where the answers are."""
    width = max(len(prompt) + len(answer) for prompt, answer in pairs)
    tokens_BT = torch.zeros(len(pairs), width, dtype=torch.int64)
    is_answer_BT = torch.zeros(len(pairs), width, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        tokens_BT[row, :end] = torch.tensor(prompt + answer)
        is_answer_BT[row, len(prompt) : end] = True
    return tokens_BT, is_answer_BT


def _some(problems: Sequence[Problem]) -> Sequence[Problem]:
    if not problems:
        raise ValueError("problems=() holds no problem; at least one is needed")
    return problems
