"""What `compare` is given, looked at before anything is trained or written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..errors import check_callable, check_folder, check_kind, check_range
from .costs import Prices
from .settings import Comparison
from .subject import Subject


def check_arguments(
    comparison: Any, folder: Any, subject: Any, prices: Any, stop_after: Any, *told: Any
) -> tuple[Path, float | None]:
    """The folder and the seconds as plain values.

    Raises:
        ValueError: an argument of `compare` that is none; it is named with its value.
    """
    check_kind("comparison", comparison, Comparison, "a Comparison, such as COMPARISONS['cpu']")
    where = check_folder("folder", folder)
    if subject is not None:
        check_kind("subject", subject, Subject, "a Subject, or None for the kit's own")
    if prices is not None:
        check_kind("prices", prices, Prices, "Prices, or None to measure them")
    for name, listener in zip(("on_begin", "on_step"), told, strict=True):
        if listener is not None:
            check_callable(name, listener, "a function, or None")
    if stop_after is None:
        return where, None
    return where, check_range("stop_after", stop_after, 0, math.inf)
