"""Two steps of training; run by itself, in a process that may have few megabytes more."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from small import Source, gpt

from sbldlib.methods import uniform
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

NUM_ROWS = 512  # about 70 MB


def losses(rows: int) -> list[tuple[float, int]]:
    """Of two steps, and the forward passes that each took."""
    model = gpt(width=64)
    record = train(
        model,
        Source(rows=rows),
        make_optimizer(model),
        config=TrainConfig(budget=Budget(steps=2)),
        callbacks=[uniform(model, saving=0.2, scope="per_sequence")],
    )
    return [(step.loss_nats, step.micro_batches) for step in record]


def main(megabytes: int) -> None:
    import resource

    torch.set_num_threads(1)
    losses(9)  # what is allocated once is no part of the limit
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    print(json.dumps(losses(NUM_ROWS)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
