"""A state that was made to look right is refused before anything of it can do harm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import Source, gpt

from sbldlib.losses import next_token_loss
from sbldlib.storage.checkpoints import CheckpointError
from sbldlib.training.config import TrainConfig
from sbldlib.training.optimizer import make_optimizer
from sbldlib.training.run import Run
from sbldlib.training.state import capture, restore


@pytest.fixture
def run() -> Run:
    model = gpt(2, width=8)
    made = Run(model, Source(), make_optimizer(model), TrainConfig(), (), next_token_loss)
    made.step({})
    return made


def put(tree: dict, path: str, value) -> None:
    *above, last = path.split(".")
    for name in above:
        tree = tree[int(name) if name.isdigit() else name]
    tree[int(last) if last.isdigit() else last] = value


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("generators.numpy.2", 10**9, "1000000000 is no place in numpy's random state"),
        ("generators.numpy.2", -1, "-1 is no place"),
        ("generators.python", (3, (1,), None), "wrong size"),
        ("progress.steps", -5, "steps=-5 must be at least 0"),
        ("progress.steps", float("inf"), "steps=inf must be a whole number"),
        ("progress.flops", "much", "could not convert"),
        ("optimizer.param_groups.0.lr", "high", "lr=.* 'high' in the file"),
        ("optimizer.param_groups.0.lr", float("nan"), "lr=nan .* is not finite"),
        ("optimizer.param_groups.0.amsgrad", True, "amsgrad=False in this optimizer, True"),
        ("optimizer.state.0.exp_avg", torch.zeros(3), "exp_avg of the optimizer is not like"),
        ("optimizer.state.0.step", [], "step=.* is no number"),
        ("optimizer.state.0", {"step": 1.0}, "remembers only .'step'."),
        ("optimizer.state.99", {}, "has no weight 99"),
    ],
)
def test_nonsense_is_refused_with_its_place(path, value, words, run):
    tree = capture(run, None)
    restore(run, tree, None, where="here")
    put(tree, path, value)
    with pytest.raises(CheckpointError, match=rf"here does not fit this run \(.*{words}"):
        restore(run, tree, None, where="here")
    assert 0 <= np.random.random() < 1


def test_any_optimizer_s_state_goes_there_and_back():
    for kind in (torch.optim.SGD, torch.optim.Adagrad, torch.optim.Adafactor, torch.optim.RMSprop):
        model = gpt(2, width=8)
        run = Run(model, Source(), kind(model.parameters()), TrainConfig(), (), next_token_loss)
        run.step({})
        restore(run, capture(run, None), None, where="here")
        run.step({})
