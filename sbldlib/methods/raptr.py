"""RaPTr: a random path through the layers, which grows by stages to the full depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from ..dropping.allocation import weighted_allocation
from ..dropping.skipping import attach
from ..errors import check_range, items, shown
from .base import LayerDropping
from .shaped import ShapedSchedule

_DROP_MAX = 0.999
_STAGES = 4


def raptr(
    model: nn.Module,
    *,
    saving: float | None = None,
    path_lengths: Sequence[float] | None = None,
    **draws: Any,
) -> LayerDropping:
    """At each step a random path of the layers; its length grows by equal stages to L.

    The first and the last layer are always on the path, the others all equally likely.

    Args:
        saving: mean drop over layers and time; where given, what the stages drop is scaled to it
            [O]. A length that is not whole is drawn as one of its two neighbours.
        path_lengths: mean number of layers that run, one a stage, each above 2, at most L and none
            below the one before. The default is four stages from L / 2 to L, as the paper's
            6-8-10-12 for a BERT of 12 layers, whose saving is 0.25.
        draws: seed, mode, scope and rescale, as in `LayerDropping`. The default mode here is
            "fixed_count": a path has its length, and all paths of a length are equally likely.
            The paper scales what the layers of a path add; how could not be read, so that no
            rescale is the default, and "train_inverse" is another rule than its.

    Raises:
        ValueError: lengths out of range or falling, or a saving that the layers cannot hold; both
            numbers are named.

    Source: Panigrahi et al. 2024, arXiv 2402.05913 [S]: stages, random paths and fixed ends; its
        warm-up at full depth is `with_full_depth(..., start=...)`.
    """
    num_layers = attach(model).num_layers
    lengths = np.linspace(num_layers / 2, num_layers, _STAGES).tolist()
    if path_lengths is not None:
        lengths = _check_lengths(path_lengths, num_layers)
    drops = tuple(1 - length / num_layers for length in lengths)
    is_inner = np.ones(num_layers)
    is_inner[[0, -1]] = 0
    course = ShapedSchedule(
        lambda progress: drops[min(int(progress * len(drops)), len(drops) - 1)],
        factor=1.0,
        saving=saving,
        most=_DROP_MAX * (num_layers - 2) / num_layers,
    )
    return LayerDropping(
        "raptr",
        model,
        schedule=course,
        allocation=weighted_allocation(is_inner, may_drop=is_inner > 0, drop_max=_DROP_MAX),
        settings={
            "saving": course.saving,
            "path_lengths": tuple(num_layers * (1 - course.factor * drop) for drop in drops),
        },
        **{"mode": "fixed_count", **draws},
    )


def _check_lengths(path_lengths: Sequence[float], num_layers: int) -> tuple[float, ...]:
    given = tuple(items("path_lengths", path_lengths))
    lengths = tuple(
        check_range(f"path_lengths[{stage}]", length, 2, num_layers, low_open=True)
        for stage, length in enumerate(given)
    )
    if not lengths or list(lengths) != sorted(lengths):
        raise ValueError(f"path_lengths={shown(given)} must be lengths that do not fall")
    return lengths
