"""The loss: cross-entropy in nats per target token, of any model that gives logits."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from small import gpt, random_batches
from torch import Tensor, nn

from sbldlib import losses
from sbldlib.losses import (
    IGNORE,
    device_of,
    evaluate_loss,
    logits_of,
    loss_in_parts,
    next_token_loss,
    to_device,
)
from sbldlib.models.conv_gpt import ConvGPT, ConvGPTConfig
from sbldlib.models.diverging_gpt import DivergingGPT, DivergingGPTConfig

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


# ---- in parts


def loss_and_gradients(loss, model: nn.Module, batch) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    value = loss(model, batch)
    value.backward()
    return [value.detach(), *(weight.grad for weight in model.parameters())]


def models() -> list[nn.Module]:
    shape = {"vocabulary_size": 32, "context_length": 8, "num_heads": 2}
    conv = ConvGPTConfig(**shape, widths=(8, 16), merge=2, init_std=0.3)
    diverging = {"num_layers": 4, "width": 8, "init_std": 0.3, "stages": (2, 4)}
    return [gpt(), ConvGPT(conv), DivergingGPT(DivergingGPTConfig(**shape, **diverging))]


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("part", [1, 32, 150, 10**6])
def test_a_loss_in_parts_is_the_loss_of_the_whole(monkeypatch, model, part):
    inputs_BT, targets_BT = random_batches(1, rows=3)[0]
    targets_BT = targets_BT.clone()
    targets_BT[0, 2:7], targets_BT[2] = IGNORE, IGNORE
    whole = loss_and_gradients(next_token_loss, model, (inputs_BT, targets_BT))
    monkeypatch.setattr(losses, "PART", part)
    for loss in (next_token_loss, loss_in_parts):
        found = loss_and_gradients(loss, model, (inputs_BT, targets_BT))
        for mine, expected in zip(found, whole, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def test_no_more_logits_than_a_part_are_made_at_once(monkeypatch):
    model, seen = gpt(), []
    monkeypatch.setattr(losses, "PART", 100)
    head = model.head
    monkeypatch.setattr(model, "head", lambda x: (seen.append(logits := head(x)), logits)[1])
    loss_in_parts(model, random_batches(1, rows=3)[0])
    assert max(logits.numel() for logits in seen) <= 100
    assert sum(len(logits) for logits in seen[1:]) == 3 * 8


def test_parts_hold_under_autocast_and_torch_func(monkeypatch):
    monkeypatch.setattr(losses, "PART", 100)
    model, batch = gpt(), random_batches(1, rows=3)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = loss_in_parts(model, batch)
    whole = next_token_loss(model, batch)
    assert low.dtype == torch.float32 and low.item() == pytest.approx(whole.item(), abs=0.02)

    def of_weights(weights):
        called = lambda inputs: torch.func.functional_call(model, weights, (inputs,))  # noqa: E731
        return next_token_loss(called, batch)

    found = torch.func.grad(of_weights)(dict(model.named_parameters()))
    whole.backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name], weight.grad)


@pytest.mark.parametrize("loss", [next_token_loss, loss_in_parts])
@pytest.mark.parametrize("part", [1, 10**6])
def test_targets_that_all_carry_no_loss_give_no_number(monkeypatch, loss, part):
    monkeypatch.setattr(losses, "PART", part)
    inputs, targets = random_batches(1)[0]
    assert loss(gpt(), (inputs, torch.full_like(targets, IGNORE))).isnan()


def test_parts_refuse_what_the_whole_refuses(monkeypatch):
    monkeypatch.setattr(losses, "PART", 1)
    inputs, targets = random_batches(1)[0]
    with pytest.raises(ValueError, match="targets in a batch, for 32 logits: Target 99 is out of"):
        loss_in_parts(gpt(), (inputs, targets + 99 - targets))
    with pytest.raises(ValueError, match=r"batch=.* must be \(inputs, targets\)"):
        loss_in_parts(gpt(), inputs)
    with pytest.raises(ValueError, match="model=Table has no body and head"):
        loss_in_parts(Table(), batch())
    with pytest.raises(ValueError, match="there must be one target for each"):
        loss_in_parts(gpt(), (inputs, targets[:, :-1]))
