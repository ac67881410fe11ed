"""The library's face for the fuzzer: every public function, and what each argument takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faults.strategies import (
    Field,
    Made,
    batches,
    choice,
    flag,
    function,
    layers,
    model,
    number,
    one_of,
    path,
    record,
    seed,
    whole,
)
from faults.world import CONFIG, NUM_LAYERS
from hypothesis import strategies as st

import sbldlib
from sbldlib.dropping.plan import MODES
from sbldlib.dropping.schedules import constant, linear, with_full_depth
from sbldlib.dropping.variance import DIRECTIONS
from sbldlib.losses import next_token_loss
from sbldlib.methods import METHODS
from sbldlib.methods.base import RESCALES, SCOPES
from sbldlib.models.gpt_config import ACTIVATIONS, PRESETS
from sbldlib.sensitivity import ESTIMATORS

Fields = dict[str, Field]


@dataclass(frozen=True, kw_only=True)
class Target:
    """One function, and its arguments by name.

    Attributes:
        call: takes the arguments by name; sees the world where `sees_world` is set.
        more: arguments that `call` passes on and that its signature does not name.
        rarity: one in so many optional arguments is given.
        belongs: whether an argument goes with the others, where some do not.
        is_note: a record of what happened, which holds whatever it is told.
    """

    call: Callable[..., Any]
    fields: Fields
    sees_world: bool = False
    more: tuple[str, ...] = ()
    rarity: int = 2
    belongs: Callable[[str, dict[str, Any]], bool] | None = None
    is_note: bool = False


def needed(kind: dict[str, Any], **more: Any) -> Field:
    """A field that the call cannot do without."""
    return Field(**kind, needed=True, **more)


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
LOSS = function(
    next_token_loss, Made("a loss", lambda world: lambda m, b: 2 * next_token_loss(m, b))
)
LOSS["wrong"] = st.one_of(
    LOSS["wrong"],
    one_of(
        Made("a loss of NaN", lambda world: lambda m, b: next_token_loss(m, b) * math.nan),
        Made("a loss of many numbers", lambda world: lambda m, b: m(b[0])),
        Made("a loss of nothing", lambda world: lambda m, b: None),
        Made("a loss in words", lambda world: lambda m, b: "low"),
    ),
)
WITHIN = {
    "right": one_of(None, "blocks", ""),
    "wrong": one_of("nope", "blocks.0.mlp", 3, [], 0.5, True, b"blocks", "\x1b[2J", object()),
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


FACE: dict[str, Target] = {
    "GPTConfig": Target(
        call=sbldlib.GPTConfig,
        fields={
            "vocabulary_size": needed(whole(1, (1, 16, 50257), too_large=(10**30,))),
            "context_length": needed(whole(1, (1, 8, 1024), too_large=(10**30,))),
            "num_layers": needed(whole(1, (1, 3, 48), too_large=(10**9, 10**30))),
            "num_heads": needed(whole(1, (1, 2, 4), too_large=(10**30,))),
            "width": needed(whole(1, (1, 4, 8, 768), too_large=(2**62, 10**30))),
            "dropout": Field(**number(0, 1, high_open=True)),
            "init_std": Field(**number(0, math.inf, low_open=True, high_open=True)),
            "bias": Field(**flag()),
            "activation": Field(**choice(ACTIVATIONS)),
        },
    ),
    "GPT": Target(
        call=sbldlib.GPT,
        fields={
            "config": needed(
                {
                    "right": one_of(CONFIG),
                    "wrong": one_of(None, "tiny", {}, {"width": 8}, 3, sbldlib.GPTConfig, object()),
                }
            ),
            "seed": Field(**seed()),
        },
    ),
    "GPT.from_preset": Target(
        call=sbldlib.GPT.from_preset,
        more=("num_layers", "width"),
        fields={
            "name": needed({**choice(PRESETS), "right": one_of("tiny")}, says=("preset",)),
            "seed": Field(**seed()),
            "num_layers": Field(**whole(1, (1, 2), too_large=(10**9, 10**30))),
            "width": Field(**whole(1, (4, 8), too_large=(2**62, 10**30))),
        },
    ),
    "GPT.generate": Target(
        call=lambda world, **given: world.model.generate(**given),
        sees_world=True,
        more=("tokens_BT", "num_tokens", "temperature", "top_k", "generator", "use_cache"),
        fields={
            "tokens_BT": needed(
                {
                    "right": one_of(Made("a prompt", lambda w: w.batches[0][0][:, :2])),
                    "wrong": one_of(
                        None,
                        "once",
                        [1, 2],
                        3,
                        object(),
                        Made("no token", lambda w: w.batches[0][0][:, :0]),
                        Made("unknown tokens", lambda w: w.batches[0][0][:, :2] + 99),
                        Made("broken tokens", lambda w: w.batches[0][0][:, :2] / 2),
                        Made("one dimension", lambda w: w.batches[0][0][0, :2]),
                    ),
                },
                says=("token",),
            ),
            "num_tokens": needed(whole(1, (1, 2, 3), too_large=(7, 10**30))),
            "temperature": Field(**number(0, math.inf, high_open=True)),
            "top_k": Field(**whole(1, (1, 5), too_large=(17, 10**30), or_none=True)),
            "generator": Field(
                right=one_of(None, Made("a generator", lambda w: __import__("torch").Generator())),
                wrong=one_of(3, "x", object(), [], __import__("numpy").random.default_rng(0)),
            ),
            "use_cache": Field(**flag()),
        },
    ),
    "skip_layers": Target(
        call=sbldlib.skip_layers,
        fields={
            "model": needed(model()),
            "layers_to_skip": needed(layers(NUM_LAYERS)),
            "within": Field(**WITHIN),
        },
    ),
    "prune": Target(
        call=sbldlib.prune,
        fields={
            "model": needed(model()),
            "layers_to_remove": needed(layers(NUM_LAYERS)),
            "within": Field(**WITHIN),
        },
    ),
    "early_exit": Target(
        call=sbldlib.early_exit,
        fields={
            "model": needed(model()),
            "layer": needed(whole(1, (1, 2, 3), too_large=(4, 10**30))),
            "within": Field(**WITHIN),
        },
    ),
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
    "calculate_sensitivity": Target(
        call=sbldlib.calculate_sensitivity,
        fields={
            "model": needed(model()),
            "layer": needed(whole(0, range(NUM_LAYERS), too_large=(NUM_LAYERS, 10**30))),
            "batches": needed(batches(), says=("token", "target", "loss")),
            "method": Field(**choice(ESTIMATORS)),
            "loss": Field(**LOSS, unread=True),
        },
    ),
    "calculate_sensitivities": Target(
        call=sbldlib.calculate_sensitivities,
        fields={
            "model": needed(model()),
            "batches": needed(batches(), says=("token", "target", "loss")),
            "method": Field(**choice(ESTIMATORS)),
            "loss": Field(**LOSS, unread=True),
            "iteration": Field(**whole(0, (0, 5, 10**6), or_none=True)),
            "rows_at_once": Field(**whole(1, (1, 2, 64), or_none=True)),
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
__all__ = ["DRAWS", "FACE", "Field", "Fields", "Target", "needed", "path"]
