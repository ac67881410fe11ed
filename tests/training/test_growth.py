"""A growing model in training: when it grows, its optimizer, its costs, and exact resumption."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest
import torch
from small import Source, gpt, same_weights, weights
from torch import nn

from sbldlib.methods import make_method
from sbldlib.models.diverging_gpt import DivergingGPT, DivergingGPTConfig
from sbldlib.storage.checkpoints import CheckpointError
from sbldlib.training.checkpoints import load_weights, put_weights
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.folder import RunMismatchError
from sbldlib.training.growth import Growing, follow_growth
from sbldlib.training.loop import train, train_steps
from sbldlib.training.optimizer import make_optimizer

MINI = DivergingGPTConfig(
    vocabulary_size=32,
    context_length=8,
    num_layers=4,
    num_heads=2,
    width=16,
    init_std=0.3,
    stages=(1, 2, 4),
    rank=2,
)
STEPS = 9
CONFIG = TrainConfig(budget=Budget(steps=STEPS))


class Parts:
    """One run's parts, made anew as another process would make them."""

    def __init__(self, config=MINI, *, method: str = "", **growing):
        self.model = DivergingGPT(config)
        self.optimizer = make_optimizer(self.model, learning_rate=1e-2)
        self.growing = Growing(self.model, self.optimizer, **growing)
        self.callbacks = [self.growing]
        if method:
            self.callbacks.append(make_method(method, self.model, saving=0.25, seed=3))

    def train(self, folder=None, **changes):
        arguments = {"config": CONFIG, "callbacks": self.callbacks, "folder": folder, **changes}
        return train(self.model, Source(), self.optimizer, **arguments)

    def steps(self, folder=None):
        arguments = {"config": CONFIG, "callbacks": self.callbacks, "folder": folder}
        return train_steps(self.model, Source(), self.optimizer, **arguments)

    def end_after(self, num_steps, folder):
        with closing(self.steps(folder)) as steps:
            for _ in range(num_steps):
                next(steps)


def test_grows_at_equal_shares_of_the_run():
    parts, stages = Parts(), []
    for _ in parts.steps():
        stages.append(parts.model.stage)
    # Progress is t / 8: a third is reached at step 3, two thirds at step 6.
    assert stages == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_grows_where_it_is_told_to():
    parts, stages = Parts(at=(0.5, 0.9)), []
    for _ in parts.steps():
        stages.append(parts.model.stage)
    assert stages == [0] * 4 + [1] * 4 + [2]


def test_every_weight_of_the_last_stage_is_trained():
    parts = Parts()
    steps = parts.steps()
    for record in steps:
        if record.step == 5:
            before = weights(parts.model.blocks[1])
    after = weights(parts.model.blocks[1])
    assert not any(torch.equal(before[n], after[n]) for n in before if n in after and "weight" in n)
    optimized = {id(p) for group in parts.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in parts.model.parameters()}


def test_biases_and_norms_keep_their_group():
    parts = Parts()
    parts.train()
    decayed, plain = parts.optimizer.param_groups
    assert all(p.ndim >= 2 for p in decayed["params"]) and all(p.ndim < 2 for p in plain["params"])


@pytest.mark.parametrize("state", ["carry", "restart"])
def test_a_copy_begins_with_what_was_known_of_its_original_or_with_nothing(state):
    parts = Parts(replace(MINI, stages=(1, 4)), optimizer_state=state, at=(0.5,))
    steps = parts.steps()
    for _ in range(4):
        next(steps)
    old = parts.model.blocks[0].mlp.hidden.weight
    origin = parts.model.grow()
    follow_growth(parts.optimizer, parts.model, origin, carry=state == "carry")
    new = parts.model.blocks[3].mlp.hidden.weight
    memory = parts.optimizer.state
    if state == "restart":
        assert not memory
    else:
        assert torch.equal(memory[new]["exp_avg"], memory[old]["exp_avg"])
        assert memory[new]["exp_avg"] is not memory[old]["exp_avg"]
        assert memory[new]["exp_avg"].abs().sum() > 0
    steps.close()


def test_operations_are_counted_again_at_each_stage():
    spent = [record.flops_full for record in Parts().train()]
    assert spent[0] == spent[2] and spent[3] == spent[5] and spent[6] == spent[8]
    assert spent[3] != spent[0], "attention that stands still, and its low-rank change"
    stacked = Parts(replace(MINI, growth="stack", rank=0, freeze_attention=False)).train()
    spent = [record.flops_full for record in stacked]
    assert spent[0] < spent[3] < spent[6]
    assert [len(record.layers_run) for record in stacked] == [1] * 3 + [2] * 3 + [4] * 3


@pytest.mark.parametrize(
    ("growth", "method"), [("diverge", ""), ("diverge", "uniform"), ("stack", "")]
)
@pytest.mark.parametrize("ended", range(1, STEPS))
def test_ended_after_any_step_it_goes_on_bit_for_bit(tmp_path, ended, growth, method):
    config = replace(MINI, growth=growth)
    whole = Parts(config, method=method)
    expected = whole.train()
    Parts(config, method=method).end_after(ended, tmp_path)
    again = Parts(config, method=method)
    gone_on = again.train(tmp_path)
    assert [taken_up["step"] for taken_up in gone_on.resumes] == [ended]
    assert gone_on.losses == expected.losses
    assert [r.flops for r in gone_on] == [r.flops for r in expected]
    assert [r.layers_run for r in gone_on] == [r.layers_run for r in expected]
    assert same_weights(whole.model, weights(again.model))
    mine, theirs = (p.optimizer.state_dict()["state"] for p in (whole, again))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[k]["exp_avg"], theirs[k]["exp_avg"]) for k in mine)


def test_a_model_that_has_grown_already_does_not_take_an_earlier_stage_up(tmp_path):
    Parts().end_after(2, tmp_path)
    grown = Parts()
    grown.model.grow()
    with pytest.raises(RunMismatchError, match="num_parameters"):
        grown.train(tmp_path)


def test_weights_of_an_earlier_stage_are_not_put_into_a_grown_model(tmp_path):
    Parts().end_after(2, tmp_path)
    grown = DivergingGPT(MINI)
    grown.grow()
    with pytest.raises(CheckpointError, match="weights are of stage 0, the model is at stage 1"):
        load_weights(grown, tmp_path)
    with pytest.raises(CheckpointError, match="say no stage"):
        put_weights(grown, gpt().state_dict(), "there")


def test_weights_of_a_later_stage_take_the_model_there(tmp_path):
    parts = Parts()
    parts.train(tmp_path)
    fresh = DivergingGPT(MINI)
    assert load_weights(fresh, tmp_path) == STEPS
    assert fresh.stage == 2 and same_weights(fresh, weights(parts.model))


def test_says_what_it_does():
    parts = Parts(at=(0.25, 0.75), optimizer_state="restart")
    assert parts.growing.describe() == {
        "callback": "Growing",
        "at": [0.25, 0.75],
        "optimizer_state": "restart",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at": (0.5,)}, r"at=\(0.5,\) must hold 2 ascending"),
        ({"at": (0.7, 0.3)}, "must hold 2 ascending"),
        ({"at": (0.0, 0.5)}, "must hold 2 ascending"),
        ({"at": (0.5, 1.0)}, "must hold 2 ascending"),
        ({"optimizer_state": "keep"}, "optimizer_state='keep'"),
        ({"optimizer": "adam"}, "optimizer="),
        ({"model": gpt()}, "cannot grow: it lacks stage"),
        ({"model": nn.Linear(2, 2)}, "cannot grow"),
    ],
)
def test_bad_input_is_named(changes, message):
    model = DivergingGPT(MINI)
    asked = {"model": model, "optimizer": make_optimizer(model), **changes}
    with pytest.raises(ValueError, match=message):
        Growing(asked.pop("model"), asked.pop("optimizer"), **asked)
