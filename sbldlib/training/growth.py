"""A model that grows while it trains: a callback takes it, and its optimiser, on by a stage."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from ..errors import check_choice, check_finite, check_kind, check_positive_int, shown
from .callbacks import Callback, StepContext

OPTIMIZER_STATES = ("carry", "restart")


@runtime_checkable
class GrowingModel(Protocol):
    """What can grow, such as `DivergingGPT`."""

    @property
    def stage(self) -> int:
        """That it is at, from 0."""
        ...

    @property
    def num_stages(self) -> int:
        """Of all."""
        ...

    def grow(self) -> Mapping[nn.Parameter, nn.Parameter]:
        """Go to the next stage; each new weight, and the old one that it is a copy of."""
        ...


class Growing(Callback):
    """Grows a model at given shares of its run. Put it before a dropping method.

    A run that is kept in a folder goes on at the stage that it was at; called again, it takes a
    model at its first stage, as it did before.

    Args:
        model: with `stage`, `num_stages` and `grow`.
        optimizer: that trains it; copies join the group of their originals, low-rank changes that
            of the matrices.
        at: progress, in (0, 1), at which each later stage begins, ascending; None for stages of
            equal length.
        optimizer_state: "carry" (a copy begins with what the optimiser knew of its original) or
            "restart" (the optimiser forgets everything at each stage).

    Raises:
        ValueError: a model that cannot grow, one number too many or few in `at`, or out of order.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        at: Sequence[float] | None = None,
        optimizer_state: str = "carry",
    ) -> None:
        if not isinstance(model, GrowingModel):
            raise ValueError(
                f"model={shown(model)} cannot grow: it lacks stage, num_stages or grow; "
                "DivergingGPT has them"
            )
        right = "the optimizer that trains the model"
        self._optimizer = check_kind("optimizer", optimizer, torch.optim.Optimizer, right)
        self._model, self._first = model, model.stage
        self._carries = (
            check_choice("optimizer_state", optimizer_state, OPTIMIZER_STATES) == "carry"
        )
        left = model.num_stages - 1 - model.stage
        self.at = _equal_stages(left) if at is None else _check_at(at, left)

    def before_step(self, context: StepContext) -> None:
        """Grow where this step is the first of a stage."""
        due = self._first + sum(context.progress >= share for share in self.at)
        context.model_changed |= self._grow_to(due)

    def describe(self) -> dict[str, Any]:
        """When it grows, and what becomes of the optimiser's state."""
        state = OPTIMIZER_STATES[not self._carries]
        return {**super().describe(), "at": list(self.at), "optimizer_state": state}

    def state_dict(self) -> dict[str, Any]:
        """The stage."""
        return {"stage": self._model.stage}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Grow to the stage that it was at; the weights are put back after this."""
        asked = check_positive_int("stage", state["stage"], minimum=0)
        if not self._model.stage <= asked < self._model.num_stages:
            raise ValueError(
                f"stage={asked} of the file, for a model at stage {self._model.stage} of "
                f"{self._model.num_stages}: make the model anew, at its first stage"
            )
        self._grow_to(asked)

    def _grow_to(self, stage: int) -> bool:
        grew = self._model.stage < stage
        while self._model.stage < stage:
            origin = self._model.grow()
            follow_growth(self._optimizer, self._model, origin, carry=self._carries)
        return grew


def follow_growth(
    optimizer: torch.optim.Optimizer,
    model: Any,
    origin: Mapping[nn.Parameter, nn.Parameter],
    *,
    carry: bool,
) -> None:
    """Let an optimiser train a model's new weights, and forget those that it no longer has.

    Args:
        origin: each new weight, and the old one whose group, and state, it takes.
        carry: whether states are kept and copied; else all are forgotten.
    """
    groups, weights = optimizer.param_groups, list(model.parameters())
    here = {id(weight) for weight in weights}
    for gone in [weight for weight in optimizer.state if id(weight) not in here or not carry]:
        del optimizer.state[gone]
    place = {id(p): group for group in groups for p in group["params"]}
    of_matrices = next((g for g in groups if any(p.ndim >= 2 for p in g["params"])), groups[0])
    for weight in weights:
        old = origin.get(weight)  # a copy joins even where it stands still: it may learn later
        if id(weight) in place or (old is None and not weight.requires_grad):
            continue
        place.get(id(old), of_matrices)["params"].append(weight)
        if carry and old is not None and old in optimizer.state:
            optimizer.state[weight] = copy.deepcopy(optimizer.state[old])
    for group in groups:
        group["params"] = [weight for weight in group["params"] if id(weight) in here]


def _equal_stages(num_later: int) -> tuple[float, ...]:
    return tuple((place + 1) / (num_later + 1) for place in range(num_later))


def _check_at(at: Sequence[float], num_later: int) -> tuple[float, ...]:
    shares = check_finite("at", at)
    is_ascending = list(shares) == sorted(set(shares))
    if len(shares) != num_later or not is_ascending or not all(0 < s < 1 for s in shares):
        raise ValueError(
            f"at={shown(at)} must hold {num_later} ascending number(s) in (0, 1), one for each "
            f"stage to come, such as {_equal_stages(num_later)}"
        )
    return shares
