"""The dropping methods, one a file, each a callback of the same shape."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn

from ..errors import check_choice, unknown_name
from ..records import SensitivityData
from .base import DRAWS, LayerDropping, PlanMismatchError, adjust_probability, check_saving
from .dont_drop_dropout import dont_drop_dropout
from .dropbp import dropbp
from .freezing import freezing
from .layerskip import layerskip
from .linear import linear
from .none import none
from .pld import pld
from .raptr import raptr
from .sbld import sbld
from .uniform import uniform

__all__ = [
    "METHODS",
    "LayerDropping",
    "PlanMismatchError",
    "adjust_probability",
    "dont_drop_dropout",
    "dropbp",
    "freezing",
    "layerskip",
    "linear",
    "make_method",
    "none",
    "pld",
    "raptr",
    "sbld",
    "uniform",
]

METHODS: dict[str, Callable[..., LayerDropping]] = {
    "none": none,
    "uniform": uniform,
    "linear": linear,
    "pld": pld,
    "layerskip": layerskip,
    "dont_drop_dropout": dont_drop_dropout,
    "raptr": raptr,
    "dropbp": dropbp,
    "freezing": freezing,
    "sbld": sbld,
}


def make_method(
    name: str,
    model: nn.Module,
    *,
    saving: float = 0.2,
    seed: int = 0,
    mode: str | None = None,
    sensitivity_data: SensitivityData | None = None,
    **options,
) -> LayerDropping:
    """A method by its name, all with the same mean drop over the run, so that they compare.

    Args:
        name: in `METHODS`.
        model: the model to drop layers of.
        saving: mean drop over layers and time, in [0, 1); "none" drops nothing whatever it is. For
            "dropbp" and "freezing" it is the share of backward passes, forward runs whole.
        seed, mode: of the draws; where no mode is named, the method's own.
        sensitivity_data: what "sbld" needs and "dropbp" may have; others do not look at it.
        options: scope and rescale, as in `LayerDropping`, and the method's own, such as sbld's
            `scheduler`.

    Raises:
        ValueError: an unknown name or option (the nearest is suggested), a value out of range, or
            sbld without sensitivities.
    """
    check_choice("method", name, METHODS)
    saving = check_saving(saving)
    own = inspect.signature(METHODS[name]).parameters.keys() - {"model", "draws"}
    for option in options:
        if option not in (known := own | {*DRAWS} - {"sensitivity_data"}):
            raise unknown_name("option", option, known)
    draws = {"seed": seed, **({} if mode is None else {"mode": mode}), **options}
    if name == "none":
        return none(model, **draws)
    shared = {"saving": saving, **draws}
    if name == "dropbp":
        return dropbp(model, sensitivity_data=sensitivity_data, **shared)
    if name != "sbld":
        return METHODS[name](model, **shared)
    if sensitivity_data is None:
        raise ValueError(
            "method='sbld' needs sensitivity_data; measure it with calculate_sensitivities"
        )
    return sbld(model, sensitivity_data, **shared)
