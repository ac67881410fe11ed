from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sbldlib import Budget, TrainConfig, make_optimizer, sbld, train
from sbldlib.models.bert import Bert
from sbldlib.models.bert_objectives import bert_loss, score_bert
from sbldlib.records import SensitivityData


def made_batch(seed: int = 0, num: int = 6) -> dict[str, torch.Tensor]:
    """Rows [CLS] a a a [SEP] b b b [SEP] in which b is a or not, one token of each hidden."""
    generator = torch.Generator().manual_seed(seed)
    first_B = torch.randint(0, 20, (num,), generator=generator)
    next_B = torch.randint(0, 2, (num,), generator=generator)
    second_B = (first_B + next_B) % 20
    tokens_BT = torch.full((num, 12), 1024)
    tokens_BT[:, 0], tokens_BT[:, 4], tokens_BT[:, 8] = 1025, 1026, 1026
    tokens_BT[:, 1:4], tokens_BT[:, 5:8] = first_B[:, None], second_B[:, None]
    labels_BT = torch.full_like(tokens_BT, -100)
    labels_BT[:, 2] = first_B
    tokens_BT[:, 2] = 1027
    segments_BT = torch.zeros_like(tokens_BT)
    segments_BT[:, 5:9] = 1
    return {
        "input_ids": tokens_BT,
        "token_type_ids": segments_BT,
        "attention_mask": (tokens_BT != 1024).long(),
        "labels": labels_BT,
        "next_sentence_label": next_B,
    }


class Made:
    def batch(self, step: int, micro_batch: int = 0) -> dict[str, torch.Tensor]:
        return made_batch(step, 32)


def test_loss_is_the_sum_of_both_means():
    model, batch = Bert.from_preset("tiny").eval(), made_batch()
    output = model(batch["input_ids"], batch["token_type_ids"])
    masked = F.cross_entropy(output.masked_logits_BTV.flatten(0, 1), batch["labels"].flatten())
    follows = F.cross_entropy(output.next_sentence_logits_B2, batch["next_sentence_label"])
    assert torch.allclose(bert_loss(model, batch), masked + follows, atol=1e-5)


def test_the_kits_trainer_trains_it_and_layers_can_be_dropped():
    model = Bert.from_preset("tiny", num_layers=3)
    before = score_bert(model, [made_batch(10**6, 128)])
    data = SensitivityData(
        values=(3.0, 2.0, 1.0), standard_errors=(0.1,) * 3, method="loss_delta", unit="nats",
        num_batches=2, iteration=0,
    )  # fmt: skip
    config = TrainConfig(budget=Budget(steps=60), clip_norm=1.0)
    optimizer = make_optimizer(model, learning_rate=3e-3)
    run = train(
        model, Made(), optimizer, config=config, loss=bert_loss,
        callbacks=[sbld(model, data, saving=0.2)],
    )  # fmt: skip
    after = score_bert(model, [made_batch(10**6, 128)])
    assert len(run) == 60 and run.steps[-1].flops > 0
    assert any(len(step.layers_run) < 3 for step in run)
    assert after.masked_nats < before.masked_nats - 1
    assert after.masked_accuracy > 0.5 > 4 * after.most_frequent


def test_scores_are_weighed_by_what_was_asked():
    model = Bert.from_preset("tiny")
    one, other = made_batch(1, 4), made_batch(2, 20)
    both = score_bert(model, [one, other])
    parts = [score_bert(model, [batch]) for batch in (one, other)]
    assert both.num_masked == 24 and both.num_pairs == 24
    assert math.isclose(
        both.masked_nats, (4 * parts[0].masked_nats + 20 * parts[1].masked_nats) / 24, rel_tol=1e-5
    )
    right = 4 * parts[0].next_sentence_accuracy + 20 * parts[1].next_sentence_accuracy
    assert math.isclose(both.next_sentence_accuracy, right / 24, rel_tol=1e-9)


def test_most_frequent_is_of_the_very_targets():
    batch = made_batch(0, 10)
    batch["labels"][:, 2] = torch.tensor([3, 3, 3, 3, 1, 2, 4, 5, 6, 7])
    assert score_bert(Bert.from_preset("tiny"), [batch]).most_frequent == 0.4


def test_what_shows_mask_is_scored_by_itself():
    model, batch = Bert.from_preset("tiny"), made_batch(0, 10)
    batch["input_ids"][:5, 2] = batch["labels"][:5, 2]  # left as they are
    found = score_bert(model, [batch])
    output = model.eval()(batch["input_ids"], batch["token_type_ids"])
    right = output.masked_logits_BTV[:, 2].argmax(-1) == batch["labels"][:, 2]
    assert found.at_mask_accuracy == float(right[5:].double().mean())
    assert found.masked_accuracy == float(right.double().mean())
    most = batch["labels"][5:, 2].bincount().max() / 5
    assert found.at_mask_most_frequent == pytest.approx(float(most))


def test_the_mode_is_restored():
    model = Bert.from_preset("tiny").train()
    score_bert(model, [made_batch()])
    assert model.training


def test_bad_batches():
    model = Bert.from_preset("tiny")
    with pytest.raises(ValueError, match="must be a dict with input_ids"):
        bert_loss(model, (1, 2))
    with pytest.raises(ValueError, match="batch has no labels"):
        bert_loss(model, {k: v for k, v in made_batch().items() if k != "labels"})
    with pytest.raises(ValueError, match=r"labels of shape \(6, 11\)"):
        bert_loss(model, {**made_batch(), "labels": made_batch()["labels"][:, 1:]})
    with pytest.raises(ValueError, match="no batch to score"):
        score_bert(model, [])
