"""A method chosen while the run goes on: what the live panel's controls steer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..dropping.room import last_accepted
from ..methods import LayerDropping, make_method
from ..records import LayerLists, SensitivityData, StepRecord
from ..training.callbacks import Callback, StepContext
from .schedules import make_schedule
from .values import CONTROLS, MEASURED, OWN, block_layers

MOST_KEPT = 16  # methods that are made and stay: those in use, not all that a slider passed
_SCHEDULED = ("pwegd_shape", "pwegd_scale", "pwegd_a1", "pwegd_a2")


class LiveDropping(Callback):
    """Reads the controls at each step and lets the method they name act.

    The controls are `CONTROLS`' names, of which any may be missing: `dropping` on or off, `method`
    a name in `METHODS`, `saving` the mean drop over a run, and so on. Each method draws from the
    same seed by iteration, so that a replay of the control log gives the same plan.
    """

    def __init__(
        self, model: nn.Module, *, sensitivity_data: SensitivityData | None = None, seed: int = 0
    ):
        self._model, self._sensitivity_data, self._seed = model, sensitivity_data, seed
        self._made: dict[tuple[Any, ...], LayerDropping] = {}
        self._at_work = self._kept({"method": "none"})

    def method(self, **asked: Any) -> LayerDropping:
        """The method of these controls, made anew.

        Raises:
            ValueError: an unknown name or a value out of range, sbld without sensitivities, or a
                saving that the layers cannot hold.
        """
        values = {**CONTROLS, **asked}
        name, saving = values["method"], values["saving"]
        known = {draw: values[draw] for draw in ("scope", "rescale") if values[draw] != OWN}
        if name == "sbld" and self._sensitivity_data is not None:
            known["lists"] = lists_of(values["block"], self._sensitivity_data)
        method = make_method(
            name,
            self._model,
            saving=saving,
            seed=self._seed,
            mode=None if values["mode"] == OWN else values["mode"],
            sensitivity_data=self._sensitivity_data,
            **known,
        )
        if name != "none" and values["schedule"] != OWN:
            lowest = last_accepted(method.allocation, good=1.0, bad=0.0)
            method.schedule = make_schedule(
                values["schedule"], saving, lowest=lowest, values=values
            )
        return method

    def before_step(self, context: StepContext) -> None:
        """Let the method that the controls name draw this step's layers."""
        asked = {**CONTROLS, **context.controls}
        self._at_work = self._kept(asked if asked["dropping"] else {"method": "none"})
        self._at_work.before_step(context)

    def after_step(self, record: StepRecord) -> None:
        """Hold the blocks that ran against the plan."""
        self._at_work.after_step(record)

    def describe(self) -> dict[str, Any]:
        """Name and seed, as plain values; the controls' log says the rest."""
        return {"method": "live", "seed": self._seed}

    def identity(self) -> dict[str, Any]:
        """`describe`, and the order of the layers that sbld goes by."""
        known = self._sensitivity_data
        return {**self.describe(), "ranking": None if known is None else list(known.ranking())}

    def state_dict(self) -> dict[str, Any]:
        """The state of every method that is kept; the last of them is at work."""
        return {"made": [[list(key), each.state_dict()] for key, each in self._made.items()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._made = {}
        for key, each in state["made"]:
            self._at_work = self._kept(dict(zip(CONTROLS, key, strict=True)))
            self._at_work.load_state_dict(each)

    def _kept(self, asked: Mapping[str, Any]) -> LayerDropping:
        """The method of these controls: one of those that were made, or a new one."""
        key = _key({**CONTROLS, **asked})
        method = self._made.pop(key, None)
        self._made[key] = self.method(**asked) if method is None else method  # the newest, at last
        if len(self._made) > MOST_KEPT:
            del self._made[next(iter(self._made))]
        return self._made[key]


def lists_of(block: str, sensitivity_data: SensitivityData) -> LayerLists | None:
    """Block and allow list of a block list's text; None for the measured ones."""
    if block == MEASURED:
        return None
    layers = set(block_layers(block))
    ranking = sensitivity_data.ranking()
    return LayerLists(
        block=tuple(layer for layer in ranking if layer in layers),
        allow=tuple(layer for layer in ranking if layer not in layers),
        rule="by hand",
    )


def _key(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """What decides a method: of what it does not read, the first value stands for all."""
    read = dict(values)
    if read["method"] == "none":
        read = {**CONTROLS, "method": "none", "saving": 0.0}
    elif read["schedule"] != "pwegd":
        read.update({name: CONTROLS[name] for name in _SCHEDULED})
    return tuple(read[name] for name in CONTROLS)
