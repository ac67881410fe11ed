"""The loss: cross-entropy in nats per target token, of any model that gives logits."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sbldlib.losses import (
    IGNORE,
    device_of,
    evaluate_loss,
    logits_of,
    next_token_loss,
    to_device,
)

V = 5


class Table(nn.Module):
    """Logits looked up by token; `form` is how they are returned."""

    def __init__(self, form=lambda logits: logits) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.logits = nn.Parameter(torch.randn(V, V, generator=generator))
        self.dropout = nn.Dropout(0.5)
        self.form = form

    def forward(self, tokens: Tensor):
        return self.form(self.dropout(self.logits[tokens]))


def batch(seed: int = 0, rows: int = 2, tokens: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randint(0, V, (2, rows, tokens), generator=generator)
    return both[0], both[1]


def by_hand(model: Table, inputs: Tensor, targets: Tensor) -> list[float]:
    """-log softmax of each target that carries loss."""
    losses = []
    for token, target in zip(inputs.flatten().tolist(), targets.flatten().tolist(), strict=True):
        if target != IGNORE:
            logits = model.logits[token].tolist()
            losses.append(math.log(sum(map(math.exp, logits))) - logits[target])
    return losses


def test_the_loss_worked_by_hand():
    model, (inputs, targets) = Table().eval(), batch()
    expected = by_hand(model, inputs, targets)
    assert next_token_loss(model, (inputs, targets)).item() == pytest.approx(sum(expected) / 6)


def test_targets_without_loss_do_not_count():
    model, (inputs, targets) = Table().eval(), batch()
    targets[0, 1] = targets[1, 0] = IGNORE
    expected = by_hand(model, inputs, targets)
    assert len(expected) == 4
    assert next_token_loss(model, (inputs, targets)).item() == pytest.approx(sum(expected) / 4)


def test_equal_logits_cost_the_log_of_the_vocabulary():
    model = Table().eval()
    nn.init.zeros_(model.logits)
    assert next_token_loss(model, batch()).item() == pytest.approx(math.log(V))


def test_classification_is_the_same_loss():
    model = Table().eval()
    inputs, targets = torch.tensor([0, 3]), torch.tensor([1, 2])
    expected = sum(by_hand(model, inputs, targets)) / 2
    assert next_token_loss(model, (inputs, targets)).item() == pytest.approx(expected)


def test_half_precision_logits_are_reckoned_in_full():
    model = Table().eval()
    half = Table(lambda logits: logits.bfloat16()).eval()
    loss = next_token_loss(half, batch())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(next_token_loss(model, batch()).item(), rel=0.02)


@pytest.mark.parametrize(
    "form",
    [
        lambda logits: (logits, "cache"),
        lambda logits: SimpleNamespace(logits=logits, loss=None),
    ],
)
def test_logits_are_found_in_what_a_model_returns(form):
    expected = next_token_loss(Table().eval(), batch())
    assert torch.equal(next_token_loss(Table(form).eval(), batch()), expected)


@pytest.mark.parametrize("output", [None, {"logits": 1}, SimpleNamespace(logits=None), ("a",)])
def test_an_output_without_logits_is_named(output):
    with pytest.raises(ValueError, match=f"output {type(output).__name__} holds no logits"):
        logits_of(output)


def test_the_loss_has_a_gradient():
    model = Table()
    next_token_loss(model, batch()).backward()
    assert model.logits.grad is not None and model.logits.grad.abs().sum() > 0


# ---- evaluation


def test_batches_weigh_by_the_targets_that_carry_loss():
    model = Table()
    batches = [batch(0), batch(1, rows=1, tokens=2), batch(2, rows=4)]
    batches[0][1][0] = IGNORE
    each = [loss for inputs, targets in batches for loss in by_hand(model, inputs, targets)]
    assert len(each) == 3 + 2 + 12
    assert evaluate_loss(model, batches) == pytest.approx(sum(each) / len(each))


def test_evaluation_is_without_dropout_and_gradient_and_restores_the_mode():
    model = Table()

    def loss(model, batch):
        assert not model.training and not torch.is_grad_enabled()
        return next_token_loss(model, batch)

    for training in (True, False):
        model.train(training)
        first = evaluate_loss(model, [batch()], loss=loss)
        assert first == evaluate_loss(model, [batch()], loss=loss)
        assert model.training is training
    assert model.logits.grad is None and torch.is_grad_enabled()


def test_the_mode_is_restored_where_the_loss_raises():
    def loss(model, batch):
        raise KeyError

    model = Table()
    with pytest.raises(KeyError):
        evaluate_loss(model, [batch()], loss=loss)
    assert model.training


def test_a_loss_of_ones_own_may_take_any_batch():
    def loss(model, batch):
        return model(batch["tokens"]).mean() * 0 + batch["value"]

    values = torch.tensor([1.0, 4.0])
    batches = [{"tokens": torch.tensor([0]), "value": value} for value in values]
    assert evaluate_loss(Table(), batches, loss=loss) == pytest.approx(2.5)


def test_a_batch_without_a_target_counts_for_nothing():
    model, (inputs, targets) = Table(), batch(1)
    empty = inputs, torch.full_like(targets, IGNORE)
    assert evaluate_loss(model, [batch(), empty]) == evaluate_loss(model, [batch()])


def test_each_part_gets_its_own_mode_back():
    model = Table().train()
    model.dropout.eval()
    evaluate_loss(model, [batch()])
    assert model.training and not model.dropout.training


def test_nothing_to_evaluate_on_is_refused():
    with pytest.raises(ValueError, match="batches holds no target"):
        evaluate_loss(Table(), [])
    inputs, targets = batch()
    with pytest.raises(ValueError, match="batches holds no target"):
        evaluate_loss(Table(), [(inputs, torch.full_like(targets, IGNORE))])


# ---- devices


def test_a_batch_moves_to_the_models_device_in_its_own_form():
    model = Table().to("meta")
    assert device_of(model).type == "meta"
    moved = to_device(
        {"a": torch.zeros(1), "b": [torch.zeros(1), "text", (torch.zeros(1), 3)]}, model
    )
    assert moved["a"].is_meta and moved["b"][0].is_meta and moved["b"][2][0].is_meta
    assert moved["b"][1] == "text" and moved["b"][2][1] == 3
    assert to_device(torch.zeros(1), model).is_meta


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (3, r"batch=3 of batches must be \(inputs, targets\)"),
        ((1,), r"batch=\(1,\) of batches must be"),
        ((1, 2, 3), "of batches must be"),
        ((torch.zeros(1, 2, dtype=int), [1, 2]), "targets a tensor of whole numbers"),
        ((torch.zeros(1, 2, dtype=int), torch.zeros(1, 2)), "targets a tensor of whole numbers"),
        (
            (torch.zeros(1, 2, dtype=int), torch.zeros(1, 3, dtype=int)),
            r"shape \(1, 3\) .* fit .* \(1, 2, 4\)",
        ),
        (
            (torch.zeros(1, 2, dtype=int), torch.full((1, 2), 9)),
            "targets in a batch, for 4 logits: .*9",
        ),
    ],
)
def test_a_batch_that_is_no_pair_is_shown(batch, words):
    model = nn.Embedding(4, 4)
    with pytest.raises(ValueError, match=words):
        next_token_loss(model, batch)
