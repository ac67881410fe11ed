"""The arms of a comparison: what each does otherwise than full depth, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..dropping.plan import counter_uniforms
from ..errors import check_range, unknown_name
from ..methods import METHODS
from ..records import SensitivityData

ORDERS = ("measured", "shuffled", "inverted")
SCHEDULES = ("constant", "falling", "rising", "front", "pwegd", "pwegd inverse")
DEPTHS = ("full", "shallower", "half", "pruned")
NEEDS_SENSITIVITY = ("sbld",)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm: a method with its options, or a control.

    Attributes:
        name: in tables.
        method: in `sbldlib.methods.METHODS`.
        options: the method's own, such as pld's first_index or sbld's weight.
        schedule: of sbld, in `SCHEDULES`: "falling" drops ever less, "rising" ever more, both in a
            straight line; "front" drops all it may from the start until the saving is used up;
            "pwegd" follows the fitted variance, "pwegd inverse" does the opposite.
        order: of sbld's sensitivities: as measured, or shuffled or inverted as a control.
        lists: how sbld's block list is cut, for `create_block_allow_lists`; {} is its default.
        depth: "shallower" trains a model of as many layers as dropping runs on average, "half" one
            of half as many as full depth; "pruned" removes the least sensitive layers of a
            pre-trained model, down to as many as the shallower one has.
        charged: whether its pre-analysis is paid from its budget; False is the limit of long runs.
        learning_rate_scale: factor on the base learning rate, > 0.
    """

    name: str
    method: str = "none"
    options: dict[str, Any] = field(default_factory=dict)
    schedule: str = "constant"
    order: str = "measured"
    lists: dict[str, Any] = field(default_factory=dict)
    depth: str = "full"
    charged: bool = True
    learning_rate_scale: float = 1.0

    def __post_init__(self) -> None:
        for name, known in (
            ("method", METHODS),
            ("schedule", SCHEDULES),
            ("order", ORDERS),
            ("depth", DEPTHS),
        ):
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        scale = self.learning_rate_scale
        check_range("learning_rate_scale", scale, 0, math.inf, low_open=True, high_open=True)
        if self.depth != "full" and self.method != "none":
            raise ValueError(
                f"depth={self.depth!r} is a control and takes no method={self.method!r}"
            )
        if self.method != "sbld" and (self.schedule, self.order) != ("constant", "measured"):
            raise ValueError(
                f"schedule={self.schedule!r}, order={self.order!r} are sbld's; "
                f"method={self.method!r} has its own"
            )

    @property
    def needs_sensitivity(self) -> bool:
        """Whether the layers' sensitivities have to be measured for it."""
        return self.method in NEEDS_SENSITIVITY or self.depth == "pruned"

    @property
    def needs_variance(self) -> bool:
        """Whether pilot runs and a fit have to be made for it."""
        return self.schedule.startswith("pwegd")


def _named(*arms: Arm) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms}


SBLD = Arm(name="sbld", method="sbld")

ARMS: dict[str, Arm] = _named(
    Arm(name="full depth"),
    Arm(name="shallower", depth="shallower"),
    Arm(name="half depth", depth="half"),
    Arm(name="pruned", depth="pruned"),
    *(Arm(name=name, method=name) for name in METHODS if name not in ("none", "sbld")),
    Arm(name="pld, index 1", method="pld", options={"first_index": 1}),
    SBLD,
    replace(SBLD, name="sbld, falling", schedule="falling"),
    replace(SBLD, name="sbld, rising", schedule="rising"),
    replace(SBLD, name="sbld, PWEGD", schedule="pwegd"),
    replace(SBLD, name="sbld, PWEGD inverse", schedule="pwegd inverse"),
    replace(SBLD, name="sbld, shuffled", order="shuffled"),
    replace(SBLD, name="sbld, inverted", order="inverted"),
    replace(SBLD, name="sbld, analysis free", charged=False),
    replace(SBLD, name="sbld, front", schedule="front"),
    replace(SBLD, name="sbld, front, analysis free", schedule="front", charged=False),
    replace(SBLD, name="sbld, front, shuffled", schedule="front", order="shuffled"),
    replace(SBLD, name="sbld, PWEGD, analysis free", schedule="pwegd", charged=False),
)


def ordered(measured: SensitivityData, order: str, *, seed: int) -> SensitivityData:
    """The sensitivities as measured, or with the same values in another order.

    Args:
        order: "measured"; "shuffled" gives each layer another's value, drawn from the seed;
            "inverted" gives the most sensitive layer the least value, and so on.
        seed: of the shuffle.
    """
    if order not in ORDERS:
        raise unknown_name("order", order, ORDERS)
    num_layers, places = measured.num_layers, np.arange(measured.num_layers)
    if order == "shuffled":
        places = np.argsort(counter_uniforms(num_layers, seed, 1), kind="stable")
    elif order == "inverted":
        ranking = np.asarray(measured.ranking())
        places[ranking] = ranking[::-1]
    return replace(
        measured,
        values=tuple(measured.values[place] for place in places),
        standard_errors=tuple(measured.standard_errors[place] for place in places),
        method=f"{measured.method}, {order}" if order != "measured" else measured.method,
    )
