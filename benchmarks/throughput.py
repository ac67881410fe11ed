"""Tokens per second of our GPT against transformers' GPT-2 and the published small layout.

The same configuration, batch, loss, optimiser and precision for all, in turn in one process. Every
model is plain: nothing is attached to ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sbldlib.dropping.blocks import find_blocks
from sbldlib.environment import installed_version
from sbldlib.losses import next_token_loss
from sbldlib.training.optimizer import make_optimizer

from .common import (
    Batch,
    Finding,
    Prepared,
    Question,
    Rounds,
    Setting,
    bare_step,
    compile_where_asked,
    make_batch,
    make_model,
    say,
)
from .published_layout import PublishedGPT
from .timing import ratios, spread

TARGET = 1.0
OURS = "ours"
PASSES = {"backward": "forward and backward", "step": "whole step"}
PEERS = {
    "transformers": "transformers' GPT2LMHeadModel",
    "published": "nanoGPT's published layout",
}
# The same peers with our activation, the tanh GELU in one kernel: what else there is between us.
ALIKE = {name: f"{name} with our GELU" for name in PEERS}

Loss = Callable[[nn.Module, Batch], Tensor]


def prepare(setting: Setting) -> Prepared:
    """Two arms a model: up to backward, and the whole step with clipping and AdamW."""
    models: dict[str, tuple[nn.Module, Loss]] = {
        OURS: (make_model(setting), next_token_loss),
        "published": (published_model(setting), published_loss),
        ALIKE["published"]: (published_model(setting, nn.GELU("tanh")), published_loss),
    }
    if installed_version("transformers") is None:
        say("!! SKIPPED: transformers is not installed, so our GPT is not timed against its GPT-2")
    else:
        fused = transformers_model(setting, "gelu_pytorch_tanh")
        models["transformers"] = transformers_model(setting), next_token_loss
        models[ALIKE["transformers"]] = fused, next_token_loss
    batch, arms = make_batch(setting), {}
    for name, (model, loss) in models.items():
        compile_where_asked(find_modules(model), setting)
        optimizer = make_optimizer(model)
        arms[f"{name} step"] = bare_step(model, batch, setting, loss=loss, optimizer=optimizer)
        if name not in ALIKE.values():
            arms[f"{name} backward"] = bare_step(model, batch, setting, loss=loss)
    return Prepared(arms=arms, facts={"tokens_per_step": setting.tokens_per_step})


def find_modules(model: nn.Module) -> list[nn.Module]:
    """The residual blocks of any of the models here."""
    return [block.module for block in find_blocks(model)]


def published_model(setting: Setting, activation: nn.Module | None = None) -> PublishedGPT:
    """The published layout at this setting's configuration; its own GELU is the exact one."""
    with torch.device(setting.device):
        return PublishedGPT(setting.config, activation or nn.GELU()).train()


def published_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Its `forward` takes the targets and returns the loss."""
    return model(*batch)


def transformers_model(setting: Setting, activation: str = "gelu_new") -> nn.Module:
    """transformers' GPT-2 at this setting's configuration, with SDPA and without a cache."""
    from transformers import AutoModelForCausalLM, GPT2Config

    config = setting.config
    theirs = GPT2Config(
        vocab_size=config.vocabulary_size,
        n_positions=config.context_length,
        n_embd=config.width,
        n_layer=config.num_layers,
        n_head=config.num_heads,
        activation_function=activation,
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    with torch.device(setting.device):
        return AutoModelForCausalLM.from_config(theirs, attn_implementation="sdpa").train()


def findings(rounds: Rounds, facts: Mapping[str, Any]) -> tuple[Finding, ...]:
    """How many times as fast ours is as each peer, and everyone's tokens per second."""
    tokens = facts["tokens_per_step"]
    peers = [name for name in PEERS if f"{name} step" in rounds]
    ours = rounds[f"{OURS} step"]
    compared = [
        Finding(
            claim=f"tokens/s, ours / {PEERS[peer]}, {words}",
            unit="x",
            spread=spread(ratios(rounds[f"{peer} {part}"], rounds[f"{OURS} {part}"])),
            at_least=TARGET,
        )
        for peer in peers
        for part, words in PASSES.items()
    ]
    alike = [
        Finding(
            claim=f"tokens/s, ours / {PEERS[peer]} with our GELU, whole step",
            unit="x",
            spread=spread(ratios(rounds[f"{ALIKE[peer]} step"], ours)),
        )
        for peer in peers
    ]
    absolute = [
        Finding(
            claim=f"tokens/s, {title}, whole step",
            unit="tokens/s",
            spread=spread([tokens / seconds for seconds in rounds[f"{name} step"]]),
        )
        for name, title in [(OURS, "our GPT"), *((peer, PEERS[peer]) for peer in peers)]
    ]
    return (*compared, *alike, *absolute)


QUESTION = Question(
    name="throughput",
    rounds={"tiny": 60, "cpu": 17, "cuda": 11},
    prepare=prepare,
    findings=findings,
)
