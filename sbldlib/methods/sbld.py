"""SBLD: the sensitive layers are spared, and a schedule says how much to drop when."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..dropping.allocation import DROP_MAX, sensitivity_allocation
from ..dropping.lists import check_lists, check_sensitivity_data, create_block_allow_lists
from ..dropping.schedules import Schedule, check_schedule, constant, with_full_depth
from ..dropping.skipping import attach
from ..errors import check_range
from ..records import LayerLists, SensitivityData, check_num_layers
from .base import LayerDropping, check_saving


def sbld(
    model: nn.Module,
    sensitivity_data: SensitivityData,
    *,
    scheduler: Schedule | None = None,
    saving: float = 0.2,
    lists: LayerLists | None = None,
    weight: str = "rank",
    drop_max: float = DROP_MAX,
    full_depth_start: float = 0.0,
    full_depth_end: float = 0.0,
    seed: int = 0,
    **draws: Any,
) -> LayerDropping:
    """Sensitivity-based layer dropping on a model, as a callback for `train`.

    Block list, allow list and a keep-probability list renewed at every iteration are the paper's
    [P]; the formulas are `update_keep_probability`'s and the scheduler's [O].

    Args:
        model: any model whose residual blocks are found.
        sensitivity_data: measured on this model, one value a layer.
        scheduler: progress to mean keep probability, such as `create_variance_based_scheduler`'s;
            the default is constant at 1 - saving.
        saving: mean drop over the run, in [0, 1); used where no scheduler is given.
        lists: block and allow lists; the default blocks the most sensitive quarter.
        weight, drop_max: as in `update_keep_probability`.
        full_depth_start, full_depth_end: shares of the run at full depth, at its two ends; the
            rest drops more, so that the mean is as without, see `with_full_depth` [O].
        seed: of the draws.
        draws: mode, scope and rescale, as in `LayerDropping`.

    Raises:
        ValueError: sensitivities of another depth, or a saving that the allow list, or the part of
            the run that is not at full depth, cannot hold.

    Source: Zeng et al. 2023, doi 10.1609/aaai.v37i9.26321 [P], with METHOD section 4 [O].
    """
    num_layers = attach(model).num_layers
    measured = check_sensitivity_data(sensitivity_data).num_layers
    check_num_layers("sensitivity_data", measured, num_layers)
    lists = create_block_allow_lists(sensitivity_data) if lists is None else check_lists(lists)
    check_num_layers("lists", lists.num_layers, num_layers)
    saving = check_saving(saving)
    schedule = constant(1 - saving) if scheduler is None else check_schedule("scheduler", scheduler)
    asked = getattr(schedule, "saving", saving if scheduler is None else None)
    start = check_range("full_depth_start", full_depth_start, 0, 1, high_open=True)
    end = check_range("full_depth_end", full_depth_end, 0, 1, high_open=True)
    if start or end:
        schedule = with_full_depth(schedule, start=start, end=end)
    return LayerDropping(
        "sbld",
        model,
        schedule=schedule,
        allocation=sensitivity_allocation(
            sensitivity_data, lists=lists, weight=weight, drop_max=drop_max
        ),
        settings={
            "block": lists.block,
            "weight": weight,
            "drop_max": float(drop_max),
            "saving": asked,
            "full_depth_start": start,
            "full_depth_end": end,
        },
        seed=seed,
        **draws,
    )
