"""The library's face for the fuzzer: models, layers and sensitivities."""

from __future__ import annotations

import math

import numpy as np
import torch
from faults.strategies import (
    Field,
    Made,
    Target,
    batches,
    choice,
    flag,
    function,
    layers,
    model,
    needed,
    number,
    one_of,
    seed,
    whole,
)
from faults.world import CONFIG, NUM_LAYERS
from hypothesis import strategies as st

import sbldlib
from sbldlib.losses import next_token_loss
from sbldlib.models.gpt_config import ACTIVATIONS, PRESETS
from sbldlib.sensitivity import ESTIMATORS

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
                right=one_of(None, Made("a generator", lambda w: torch.Generator())),
                wrong=one_of(3, "x", object(), [], np.random.default_rng(0)),
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
}
