"""Where the time of a training step goes, by torch's own profiler."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from ..errors import check_finite, check_positive_int
from ..losses import check_loss, device_of, next_token_loss
from ..records import Record

PHASES = ("forward", "backward", "clipping", "optimizer")
# Parts of an operator's name, for its kind; the first kind that fits has it.
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn_linear", "aten::linear"),
    "attention": ("scaled_dot_product",),
    "GELU": ("gelu",),
    "norms": ("layer_norm",),
    "softmax and loss": ("log_softmax", "nll_loss", "cross_entropy"),
    "optimizer": ("adamw", "optimizer"),
}
REST = "sums, copies, Python"
_LOG_LEVEL = "KINETO_LOG_LEVEL"
_LABEL = "sbldlib: "


@dataclass(frozen=True, kw_only=True)
class StepProfile(Record):
    """Where the time of training steps went, in seconds a step.

    Attributes:
        phases: of each of `PHASES`.
        operators: of each operator of torch, what it calls not counted; most first.
        num_steps: that were measured.
    """

    phases: dict[str, float]
    operators: dict[str, float]
    num_steps: int

    def __post_init__(self) -> None:
        for name in ("phases", "operators"):
            seconds = check_finite(name, getattr(self, name).values())
            if not seconds or min(seconds) < 0 or math.fsum(seconds) <= 0:
                raise ValueError(f"{name}={getattr(self, name)!r} must be seconds of a step")

    def phase_shares(self) -> dict[str, float]:
        """Share of a step that each phase took; they add up to 1."""
        return _shares(self.phases)

    def kind_shares(self) -> dict[str, float]:
        """Share of a step that each kind of operator took, see `KINDS`; they add up to 1."""
        seconds = dict.fromkeys((*KINDS, REST), 0.0)
        for name, each in self.operators.items():
            seconds[kind_of(name)] += each
        return _shares(seconds)


def profile_steps(
    model: nn.Module,
    batch: Any,
    optimizer: torch.optim.Optimizer,
    *,
    num_steps: int = 5,
    clip_norm: float = 1.0,
    loss: Callable[[nn.Module, Any], Tensor] = next_token_loss,
) -> StepProfile:
    """Measure training steps on one batch: the model is trained by them.

    One step before them is not measured: it makes the optimiser's moments.

    Args:
        model: on a CPU, in training mode.
        batch: what `loss` takes.
        optimizer: of the model's weights.
        num_steps: to measure, >= 1.
        clip_norm: cap of the gradient's norm.

    Raises:
        ValueError: a value out of range, or a model that is not on a CPU: a profile of what waits
            for a GPU says little about the GPU.
    """
    check_positive_int("num_steps", num_steps)
    if (device := device_of(model)).type != "cpu":
        raise ValueError(
            f"model is on {device}: profiled is what runs on a CPU; use torch.profiler"
        )

    def step() -> None:
        with record_function(f"{_LABEL}forward"):
            value = check_loss(loss(model, batch))
        with record_function(f"{_LABEL}backward"):
            value.backward()
        with record_function(f"{_LABEL}clipping"):
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        with record_function(f"{_LABEL}optimizer"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    step()
    with _quiet(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(num_steps):
            step()
    a_step = 1e-6 / num_steps  # the profiler tells microseconds
    events = profiler.key_averages()
    phases = {e.key.removeprefix(_LABEL): e.cpu_time_total * a_step for e in events if _is_ours(e)}
    own = {e.key.removeprefix(_LABEL): e.self_cpu_time_total * a_step for e in events}
    ordered = sorted(own, key=lambda name: -own[name])
    return StepProfile(
        phases={name: phases[name] for name in PHASES},
        operators={name: own[name] for name in ordered},
        num_steps=num_steps,
    )


def kind_of(operator: str) -> str:
    """The kind of an operator of torch, a key of `KINDS` or `REST`.

    Args:
        operator: its name, such as "aten::addmm".
    """
    name = operator.lower()
    return next((kind for kind, parts in KINDS.items() if any(p in name for p in parts)), REST)


def _shares(seconds: dict[str, float]) -> dict[str, float]:
    total = math.fsum(seconds.values())
    return {name: each / total for name, each in seconds.items()}


def _is_ours(event: Any) -> bool:
    return event.key.startswith(_LABEL)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines that some versions of the profiler write to the terminal."""
    before = os.environ.get(_LOG_LEVEL)
    os.environ[_LOG_LEVEL] = "99"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LOG_LEVEL]
        else:
            os.environ[_LOG_LEVEL] = before
