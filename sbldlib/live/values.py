"""What a hand may change while a run trains: names, first values, and what each may be.

All of it is plain: text, numbers and flags, so that a log of changes is JSON and replays a run.
"""

from __future__ import annotations

import re
from typing import Any

from ..dropping.plan import MODES
from ..errors import check_choice, check_flag, check_kind, check_range, shown, unknown_name
from ..methods import METHODS
from ..methods.base import RESCALES, SCOPES
from ..training.controls import LEARNING_RATE_SCALE
from .schedules import SCHEDULES

OWN, MEASURED = "own", "measured"
STEPS_PER_SECOND = "steps_per_second"
MAX_SAVING = 0.4
MOST_STEPS_PER_SECOND = 100.0
# What decides a step's draw, with the values that leave every method as it is by itself.
CONTROLS: dict[str, Any] = {
    "dropping": True,
    "method": "sbld",
    "saving": 0.25,
    "schedule": OWN,
    "pwegd_shape": 2.0,
    "pwegd_scale": 0.2,
    "pwegd_a1": 0.0,
    "pwegd_a2": 0.0,
    "block": MEASURED,
    "mode": OWN,
    "scope": OWN,
    "rescale": OWN,
}
# What both arms of a race share.
SHARED: dict[str, Any] = {LEARNING_RATE_SCALE: 1.0, STEPS_PER_SECOND: 0.0}
_CHOICES = {
    "method": METHODS,
    "schedule": (OWN, *SCHEDULES),
    "mode": (OWN, *MODES),
    "scope": (OWN, *SCOPES),
    "rescale": (OWN, *RESCALES),
}
RANGES: dict[str, tuple[float, float]] = {
    "saving": (0.0, MAX_SAVING),
    "pwegd_shape": (1.0, 8.0),
    "pwegd_scale": (0.02, 2.0),
    "pwegd_a1": (0.0, 20.0),
    "pwegd_a2": (0.0, 20.0),
    LEARNING_RATE_SCALE: (0.01, 10.0),
    STEPS_PER_SECOND: (0.0, MOST_STEPS_PER_SECOND),
}


def check_value(name: str, value: Any, *, num_layers: int) -> Any:
    """The value as the controls hold it, or ValueError that names it and what would be right."""
    if name in _CHOICES:
        return check_choice(name, value, _CHOICES[name])
    if name in RANGES:
        # The browser sends 0.30000000000000004 where its slider shows 0.3.
        return round(check_range(name, value, *RANGES[name]), 4)
    if name == "block":
        return block_text(value, num_layers=num_layers)
    if name == "dropping":
        return check_flag(name, value)
    raise unknown_name("control", name, known_controls())


def known_controls() -> tuple[str, ...]:
    """Every name that a live run may be asked by."""
    return (*CONTROLS, *SHARED)


def block_text(text: Any, *, num_layers: int) -> str:
    """A block list as typed, in its one form: "measured", or layers such as "0, 6".

    Raises:
        ValueError: not layers of this model, or all of them.
    """
    text = check_kind("block", text, str, 'text such as "0, 6", or "measured"').strip()
    if text == MEASURED:
        return text
    parts = [part for part in re.split(r"[\s,;]+", text) if part]
    if not all(part.isdecimal() and int(part) < num_layers for part in parts):
        raise ValueError(
            f'block={shown(text)} must be layers from 0 to {num_layers - 1}, such as "0, 6", or '
            f'"{MEASURED}"'
        )
    layers = sorted({int(part) for part in parts})
    if len(layers) == num_layers:
        raise ValueError(f"block={shown(text)} leaves none of {num_layers} layers to drop")
    return ", ".join(map(str, layers))


def block_layers(text: str) -> tuple[int, ...]:
    """The layers of a block list in its one form, but for "measured"."""
    return tuple(int(part) for part in text.split(",") if part)
