"""What SBLD measures before it trains, and what that costs: sensitivities, pilots, the fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..dropping.allocation import lowest_mean_keep
from ..dropping.lists import create_block_allow_lists
from ..dropping.schedules import Schedule, front_loaded, linear
from ..methods import make_method
from ..methods.pilot import run_pilot
from ..records import LayerLists, PilotData, Record, SensitivityData, StepRecord
from ..sensitivity import calculate_sensitivities
from ..training.config import Budget, TrainConfig
from ..training.loop import train
from .arms import Arm, ordered
from .costs import Cost, Prices
from .settings import Comparison
from .subject import Subject

ANALYSIS_SEED = 1000  # seeds of the pre-analysis begin here: none of them is a run's own
OnStep = Callable[[StepRecord], None]
MakeModel = Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Analysis(Record):
    """What is known before the arms of one seed train.

    Attributes:
        seed: of the arms it is for.
        sensitivity: `SensitivityData`, as plain values.
        pilot: `PilotData`, as plain values; None where no arm asks for it.
        warmup_steps: that were trained before the sensitivities were measured.
        shared: the comparison's settings it was made under.
    """

    seed: int
    sensitivity: dict[str, Any]
    pilot: dict[str, Any] | None
    warmup_steps: int
    shared: dict[str, Any]

    @property
    def sensitivity_data(self) -> SensitivityData:
        """The sensitivities as they were measured."""
        return SensitivityData.from_dict(self.sensitivity)

    @property
    def pilot_data(self) -> PilotData:
        """The pilot's losses."""
        if self.pilot is None:
            raise ValueError(f"pilot=None: seed {self.seed} was analysed without pilots")
        return PilotData.from_dict(self.pilot)

    def charge(self, arm: Arm, cost: Cost, *, fit: float = 0.0) -> float:
        """What this arm owes for it, in the unit of `cost`, whether or not it is charged.

        Args:
            cost: of a step of the full-depth model.
            fit: what the variance's fit costs.
        """
        owed = 0.0
        if arm.needs_sensitivity:
            batches = self.sensitivity_data.num_batches
            owed += self.warmup_steps * cost.full + cost.sensitivities(batches)
        if arm.needs_variance:
            pilot = self.pilot_data
            dropping = cost.outside + pilot.mean_keep * (cost.full - cost.outside)
            owed += len(pilot.seeds) * pilot.num_iterations * (cost.full + dropping) + fit
        return owed


def owed_seconds(analysis: Analysis, arm: Arm, prices: Prices, num_layers: int) -> float:
    """What the arm owes for its pre-analysis, in priced seconds."""
    return analysis.charge(arm, prices.cost(num_layers), fit=prices.fit)


def analyse(
    comparison: Comparison,
    subject: Subject,
    seed: int,
    *,
    start: MakeModel,
    folder: Path | None = None,
    on_step: OnStep | None = None,
) -> Analysis:
    """Warm up, measure the sensitivities, and run the pilots where an arm asks for them.

    Args:
        seed: of the arms that it is for; it draws from seeds of its own.
        start: seed -> the model that a run starts from.
        folder: keeps the pilot's runs, so that a stopped pilot goes on.
    """
    arms = [arm for table in comparison.tables for arm in table.arms]
    own = ANALYSIS_SEED * (seed + 1)
    model = start(own)
    if comparison.warmup_steps:
        train(
            model,
            subject.make_data(own),
            subject.make_optimizer(model, 1.0),
            config=_config(comparison, comparison.warmup_steps, "warm-up"),
            loss=subject.loss,
            on_step=on_step,
        )
    sensitivity = calculate_sensitivities(
        model,
        batches=subject.sensitivity_batches(own, comparison.sensitivity_batches),
        loss=subject.loss,
        iteration=comparison.pretrain_steps + comparison.warmup_steps,
    )
    pilot = None
    if any(arm.needs_variance for arm in arms):
        pilot = run_pilot(
            start,
            subject.make_data,
            lambda model: subject.make_optimizer(model, 1.0),
            lambda model, pair: make_method(
                "sbld",
                model,
                sensitivity_data=sensitivity,
                saving=comparison.saving,
                mode=comparison.mode,
                seed=pair,
            ),
            seeds=[own + 1 + pair for pair in range(comparison.pilot_pairs)],
            config=_config(comparison, comparison.pilot_steps, "pilot"),
            folder=folder,
            key=subject.key,
            on_step=on_step,
        )
    return Analysis(
        seed=seed,
        sensitivity=sensitivity.to_dict(),
        pilot=None if pilot is None else pilot.to_dict(),
        warmup_steps=comparison.warmup_steps,
        shared=comparison.shared(),
    )


def method_options(arm: Arm, comparison: Comparison, analysis: Analysis | None) -> dict[str, Any]:
    """What `make_method` takes for this arm: its options, and what was measured for it."""
    if arm.method != "sbld":
        return dict(arm.options)
    assert analysis is not None
    sensitivity = ordered(analysis.sensitivity_data, arm.order, seed=analysis.seed)
    lists = create_block_allow_lists(sensitivity, **arm.lists)
    scheduler = _schedule(arm, comparison, analysis, lists)
    return {
        "sensitivity_data": sensitivity,
        "lists": lists,
        "scheduler": scheduler,
        **arm.options,
    }


def _schedule(
    arm: Arm, comparison: Comparison, analysis: Analysis, lists: LayerLists
) -> Schedule | None:
    """The arm's schedule, its mean drop the asked saving; None is constant."""
    least, saving = lowest_mean_keep(lists), comparison.saving
    if arm.schedule == "constant":
        return None
    if arm.schedule == "front":
        return front_loaded(saving, least)
    if arm.needs_variance:
        from ..dropping.variance import DIRECTIONS, create_variance_based_scheduler  # needs scipy

        return create_variance_based_scheduler(
            analysis.pilot_data,
            saving=saving,
            mean_keep_min=least,
            direction=DIRECTIONS[arm.schedule == "pwegd inverse"],
        )
    most = math.floor(1e9 * min(2 * saving, 1 - least)) / 1e9  # drop at the steep end
    ends = (1 - most, 1 - (2 * saving - most))
    return linear(*ends) if arm.schedule == "falling" else linear(*reversed(ends))


def _config(comparison: Comparison, steps: int, name: str) -> TrainConfig:
    return TrainConfig(
        budget=Budget(steps=steps),
        precision=comparison.precision,
        compile_blocks=comparison.compile_blocks,
        name=name,
    )
