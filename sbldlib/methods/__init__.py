"""The dropping methods, one a file, each a callback of the same shape."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ..errors import unknown_name
from ..records import SensitivityData
from .base import LayerDropping, PlanMismatchError, adjust_probability, check_saving
from .linear import linear
from .none import none
from .pld import pld
from .sbld import sbld
from .uniform import uniform

__all__ = [
    "METHODS",
    "LayerDropping",
    "PlanMismatchError",
    "adjust_probability",
    "linear",
    "make_method",
    "none",
    "pld",
    "sbld",
    "uniform",
]

METHODS: dict[str, Callable[..., LayerDropping]] = {
    "none": none,
    "uniform": uniform,
    "linear": linear,
    "pld": pld,
    "sbld": sbld,
}


def make_method(
    name: str,
    model: nn.Module,
    *,
    saving: float = 0.2,
    seed: int = 0,
    mode: str = "bernoulli",
    sensitivity_data: SensitivityData | None = None,
    **options,
) -> LayerDropping:
    """A method by its name, all with the same mean drop over the run, so that they compare.

    Args:
        name: in `METHODS`.
        model: the model to drop layers of.
        saving: mean drop over layers and time, in [0, 1); "none" drops nothing whatever it is.
        seed, mode: of the draws.
        sensitivity_data: what "sbld" needs; others do not look at it.
        options: the method's own, such as sbld's `scheduler`.

    Raises:
        ValueError: an unknown name (the nearest is suggested), a value out of range, or sbld
            without sensitivities.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    check_saving(saving)
    if name == "none":
        return none(model, seed=seed)
    shared = {"saving": saving, "seed": seed, "mode": mode, **options}
    if name != "sbld":
        return METHODS[name](model, **shared)
    if sensitivity_data is None:
        raise ValueError(
            "method='sbld' needs sensitivity_data; measure it with calculate_sensitivities"
        )
    return sbld(model, sensitivity_data, **shared)
