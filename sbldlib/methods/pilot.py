"""Pilot runs: the same training with and without dropping, for the variance between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..records import PilotData, StepRecord
from ..training.callbacks import Callback
from ..training.config import TrainConfig
from ..training.loop import train


def run_pilot(
    make_model: Callable[[int], nn.Module],
    make_data: Callable[[int], Any],
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    make_dropping: Callable[[nn.Module, int], Callback],
    *,
    seeds: Sequence[int],
    config: TrainConfig,
    on_run: Callable[[str], None] | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> PilotData:
    """Train each seed twice, at full depth and with dropping, and return the losses of both.

    Both runs of a pair share seed, data order and initial weights, so that what differs between
    them is the dropping alone.

    Args:
        make_model, make_data: from a seed; equal seeds must give equal weights and batches.
        make_optimizer: from a model.
        make_dropping: from a model and a seed: the method whose variance is asked.
        seeds: one a pair; different ones.
        config: of every run.
        on_run: told the name of each run as it begins.
        on_step: told every step of every run.

    Raises:
        ValueError: no seeds, one named twice, or a budget that gives the two runs different steps.

    Source: the variance between baseline and layer dropping over training time is the paper's [P];
        pairs from shared seeds are ours [O], METHOD section 3.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds={tuple(seeds)} must be one or more different seeds")
    if config.budget.flops is not None or config.budget.seconds is not None:
        raise ValueError(f"budget={config.budget} must be steps or tokens: pairs have equal steps")
    began = time.perf_counter()
    runs: dict[str, list[tuple[float, ...]]] = {"baseline": [], "dropping": []}
    keeps: list[float] = []
    for seed in seeds:
        for arm, losses in runs.items():
            if on_run is not None:
                on_run(f"pilot {arm}, seed {seed}")
            with _random_state(seed):
                model = make_model(seed)
                callbacks = [make_dropping(model, seed)] if arm == "dropping" else []
                run = train(
                    model,
                    make_data(seed),
                    make_optimizer(model),
                    config=replace(config, name=f"pilot {arm} {seed}"),
                    callbacks=callbacks,
                    on_step=on_step,
                )
            losses.append(run.losses)
            if arm == "dropping":
                keeps.append(1 - run.realised_drop)
    return PilotData(
        baseline_losses=tuple(runs["baseline"]),
        dropping_losses=tuple(runs["dropping"]),
        seeds=tuple(seeds),
        mean_keep=sum(keeps) / len(keeps),
        seconds=time.perf_counter() - began,
    )


@contextmanager
def _random_state(seed: int) -> Iterator[None]:
    """torch's own state, which dropout inside a model draws from, seeded here and put back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
