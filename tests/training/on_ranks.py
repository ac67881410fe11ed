"""What `test_distributed.py` has two processes do; each writes what it saw to a file of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from small import Source, gpt
from torch import nn

from sbldlib.dropping.skipping import attach
from sbldlib.losses import evaluate_loss, next_token_loss
from sbldlib.methods import uniform
from sbldlib.training.callbacks import Callback
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.launch import Workers, workers_here
from sbldlib.training.optimizer import make_optimizer
from sbldlib.training.run import Run

NUM_STEPS = 5
ROWS = 4

Made = dict[str, Any]
ACTS: dict[str, Callable[[Any], Made]] = {}


def act(function: Callable[[Any], Made]) -> Callable[[Any], Made]:
    """To be done on both ranks."""
    ACTS[function.__name__] = function
    return function


def adam(model: nn.Module) -> torch.optim.AdamW:
    """With an epsilon that keeps gradients which are but rounding from moving weights."""
    optimizer = make_optimizer(model, learning_rate=1e-2)
    for group in optimizer.param_groups:
        group["eps"] = 1e-3
    return optimizer


def run_of(model: nn.Module, workers: Workers | None, *, callbacks=(), **given: Any) -> Run:
    loss, optimizer = given.pop("loss", next_token_loss), given.pop("optimizer", None)
    settings = {"budget": Budget(steps=NUM_STEPS), "accumulate": 4, **given}
    return Run(
        model,
        Source(rows=ROWS),
        optimizer or adam(model),
        TrainConfig(**settings),
        callbacks,
        loss,
        workers,
    )


def plain(run: Run) -> Made:
    """Run to the end: its records without the time they took, and the weights it came to."""
    records = []
    while not (run.is_over or run.stop_agreed):
        records.append(run.step({}))
    evaluated = run.evaluate({"loss": lambda m: evaluate_loss(m, [Source().batch(99)])})
    seconds = [record.seconds for record in records]
    run.close()
    return {
        "records": [dataclasses.replace(record, seconds=0.0).to_dict() for record in records],
        "seconds": seconds,
        "evaluated": evaluated,
        "weights": [whole(p).double().sum().item() for p in run.model.parameters()],
        "parts": run.parts,
    }


def whole(parameter: Any) -> torch.Tensor:
    tensor = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
    return tensor.detach()


def refused(attempt: Callable[[], Any]) -> Made:
    try:
        attempt()
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"error": None}


# ---- runs that one process can do alike


@act
def full_depth(workers: Workers | None) -> Made:
    rank = 0 if workers is None else workers.index
    return plain(run_of(gpt(seed=rank), workers))  # rank 1 begins with other weights


@act
def dropping(workers: Workers | None) -> Made:
    model = gpt()
    return plain(run_of(model, workers, callbacks=[uniform(model, saving=0.5, seed=3)]))


@act
def by_row(workers: Workers | None) -> Made:
    model = gpt()
    method = uniform(model, saving=0.4, seed=3, scope="per_sequence", rescale="train_inverse")
    return plain(run_of(model, workers, callbacks=[method], skipped_weights="decay"))


@act
def by_flops(workers: Workers | None) -> Made:
    model = gpt()
    method = uniform(model, saving=0.5, seed=1)
    budget = Budget(flops=2e7)
    return plain(run_of(model, workers, callbacks=[method], budget=budget, accumulate=2))


ALIKE = {run.__name__: run for run in (full_depth, dropping, by_row, by_flops)}


# ---- what happens on one rank alone


@act
def out_of_memory_on_rank_1(workers: Workers) -> Made:
    model, calls = gpt(), []

    def loss(model, batch):
        calls.append(1)
        if workers.index == 1 and len(calls) > 3 and len(batch[0]) > 2:
            raise MemoryError
        return next_token_loss(model, batch)

    method = uniform(model, saving=0.4, seed=3, scope="per_sequence", rescale="train_inverse")
    return plain(run_of(model, workers, callbacks=[method], loss=loss, skipped_weights="decay"))


@act
def stop_on_rank_1(workers: Workers) -> Made:
    class Stop(Callback):
        def before_step(self, context):
            if context.step == 2 and workers.index == 1:
                run.request_stop()

    run = run_of(gpt(), workers, callbacks=[Stop()])
    return plain(run)


@act
def seconds(workers: Workers) -> Made:
    class Slow(Callback):
        def before_step(self, context):
            torch.ones(2000, 2000 * (1 + 9 * workers.index)).sum()

    return plain(run_of(gpt(), workers, callbacks=[Slow()], budget=Budget(seconds=0.3)))


@act
def bad_loss_on_rank_1(workers: Workers) -> Made:
    run = run_of(gpt(), workers)
    run.step({})
    if workers.index == 1:
        run.model.blocks[2].register_forward_hook(lambda _, __, output: output * float("nan"))
    return refused(lambda: run.step({}))


# ---- ranks that differ


@act
def other_masks(workers: Workers) -> Made:
    model = gpt()
    seed = 3 + workers.index
    run = run_of(model, workers, callbacks=[Seeded(seed)])
    before = [p.detach().clone() for p in model.parameters()]
    made = refused(lambda: [run.step({}) for _ in range(NUM_STEPS)])
    made["untouched"] = all(
        torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)
    )
    return made


class Seeded(Callback):
    """Drops another layer for each seed, and says so to nobody."""

    def __init__(self, seed: int):
        self.seed = seed

    def before_step(self, context):
        attach(context.model).set_dropped({self.seed % 4})

    def describe(self):
        return {"callback": "Seeded"}


@act
def other_gradients(workers: Workers) -> Made:
    model = gpt()
    run = run_of(model, workers)
    run.step({})
    if workers.index == 1:
        model.blocks[1].mlp.requires_grad_(False)
    return refused(lambda: run.step({}))


@act
def other_settings(workers: Workers) -> Made:
    return refused(lambda: run_of(gpt(), workers, warmup=0.1 * workers.index))


@act
def other_sizes(workers: Workers) -> Made:
    return refused(lambda: run_of(gpt(num_layers=3 + workers.index), workers))


@act
def other_steps(workers: Workers) -> Made:
    run = run_of(gpt(), workers)
    run.steps = workers.index
    return refused(lambda: run.step({}))


# ---- FSDP2


def sharded(num_layers: int = 4, *, root: bool = True, seed: int = 0) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, mesh = gpt(num_layers, seed=seed), init_device_mesh("cpu", (2,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    if root:
        fully_shard(model, mesh=mesh)
    return model


@act
def sharded_dropping(workers: Workers) -> Made:
    model = sharded()
    return plain(run_of(model, workers, callbacks=[uniform(model, saving=0.5, seed=3)]))


@act
def sharded_blocks_alone(workers: Workers) -> Made:
    model = sharded(root=False)
    optimizer = adam(model)
    for group in optimizer.param_groups:  # torch's other kernels want all sharded, or none
        group.update(fused=False, foreach=False)
    method = uniform(model, saving=0.5, seed=3)
    return plain(run_of(model, workers, callbacks=[method], optimizer=optimizer))


@act
def sharded_by_row(workers: Workers) -> Made:
    model = sharded()
    method = uniform(model, saving=0.4, seed=3, scope="per_sequence", rescale="train_inverse")
    return plain(run_of(model, workers, callbacks=[method], skipped_weights="decay"))


@act
def sharded_other_masks(workers: Workers) -> Made:
    model = sharded()
    run = run_of(model, workers, callbacks=[Seeded(3 + workers.index)])
    forwards: list[int] = []
    model.register_forward_pre_hook(lambda *_: forwards.append(1))
    return refused(lambda: run.step({})) | {"forwards": len(forwards)}


@act
def sharded_bad_weight(workers: Workers) -> Made:
    model = sharded()
    run = run_of(model, workers)
    run.step({})
    if workers.index == 1:
        with torch.no_grad():
            model.blocks[2].mlp.hidden.weight.to_local()[0, 0] = float("inf")
    return refused(run.check_weights)


@act
def sharded_bad_loss(workers: Workers) -> Made:
    run = run_of(sharded(), workers)
    if workers.index == 1:
        run.model.blocks[2].register_forward_hook(lambda _, __, output: output * float("nan"))
    return refused(lambda: run.step({}))


@act
def sharded_alone(workers: Workers) -> Made:
    return refused(lambda: run_of(sharded(), None))


# ---- a rank that is killed, and one that hears of it and has no time


def stuck(workers: Workers) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    workers.wait()
    if workers.index == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        time.sleep(60)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    workers = workers_here()
    if folder.name == "stuck":
        stuck(workers)
    told = {name: function(workers) for name, function in ACTS.items()}
    (folder / f"rank{workers.index}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
