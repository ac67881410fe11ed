"""Comparisons by name: what `sbld compare --preset` and the benchmarks run."""

from __future__ import annotations

from dataclasses import replace

from .arms import ARMS, SBLD
from .settings import Comparison, Table

CONTROLS = ("full depth", "shallower", "uniform", "sbld", "sbld, shuffled", "sbld, inverted")
SCHEDULES = ("sbld, front", "sbld, falling", "sbld, rising", "sbld, PWEGD", "sbld, PWEGD inverse")
FIELD = ("linear", "pld", "pld, index 1", "layerskip", "dont_drop_dropout", "raptr")
FIELD += ("dropbp", "freezing")


def _table(budget: str, *names: str) -> Table:
    return Table(budget=budget, arms=tuple(ARMS[name] for name in names))


SMOKE = Comparison(
    name="smoke",
    tables=(_table("steps", "full depth", "shallower", "uniform", "sbld"),),
    seeds=(0, 1),
    steps=20,
    model={"num_layers": 4, "width": 32},
    text_bytes=400_000,
    warmup_steps=5,
    sensitivity_batches=2,
    validation_batches=4,
    num_problems=24,
)

CPU = Comparison(
    name="cpu",
    tables=(
        _table("steps", *CONTROLS, *SCHEDULES, *FIELD),
        _table(
            "flops",
            *CONTROLS,
            "half depth",
            "sbld, front",
            "sbld, front, shuffled",
            "sbld, PWEGD",
            "sbld, analysis free",
            "sbld, front, analysis free",
            "pld",
            "raptr",
            "dropbp",
            "freezing",
        ),
        _table(
            "seconds",
            "full depth",
            "shallower",
            "half depth",
            "uniform",
            "sbld",
            "sbld, front",
            "sbld, front, analysis free",
        ),
    ),
)

EIGHTH, EQUAL = {"fraction": 0.125}, {"weight": "equal"}

# What METHOD leaves open, one choice at a time, on seeds that no other comparison uses.
SEARCH = replace(
    CPU,
    name="search",
    seeds=(100, 101),
    tables=(
        Table(
            budget="steps",
            arms=(
                ARMS["full depth"],
                ARMS["shallower"],
                ARMS["uniform"],
                SBLD,
                ARMS["sbld, falling"],
                ARMS["sbld, rising"],
                ARMS["sbld, PWEGD"],
                ARMS["sbld, PWEGD inverse"],
                ARMS["sbld, front"],
                replace(SBLD, name="front, weight equal", schedule="front", options=EQUAL),
                replace(SBLD, name="front, lists 1/8", schedule="front", lists=EIGHTH),
                replace(SBLD, name="front, rate 1.4", schedule="front", learning_rate_scale=1.4),
                replace(SBLD, name="full at the end 1/4", options={"full_depth_end": 0.25}),
                replace(SBLD, name="full at the end 1/2", options={"full_depth_end": 0.5}),
                replace(SBLD, name="lists 1/8", lists=EIGHTH),
                replace(SBLD, name="lists 1/2", lists={"fraction": 0.5}),
                replace(SBLD, name="weight value", options={"weight": "value"}),
                replace(SBLD, name="weight equal", options=EQUAL),
                replace(SBLD, name="bernoulli", options={"mode": "bernoulli"}),
                replace(SBLD, name="per sequence", options={"scope": "per_sequence"}),
                replace(SBLD, name="train inverse", options={"rescale": "train_inverse"}),
                replace(SBLD, name="eval scale", options={"rescale": "eval_scale"}),
                replace(SBLD, name="learning rate 1.4", learning_rate_scale=1.4),
                replace(SBLD, name="learning rate 0.7", learning_rate_scale=0.7),
            ),
        ),
    ),
)
# The base learning rate was chosen for full depth, here, so that no method wins by a better rate.
SEARCH_RATE = replace(
    SEARCH,
    name="search-rate",
    seeds=(100,),
    learning_rate=3e-3,
    tables=(
        Table(
            budget="steps",
            arms=tuple(
                replace(ARMS[name], name=f"{name}, rate {scale:g}", learning_rate_scale=scale)
                for name in ("full depth", "shallower")
                for scale in (1.0, 1.4, 2.0, 3.0)
            ),
        ),
    ),
)

# Where might dropping beat a shallower model? At the FLOPs of a full-depth run that is cut short.
HARDER = replace(
    CPU,
    tables=(
        _table("flops", "full depth", "shallower", "half depth", "sbld, front, analysis free"),
    ),
)
LONGER = replace(
    CPU, tables=(_table("flops", "full depth", "half depth", "sbld, front, analysis free"),)
)

COMPARISONS: dict[str, Comparison] = {
    known.name: known
    for known in (
        SMOKE,
        CPU,
        SEARCH,
        SEARCH_RATE,
        replace(HARDER, name="depth-16", model={"num_layers": 16}),
        replace(HARDER, name="depth-24", model={"num_layers": 24}),
        replace(HARDER, name="width-128", model={"width": 128}),
        replace(HARDER, name="saving-40", saving=0.4),
        replace(LONGER, name="long", steps=2000),
        replace(LONGER, name="epochs", steps=1000, arithmetic_rows=0, text_bytes=200_000),
    )
}

COMPARISONS["finetune"] = replace(
    HARDER,
    name="finetune",
    steps=200,
    pretrain_steps=600,
    warmup_steps=0,
    learning_rate=3e-3,
    tables=(_table("flops", "full depth", "pruned", "sbld", "sbld, front"),),
)

ON_GPU = replace(
    CPU,
    device="cuda",
    arithmetic_rows=0,
    text_bytes=None,
    learning_rate=6e-4,
    tables=(
        _table("steps", "full depth", "shallower", "uniform", "pld", "sbld", "sbld, front"),
        _table(
            "seconds",
            "full depth",
            "shallower",
            "uniform",
            "sbld, front",
            "sbld, front, analysis free",
        ),
    ),
)
for _name, _preset, _steps, _rows in (
    ("gpu-124m", "gpt2-124m", 1500, 16),
    ("gpu-medium", "gpt3-medium", 1000, 8),
):
    COMPARISONS[_name] = replace(
        ON_GPU,
        name=_name,
        preset=_preset,
        steps=_steps,
        batch_size=_rows,
        text_vocabulary=16_384,  # there is not text enough for the model's whole vocabulary
    )
