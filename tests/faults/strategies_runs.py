"""The face for the fuzzer: what trains."""

from __future__ import annotations

import math
from typing import Any

from faults.strategies import (
    Field,
    Made,
    Target,
    choice,
    function,
    model,
    needed,
    number,
    one_of,
    path,
    record,
)
from faults.strategies_face import LOSS
from faults.strategies_records import NAME, SEEDS
from faults.world import COMPARISON, SENSITIVITY, Source
from hypothesis import strategies as st

import sbldlib
from sbldlib.training.callbacks import Callback
from sbldlib.training.checkpoints import CheckpointConfig
from sbldlib.training.launch import Workers

CONFIGS = record(
    Made("one step", lambda world: sbldlib.TrainConfig(budget=sbldlib.Budget(steps=1))),
    Made("two steps", lambda world: sbldlib.TrainConfig(budget=sbldlib.Budget(steps=2), warmup=0)),
)
WATCH = function(None, Made("print", lambda world: lambda *_: None), or_none=True)
DATA = {
    "right": one_of(Made("a source", lambda w: Source()), Made("batches", lambda w: w.batches)),
    "wrong": one_of(
        None, 3, "text", [], (), [1], [None], object(),
        Made("broken tokens", lambda w: [(i / 2, t) for i, t in w.batches]),
        Made("unknown tokens", lambda w: [(i + 99, t) for i, t in w.batches]),
        Made("unknown targets", lambda w: [(i, t + 99) for i, t in w.batches]),
        Made("other lengths", lambda w: [(i, t[:, 1:]) for i, t in w.batches]),
        Made("nothing to learn", lambda w: [(i, t * 0 - 100) for i, t in w.batches]),
    ),
}  # fmt: skip


def _makes(name: str, right: Any, *wrong: Any) -> Field:
    """A function that the call gets its parts from; it may be none, or make what is none."""
    made = [
        Made(f"makes {value!r}", lambda world, value=value: lambda *_: value) for value in wrong
    ]
    kind = function(Made(name, right))
    return needed(
        {**kind, "wrong": st.one_of(kind["wrong"], one_of(*made))}, says=("model", "data")
    )


RUNS: dict[str, Target] = {
    "make_optimizer": Target(
        call=sbldlib.make_optimizer,
        fields={
            "model": needed({**model(), "wrong": one_of(None, 3, "gpt", [], object(), 1j, type)}),
            "learning_rate": Field(**number(0, math.inf, low_open=True, high_open=True)),
            "weight_decay": Field(**number(0, math.inf, high_open=True)),
            "betas": Field(
                right=one_of((0.9, 0.95), (0.0, 0.0), [0.5, 0.9]),
                wrong=one_of(
                    None,
                    0.9,
                    (0.9,),
                    (0.9, 1.5),
                    (-0.1, 0.9),
                    ("a", "b"),
                    (None, 0.9),
                    (math.nan, 0.9),
                    "0.9",
                    (0.9, 0.9, 0.9),
                    {},
                    object(),
                ),
            ),
        },
    ),
    "compare": Target(
        call=sbldlib.compare,
        fields={
            "comparison": needed(record(Made("a comparison", lambda world: COMPARISON))),
            "folder": needed(path()),
            "subject": needed(record(Made("a subject", lambda world: world.subject))),
            "prices": needed(record(Made("prices", lambda world: world.prices))),
            "stop_after": Field(**number(0, math.inf, or_none=True)),
            "on_begin": Field(**WATCH),
            "on_step": Field(**WATCH),
        },
    ),
    "run_pilot": Target(
        call=sbldlib.run_pilot,
        fields={
            "make_model": _makes("a model", lambda world: world.gpt, None, 3, "gpt"),
            "make_data": _makes("data", lambda world: Source, None, 3, "text", []),
            "make_optimizer": _makes("an optimiser", lambda w: sbldlib.make_optimizer, None, 3),
            "make_dropping": _makes(
                "sbld",
                lambda world: lambda m, seed: sbldlib.sbld(m, SENSITIVITY, seed=seed),
                None,
                3,
                "sbld",
            ),
            "seeds": needed(SEEDS),
            "config": needed(CONFIGS),
            "on_run": Field(**WATCH),
            "on_step": Field(**WATCH),
            "folder": Field(**path()),
            "key": Field(
                **{
                    **NAME,
                    "right": one_of("three layers", "ünï"),
                    "wrong": one_of(3, None, b"k", [], object()),
                },
                unread=True,
            ),
        },
    ),
    "train": Target(
        call=sbldlib.train,
        fields={
            "model": needed({**model(), "wrong": one_of(None, 3, "gpt", [], object())}),
            "data": needed(DATA, says=("token", "target", "loss")),
            "optimizer": needed(
                {
                    "right": one_of(Made("AdamW", lambda world: world.optimizer)),
                    "wrong": one_of(
                        None,
                        3,
                        "adam",
                        object(),
                        {},
                        Made(
                            "another model's",
                            lambda world: sbldlib.make_optimizer(world.gpt(seed=5)),
                        ),
                    ),
                }
            ),
            "config": Field(
                **{**CONFIGS, "wrong": CONFIGS["wrong"].filter(lambda v: v is not None)},
                needed=True,
            ),
            "callbacks": Field(
                right=one_of(
                    (),
                    [],
                    Made("sbld", lambda w: [sbldlib.sbld(w.model, SENSITIVITY)]),
                    Made("watcher", lambda w: (Callback(),)),
                ),
                wrong=one_of(None, 3, "x", [None], [3], ["sbld"], [Callback], object()),
            ),
            "evaluations": Field(
                right=one_of(None, {}, Made("one", lambda w: {"loss": lambda m: 0.5})),
                wrong=one_of(
                    3,
                    "x",
                    [],
                    [1],
                    {"loss": 3},
                    {"loss": None},
                    object(),
                ),
            ),
            "controls": Field(
                right=one_of(None, Made("controls", lambda w: sbldlib.Controls({"saving": 0.2}))),
                wrong=one_of(3, "x", {}, {"saving": 0.2}, [], object()),
            ),
            "loss": Field(**LOSS),
            "on_step": Field(**WATCH),
            "folder": Field(**path()),
            "resume": Field(**choice(("auto", "always", "never"))),
            "checkpoints": Field(
                right=one_of(None, Made("checkpoints", lambda world: CheckpointConfig())),
                wrong=one_of(3, "x", {}, [], object()),
            ),
            "workers": Field(
                right=one_of(None, Made("alone", lambda world: Workers())),
                wrong=one_of(3, "x", {}, [], object()),
            ),
        },
    ),
}
