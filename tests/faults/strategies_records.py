"""The face for the fuzzer: records and settings, and what each of their fields takes."""

from __future__ import annotations

import math

from faults.strategies import (
    NOT_LISTS,
    Field,
    Target,
    choice,
    flag,
    needed,
    number,
    one_of,
    whole,
)
from faults.world import COMPARISON, STEP

import sbldlib
from sbldlib.comparison import Table
from sbldlib.dropping.plan import MODES
from sbldlib.models.gpt_config import PRESETS
from sbldlib.training.config import PRECISIONS, SKIPPED_WEIGHTS

NAME = {"right": one_of("run", "", "ünï ¢ode", "$x_ [red] |", "x" * 300),
        "wrong": one_of(None, 3, 0.5, b"run", [], {}, object(), True)}  # fmt: skip
NUMBERS = {"right": one_of((1.0, 0.5, 2.0), [1, 2, 3], (0.0, -1.0, 1e30)),
           "wrong": one_of((), (1.0, math.nan, 2.0), (1.0, None, 2.0), ("a", "b", "c"), [[1.0]],
                           (True, False, True), *NOT_LISTS)}  # fmt: skip
PROBABILITIES = {"right": one_of((), (1.0, 0.5, 0.1)),
                 "wrong": one_of((1.5,), (0.5, -0.1), (math.nan,), ("a",), *NOT_LISTS)}  # fmt: skip
SHARES = {"right": one_of((), (1.0, 0.5, 0.0)), "wrong": PROBABILITIES["wrong"]}
DICT = {"right": one_of({}, {"a": 1}), "wrong": one_of(None, 3, "x", [], (1,), object())}
LOSSES = {"right": one_of(((3.0, 2.0), (3.0, 2.5)), [[3, 2], [2, 1]]),
          "wrong": one_of((), ((),), ((math.nan, 1.0), (1.0, 2.0)), (("a", "b"), ("a", "b")),
                          ((1.0,), (1.0, 2.0)), (3.0, 2.0), *NOT_LISTS)}  # fmt: skip
SEEDS = {"right": one_of((0, 1), [3, 5], (2**63, 7)),
         "wrong": one_of((), (0, 0), (-1, 1), (0.5, 1), ("0", "1"), (None, 1), (True, 2),
                         (2**64, 0), *NOT_LISTS)}  # fmt: skip
AMOUNT = number(0, math.inf, high_open=True)
FINITE = number(-1e30, math.inf)
TABLE = COMPARISON.tables[0]
TABLES = {
    "right": one_of((TABLE,), (Table(budget="flops", arms=TABLE.arms), TABLE), [TABLE]),
    "wrong": one_of((), [None], ["steps"], (TABLE, 3), *NOT_LISTS),
}
BUDGETS = {
    "right": one_of(sbldlib.Budget(steps=1), sbldlib.Budget(steps=2), sbldlib.Budget(tokens=20)),
    "wrong": one_of(None, 3, "3 steps", {"steps": 3}, sbldlib.Budget, object()),
}

RECORDS: dict[str, Target] = {
    "SensitivityData": Target(
        call=sbldlib.SensitivityData,
        fields={
            "values": needed(NUMBERS),
            "standard_errors": needed(NUMBERS),
            "method": Field(**NAME),
            "unit": Field(**NAME),
            "num_batches": Field(**whole(0, (0, 2, 8))),
            "iteration": Field(**whole(0, (0, 5), or_none=True)),
            "samples": Field(
                right=one_of((), ((1.0, 2.0),) * 3, [[1, 2]] * 3),
                wrong=one_of(((1.0,),) * 2, (1.0, 2.0), ((math.nan, 1.0),) * 3, *NOT_LISTS),
            ),
        },
    ),
    "LayerLists": Target(
        call=sbldlib.LayerLists,
        fields={
            "block": needed(
                {
                    "right": one_of((), (0,), (2, 0)),
                    "wrong": one_of(
                        (5,), (-1,), (0, 0), (0.5,), (None,), ("0",), (True,), *NOT_LISTS
                    ),
                }
            ),
            "allow": needed(
                {
                    "right": one_of((1, 2), (1, 2, 0), (1,), [1]),
                    "wrong": one_of(
                        (5,), (-1,), (0, 0), (0.5,), (None,), ("0",), (True,), *NOT_LISTS
                    ),
                }
            ),
            "rule": needed(NAME),
        },
    ),
    "PilotData": Target(
        call=sbldlib.PilotData,
        fields={
            "baseline_losses": needed(LOSSES, says=("pilot runs",)),
            "dropping_losses": needed(LOSSES, says=("pilot runs",)),
            "seeds": needed(SEEDS),
            "mean_keep": needed(number(0, 1, low_open=True)),
            "seconds": needed(AMOUNT),
            "flops": Field(**AMOUNT),
        },
    ),
    "StepRecord": Target(
        is_note=True,
        call=sbldlib.StepRecord,
        fields={
            "step": needed(whole(0, (0, 7))),
            "progress": needed(number(0, 1)),
            **{name: needed(FINITE) for name in ("loss_nats", "gradient_norm")},
            **{name: needed(AMOUNT) for name in ("learning_rate", "seconds", "flops")},
            "flops_full": needed(AMOUNT),
            "tokens": needed(whole(0, (0, 64))),
            "keep_probability": Field(**PROBABILITIES),
            "layers_run": Field(
                right=one_of((), (0, 2)),
                wrong=one_of((-1,), (0, 0), (0.5,), ("0",), (True,), *NOT_LISTS),
            ),
            "forward_share": Field(**SHARES),
            "backward_share": Field(**SHARES),
            "evaluations": Field(**DICT),
            "controls": Field(**DICT),
            "micro_batches": Field(**whole(1, (1, 4))),
        },
    ),
    "RunRecord": Target(
        is_note=True,
        call=sbldlib.RunRecord,
        fields={
            "name": needed(NAME),
            "configuration": needed(DICT),
            "environment": needed(DICT),
            "num_layers": needed(whole(0, (0, 3))),
            "num_parameters": needed(whole(0, (0, 1000))),
            "steps": needed(
                {
                    "right": one_of((), (STEP,), [STEP]),
                    "wrong": one_of((3,), ("x",), (None,), *NOT_LISTS),
                }
            ),
            "controls_log": Field(
                right=one_of((), ((0, "saving", 0.1, 0.2),)), wrong=one_of(*NOT_LISTS)
            ),
            "seconds": Field(**AMOUNT),
            "outcome": Field(**choice(("completed", "stopped"))),
            "resumes": Field(right=one_of(()), wrong=one_of(*NOT_LISTS)),
        },
    ),
    "Budget": Target(
        rarity=4,
        call=sbldlib.Budget,
        fields={
            "steps": Field(**whole(1, (1, 300), or_none=True), says=("budget",)),
            "tokens": Field(**whole(1, (1, 10**12), or_none=True), says=("budget",)),
            "flops": Field(**number(0, math.inf, low_open=True, high_open=True, or_none=True)),
            "seconds": Field(**number(0, math.inf, low_open=True, high_open=True, or_none=True)),
        },
    ),
    "CheckpointConfig": Target(
        call=sbldlib.CheckpointConfig,
        fields={
            "every_minutes": Field(**number(0, math.inf, low_open=True)),
            "every_steps": Field(**whole(0, (0, 10))),
            "keep_last": Field(**whole(1, (1, 4))),
            "keep_best": Field(
                right=one_of(None, "validation_loss"), wrong=one_of(3, b"x", [], object())
            ),
        },
    ),
    "TrainConfig": Target(
        call=sbldlib.TrainConfig,
        fields={
            "budget": Field(**BUDGETS),
            "warmup": Field(**number(0, 1, high_open=True)),
            "final_learning_rate": Field(**number(0, 1, low_open=True)),
            "accumulate": Field(**whole(1, (1, 4))),
            "clip_norm": Field(**number(0, math.inf, low_open=True)),
            "precision": Field(**choice(PRECISIONS)),
            "evaluate_every": Field(**whole(0, (0, 10))),
            "compile_blocks": Field(**flag()),
            "skipped_weights": Field(**choice(SKIPPED_WEIGHTS)),
            "name": Field(**NAME),
        },
    ),
    "Controls": Target(
        call=sbldlib.Controls,
        fields={
            "values": needed(
                {
                    "right": one_of({}, {"saving": 0.2}),
                    "wrong": one_of(
                        None,
                        3,
                        "x",
                        [1],
                        [None],
                        object(),
                        {3: 1},
                        {"stop": 1, "pause": 2, None: 3},
                    ),
                }
            ),
            "replay": Field(
                right=one_of((), [], iter(())),
                wrong=one_of(
                    None, 3, "log", [3], [(0, "nope", 0, 1)], [(0,)], [(0, 1, 2, 3, 4)], ["abcd"]
                ),
                says=("control",),
            ),
        },
    ),
    "Comparison": Target(
        call=sbldlib.Comparison,
        fields={
            "name": needed(NAME),
            "tables": needed(TABLES),
            "seeds": Field(**SEEDS),
            "steps": Field(**whole(1, (1, 500), too_large=(10**30,))),
            "saving": Field(**number(0, 0.5, low_open=True)),
            "mode": Field(**choice(MODES)),
            "preset": Field(**choice(PRESETS)),
            "model": Field(
                right=one_of({}, {"num_layers": 3, "width": 8, "num_heads": 2}),
                wrong=one_of(
                    None,
                    3,
                    "tiny",
                    [],
                    {"widht": 8},
                    {"width": -1},
                    {3: 3},
                    {"width": None},
                    object(),
                ),
                says=("width",),
            ),
            "batch_size": Field(**whole(1, (9, 16))),
            "arithmetic_rows": Field(**whole(0, (0, 8), too_large=(10**30,))),
            "text_bytes": Field(**whole(1, (10**5, 4_000_000), or_none=True)),
            "text_vocabulary": Field(**whole(256, (256, 300), too_large=(10**9,), or_none=True)),
            "learning_rate": Field(**number(0, math.inf, low_open=True, high_open=True)),
            "warmup_steps": Field(**whole(0, (1, 50))),
            "sensitivity_batches": Field(**whole(2, (2, 8))),
            "pilot_pairs": Field(**whole(1, (1, 2))),
            "pilot_steps": Field(**whole(20, (20, 100))),
            "pretrain_steps": Field(**whole(0, (0, 5))),
            "validation_batches": Field(**whole(1, (1, 64))),
            "num_problems": Field(**whole(1, (1, 500))),
            "device": Field(**choice(("cpu", "cuda"))),
            "precision": Field(**choice(PRECISIONS)),
            "compile_blocks": Field(**flag()),
            "threads": Field(**whole(1, (1, 2), too_large=(10**30,))),
        },
    ),
}
