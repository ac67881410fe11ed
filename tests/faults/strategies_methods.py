"""The library's face for the fuzzer: dropping methods, lists and schedules."""

from __future__ import annotations

import math
from typing import Any

from faults.strategies import (
    Field,
    Made,
    Target,
    choice,
    flag,
    model,
    needed,
    number,
    one_of,
    record,
    seed,
    whole,
)
from hypothesis import strategies as st

import sbldlib
from sbldlib.dropping.plan import MODES
from sbldlib.dropping.schedules import constant, linear, with_full_depth
from sbldlib.dropping.variance import DIRECTIONS
from sbldlib.methods import METHODS
from sbldlib.methods.base import RESCALES, SCOPES

Fields = dict[str, Field]
SENSITIVITY = record(Made("sensitivities", lambda world: world.sensitivity_data))
OTHER_DEPTH = Made(
    "sensitivities of two layers",
    lambda world: sbldlib.SensitivityData(values=(1.0, 2.0), standard_errors=(0.0, 0.0)),
)
OF_MODEL = {**SENSITIVITY, "wrong": st.one_of(SENSITIVITY["wrong"], one_of(OTHER_DEPTH))}
LISTS = record(Made("lists", lambda world: world.lists), or_none=True)
SCHEDULES = (
    Made("constant 0.8", lambda world: constant(0.8)),
    Made("linear 1 to 0.7", lambda world: linear(1.0, 0.7)),
    Made("a fitted schedule", lambda world: world.scheduler),
    Made("full depth at the end", lambda world: with_full_depth(constant(0.9), end=0.25)),
    Made("a function", lambda world: lambda progress: 0.9),
)
NO_SCHEDULES = (
    "constant", [], {}, [0.8, 0.7], object(), True, math.nan, "0.8", b"x",
    Made("a schedule of NaN", lambda world: lambda progress: math.nan),
    Made("a schedule above 1", lambda world: lambda progress: 1.5),
    Made("a schedule of 0", lambda world: lambda progress: 0.0),
    Made("a schedule of words", lambda world: lambda progress: "much"),
    Made("a schedule of nothing", lambda world: lambda progress: None),
)  # fmt: skip
SCHEDULER = {"right": one_of(None, *SCHEDULES), "wrong": one_of(0.8, *NO_SCHEDULES)}
NEW_SCHEDULER = {
    "right": one_of(0.8, 1, *SCHEDULES),
    "wrong": one_of(0, 1.5, -1, None, *NO_SCHEDULES),
}
DRAWS: Fields = {
    "seed": Field(**seed()),
    "mode": Field(**choice(MODES)),
    "scope": Field(**choice(SCOPES)),
    "rescale": Field(**choice(RESCALES)),
}
SAVING = number(0, 1, high_open=True, often=(0.0, 0.1, 0.2, 0.25))
SAVING["wrong"] = SAVING["wrong"].filter(lambda value: value is not None)  # the method's own
SBLD: Fields = {
    "scheduler": Field(**SCHEDULER),
    "saving": Field(**SAVING),
    "lists": Field(**LISTS),
    "weight": Field(**choice(("rank", "value", "equal"))),
    "drop_max": Field(**number(0, 1, low_open=True, high_open=True, often=(0.7, 0.9))),
    "full_depth_start": Field(
        **number(0, 1, high_open=True, often=(0.0, 0.1)), says=("start", "first")
    ),
    "full_depth_end": Field(**number(0, 1, high_open=True, often=(0.0, 0.1)), says=("end", "last")),
}
OPTIONS: Fields = {  # of the other methods
    "theta_bar": Field(**number(0, 1, low_open=True)),
    "gamma": Field(**number(0, math.inf, low_open=True, high_open=True)),
    "first_index": Field(right=one_of(0, 1), wrong=one_of(2, -1, "0", None, [0], True, 0.0, 1j)),
    "p_max": Field(**number(0, 0.9)),
    "schedule": Field(**choice(("constant", "exponential"))),
    "path_lengths": Field(
        right=one_of(None, (2.5, 3), [3], (2.2, 2.5, 3)),
        wrong=one_of((), [0], (3, 2.5), [4], "3", 3, [math.nan], [None], [[3]], {}, object()),
    ),
    "t_0": Field(**number(0, 1)),
    "freeze_times": Field(**choice(("linear", "cubic"))),
}

SHARED = {"name", "model", "saving", "sensitivity_data", "seed", "mode", "scope", "rescale"}
METHOD_OPTIONS: dict[Any, set[str]] = {
    **{name: SHARED for name in METHODS},
    "sbld": SHARED | SBLD.keys(),
    "pld": SHARED | {"theta_bar", "gamma", "first_index"},
    "layerskip": SHARED | {"p_max", "schedule"},
    "dont_drop_dropout": SHARED | {"p_max"},
    "raptr": SHARED | {"path_lengths"},
    "freezing": SHARED | {"t_0", "freeze_times"},
}


def _hashed(value: Any) -> Any:
    return value if isinstance(value, str) else None


METHODS_FACE: dict[str, Target] = {
    "sbld": Target(
        call=sbldlib.sbld,
        more=("mode", "scope", "rescale"),
        fields={
            "model": needed(model()),
            "sensitivity_data": needed(OF_MODEL),
            **SBLD,
            **DRAWS,
        },
    ),
    "make_method": Target(
        call=sbldlib.make_method,
        more=("scope", "rescale", *(name for name in SBLD if name != "saving"), *OPTIONS),
        fields={
            "name": needed(choice(METHODS), says=("method",)),
            "model": needed(model()),
            "saving": Field(**SAVING),
            "sensitivity_data": Field(**OF_MODEL, unread=True),
            **DRAWS,
            **{name: field for name, field in SBLD.items() if name != "saving"},
            **OPTIONS,
        },
        belongs=lambda name, given: name in METHOD_OPTIONS.get(_hashed(given["name"]), {name}),
    ),
    "adjust_probability": Target(
        call=sbldlib.adjust_probability,
        fields={
            "model": needed(model()),
            "scheduler": needed(NEW_SCHEDULER),
            "progress": Field(**number(0, 1, or_none=True)),
        },
    ),
    "create_block_allow_lists": Target(
        rarity=4,
        call=sbldlib.create_block_allow_lists,
        fields={
            "sensitivity_data": needed(SENSITIVITY),
            "fraction": Field(**number(0, 1, low_open=True, high_open=True, or_none=True)),
            "count": Field(**whole(0, (0, 1, 2), too_large=(3, 10**30), or_none=True)),
            "threshold": Field(**number(-1e9, math.inf, or_none=True)),
            "largest_gap": Field(**flag()),
            "top_group": Field(**number(0, math.inf, high_open=True, or_none=True)),
        },
    ),
    "create_variance_based_scheduler": Target(
        call=sbldlib.create_variance_based_scheduler,
        fields={
            "training_data": needed(
                record(
                    Made("a pilot", lambda world: world.pilot),
                    Made("a curve", lambda world: world.scheduler.curve),
                )
            ),
            "saving": Field(**number(0, 0.45)),
            "mean_keep_min": Field(**number(0, 1, low_open=True)),
            "degree": Field(**whole(0, (0, 1, 2), too_large=(20, 10**30)), says=("variance",)),
            "window": Field(**number(0, 1), unread=True),
            "direction": Field(**choice(DIRECTIONS)),
            "num_starts": Field(**whole(1, (1, 2), too_large=(10**30,))),
            "seed": Field(**seed()),
        },
    ),
    "update_keep_probability": Target(
        call=sbldlib.update_keep_probability,
        fields={
            "sensitivity_data": needed(SENSITIVITY),
            "optimal_keep_probability": needed(
                number(0, 1, low_open=True, often=(0.6, 0.8, 1.0)), says=("mean_keep",)
            ),
            "lists": Field(**LISTS),
            "weight": Field(**choice(("rank", "value", "equal"))),
            "drop_max": Field(**number(0, 1, low_open=True, high_open=True, often=(0.7, 0.9))),
        },
    ),
}
