"""Per-block compilation, with Dynamo's own backend that needs no compiler.

What is held here is the number of graphs; what a compiler makes of a graph is torch's affair.
"""

from __future__ import annotations

import pytest
import torch
from small import Source, gpt, random_batches
from torch import nn
from torch._dynamo.utils import counters

from sbldlib.losses import evaluate_loss
from sbldlib.methods import uniform
from sbldlib.records import RunRecord
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

NUM_LAYERS = 6

# Dynamo looks at the gradient of every input it meets.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@pytest.fixture(autouse=True)
def fresh_dynamo(monkeypatch):
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compile_module(self, backend="eager"))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def run(model: nn.Module, *, compile_blocks: bool = True, evaluate_every: int = 0) -> RunRecord:
    return train(
        model,
        Source(),
        make_optimizer(model),
        config=TrainConfig(
            budget=Budget(steps=20), compile_blocks=compile_blocks, evaluate_every=evaluate_every
        ),
        callbacks=[uniform(model, saving=0.5)],
        evaluations={"loss": lambda model: evaluate_loss(model, random_batches(2, rows=4))},
    )


def num_graphs() -> int:
    return counters["stats"]["unique_graphs"]


def test_one_graph_serves_every_mask_and_one_more_the_evaluation():
    model = gpt(NUM_LAYERS)
    record = run(model, evaluate_every=4)
    assert len({step.layers_run for step in record}) > 10
    assert num_graphs() == 2
    again = run(model, evaluate_every=4)
    assert num_graphs() == 2, "a second run compiled the same blocks anew"
    assert [step.flops for step in again] == [step.flops for step in record]


def test_compiled_blocks_compute_the_same():
    compiled = run(gpt(NUM_LAYERS))
    assert num_graphs() > 0
    plain = run(gpt(NUM_LAYERS), compile_blocks=False)
    assert compiled.losses == pytest.approx(plain.losses, abs=1e-5)
    assert [s.layers_run for s in compiled] == [s.layers_run for s in plain]
    assert [s.flops for s in compiled] == [s.flops for s in plain]


def test_nothing_is_compiled_unless_it_is_asked():
    run(gpt(NUM_LAYERS), compile_blocks=False)
    assert num_graphs() == 0
