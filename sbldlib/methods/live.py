"""A method chosen while the run goes on: what the live panel's controls steer."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..records import SensitivityData, StepRecord
from ..training.callbacks import Callback, StepContext
from . import LayerDropping, make_method

CONTROLS: dict[str, Any] = {"dropping": True, "method": "sbld", "saving": 0.25}


class LiveDropping(Callback):
    """Reads the controls at each step and lets the method they name act.

    The controls are `CONTROLS`' names: `dropping` on or off, `method` a name in `METHODS`, and
    `saving` the mean drop over a run. Each method draws from the same seed by iteration, so that a
    replay of the control log gives the same plan.
    """

    def __init__(
        self, model: nn.Module, *, sensitivity_data: SensitivityData | None = None, seed: int = 0
    ):
        self._model, self._sensitivity_data, self._seed = model, sensitivity_data, seed
        self._made: dict[tuple[str, float], LayerDropping] = {}
        self._at_work = self.method("none", 0.0)

    def method(self, name: str, saving: float) -> LayerDropping:
        """The method of this name and saving; made once."""
        key = (name, round(saving, 4))
        if key not in self._made:
            self._made[key] = make_method(
                name,
                self._model,
                saving=key[1],
                seed=self._seed,
                sensitivity_data=self._sensitivity_data,
            )
        return self._made[key]

    def before_step(self, context: StepContext) -> None:
        """Let the method that the controls name draw this step's layers."""
        asked = {**CONTROLS, **context.controls}
        name = asked["method"] if asked["dropping"] else "none"
        self._at_work = self.method(name, asked["saving"])
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
        """The state of every method that was at work, and which one is."""
        made = [[*key, method.state_dict()] for key, method in self._made.items()]
        at_work = next(key for key, method in self._made.items() if method is self._at_work)
        return {"made": made, "at_work": list(at_work)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        for name, saving, each in state["made"]:
            self.method(name, saving).load_state_dict(each)
        self._at_work = self.method(*state["at_work"])
        # Each put its own evaluation scale on the model; that of the one at work holds.
        own = {(name, saving): each for name, saving, each in state["made"]}
        self._at_work.load_state_dict(own[tuple(state["at_work"])])
