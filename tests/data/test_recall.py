"""The recall task: what a row holds, purity, what can be scored by whom, errors."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sbldlib.data import BatchSource
from sbldlib.data.recall import RecallTask, recall_accuracy
from sbldlib.losses import next_token_loss
from sbldlib.models.recurrent import SequenceConfig, SequenceModel
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

T = 24
TASK = RecallTask(num_symbols=4, context_length=T, batch_size=16)


class Reader(nn.Module):
    """Answers with the marked symbol among the last `window` tokens; else with symbol 0."""

    def __init__(self, task: RecallTask, window: int = 10**6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.task, self.window, self.modes, self.sizes = task, window, [], []

    def forward(self, tokens_BT):
        self.modes.append((self.training, torch.is_grad_enabled()))
        self.sizes.append(len(tokens_BT))
        S = self.task.num_symbols
        seen_BT = tokens_BT[:, -self.window :]
        marked_BT = (seen_BT >= S) & (seen_BT < 2 * S)
        answers_B = ((seen_BT - S) * marked_BT).sum(1)
        logits_BTV = torch.zeros(*tokens_BT.shape, self.task.vocabulary_size)
        logits_BTV[torch.arange(len(tokens_BT)), -1, answers_B] = 1
        return logits_BTV


def distances_of(inputs_BT: torch.Tensor, num_symbols: int) -> list[int]:
    marked_BT = (inputs_BT >= num_symbols) & (inputs_BT < 2 * num_symbols)
    assert (marked_BT.sum(1) == 1).all(), "exactly one token is marked"
    return (inputs_BT.shape[1] - 1 - marked_BT.int().argmax(1)).tolist()


@given(
    num_symbols=st.integers(2, 40),
    context_length=st.integers(2, 60),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 2**64 - 1),
    step=st.integers(0, 2**40),
    data=st.data(),
)
def test_a_row_holds_one_marked_symbol_and_ends_with_the_question(
    num_symbols, context_length, batch_size, seed, step, data
):
    distances = data.draw(st.lists(st.integers(1, context_length - 1), max_size=4))
    task = RecallTask(
        num_symbols=num_symbols,
        context_length=context_length,
        batch_size=batch_size,
        distances=tuple(distances),
        seed=seed,
    )
    inputs_BT, targets_BT = task.batch(step)
    assert inputs_BT.shape == targets_BT.shape == (batch_size, context_length)
    assert inputs_BT.dtype == targets_BT.dtype == torch.int64
    drawn = distances_of(inputs_BT, num_symbols)
    assert set(drawn) <= set(distances or range(1, context_length))
    rows_B = torch.arange(batch_size)
    marked_B = inputs_BT[rows_B, context_length - 1 - torch.tensor(drawn)]
    assert torch.equal(targets_BT[:, -1], marked_B - num_symbols)
    assert (targets_BT[:, :-1] == -100).all()
    assert (inputs_BT[:, -1] == task.question).all()
    assert inputs_BT.min() >= 0 and inputs_BT.max() < task.vocabulary_size


def test_a_batch_is_a_pure_function_of_its_arguments():
    assert isinstance(TASK, BatchSource)
    before = torch.get_rng_state()
    first, again = TASK.batch(3, 1), TASK.batch(3, 1)
    assert all(map(torch.equal, first, again))
    assert torch.equal(torch.get_rng_state(), before)
    other_seed = RecallTask(num_symbols=4, context_length=T, batch_size=16, seed=1)
    others = [TASK.batch(4, 1), TASK.batch(3, 0), other_seed.batch(3, 1)]
    for other in others:
        assert not torch.equal(first[0], other[0])


def test_distances_and_answers_are_drawn_evenly():
    task = RecallTask(num_symbols=4, context_length=T, batch_size=4000, distances=(2, 7, 23))
    inputs_BT, targets_BT = task.batch(0)
    by_distance = Counter(distances_of(inputs_BT, 4))
    assert set(by_distance) == {2, 7, 23}
    for count in by_distance.values():
        assert abs(count / 4000 - 1 / 3) < 5 * (2 / 9 / 4000) ** 0.5
    for answer in range(4):
        share = (targets_BT[:, -1] == answer).float().mean().item()
        assert abs(share - task.chance_level) < 5 * (3 / 16 / 4000) ** 0.5


def test_examples_lie_at_one_distance_and_not_among_the_batches():
    inputs_BT, targets_BT = TASK.examples(9, 200)
    assert set(distances_of(inputs_BT, 4)) == {9}
    assert torch.equal(TASK.examples(9, 200)[0], inputs_BT)
    assert not torch.equal(TASK.examples(9, 200, seed=1)[0], inputs_BT)
    assert torch.equal(TASK.examples(9, 50)[1][:, -1], targets_BT[:50, -1])
    trained = {tuple(row) for step in range(30) for row in TASK.batch(step)[0].tolist()}
    assert not trained & {tuple(row) for row in inputs_BT.tolist()}


def test_who_reads_the_mark_is_right_at_every_distance():
    accuracy = recall_accuracy(Reader(TASK), TASK)
    assert accuracy == dict.fromkeys(range(1, T), 1.0)


@pytest.mark.parametrize("window", [4, 11])
def test_beyond_its_window_a_model_is_at_chance(window):
    num_rows = 600
    accuracy = recall_accuracy(Reader(TASK, window), TASK, num_rows=num_rows)
    spread = (TASK.chance_level * (1 - TASK.chance_level) / num_rows) ** 0.5
    for distance, share in accuracy.items():
        if distance < window:
            assert share == 1
        else:
            assert abs(share - TASK.chance_level) < 5 * spread


def test_accuracy_runs_in_evaluation_mode_and_in_parts():
    model = Reader(TASK).train()
    whole = recall_accuracy(model, TASK, [3, 20], num_rows=70, batch_size=70)
    assert list(whole) == [3, 20] and model.training
    assert set(model.modes) == {(False, False)}
    model.eval().sizes.clear()
    window = Reader(TASK, 10)
    assert recall_accuracy(window, TASK, [20], num_rows=70, batch_size=32) == recall_accuracy(
        window, TASK, [20], num_rows=70
    )
    assert window.sizes == [32, 32, 6, 64, 6]
    recall_accuracy(model, TASK, [3])
    assert not model.training


def test_the_mode_is_restored_where_the_model_raises():
    class Broken(Reader):
        def forward(self, tokens_BT):
            raise RuntimeError("broken")

    model = Broken(TASK).train()
    with pytest.raises(RuntimeError, match="broken"):
        recall_accuracy(model, TASK)
    assert model.training


def test_a_model_may_return_an_output_with_logits():
    class Output(Reader):
        def forward(self, tokens_BT):
            return SimpleNamespace(logits=super().forward(tokens_BT))

    assert recall_accuracy(Output(TASK), TASK, [5]) == {5: 1.0}


def test_attention_learns_to_recall_over_any_distance():
    task = RecallTask(num_symbols=4, context_length=16, batch_size=32)
    config = SequenceConfig(
        kind="attention", vocabulary_size=task.vocabulary_size, context_length=16, width=32
    )
    model = SequenceModel(config)
    before = recall_accuracy(model, task, num_rows=64)
    assert sum(before.values()) / len(before) < 0.5
    optimizer = make_optimizer(model, learning_rate=5e-3)
    record = train(model, task, optimizer, config=TrainConfig(budget=Budget(steps=100)))
    assert record.steps[-1].loss_nats < 0.2
    assert next_token_loss(model, task.batch(10**6)).item() < 0.2
    assert min(recall_accuracy(model, task, num_rows=64).values()) >= 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_symbols": 1}, "num_symbols=1 must be at least 2"),
        ({"context_length": 1}, "context_length=1 must be at least 2"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"distances": 3}, "distances=3 must be a list"),
        ({"distances": (0,)}, "distances=0 must be at least 1"),
        ({"distances": (1, 8)}, "distances=8 does not fit.*context_length=8.*furthest is 7"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
    ],
)
def test_a_bad_task_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        RecallTask(**{"context_length": 8, **change})


def test_bad_questions_are_named():
    model = Reader(TASK)
    with pytest.raises(ValueError, match=f"distance={T} does not fit"):
        TASK.examples(T, 3)
    with pytest.raises(ValueError, match="num=0"):
        TASK.examples(3, 0)
    with pytest.raises(ValueError, match=r"distances=\(\) names no distance"):
        recall_accuracy(model, TASK, [])
    with pytest.raises(ValueError, match=f"distances={T} does not fit"):
        recall_accuracy(model, TASK, [2, T])
    with pytest.raises(ValueError, match="batch_size=0"):
        recall_accuracy(model, TASK, batch_size=0)
    with pytest.raises(ValueError, match="task='copy' must be a RecallTask"):
        recall_accuracy(model, "copy")  # pyright: ignore
    assert not model.modes
