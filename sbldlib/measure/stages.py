"""What each stage of a growing model costs: blocks, weights, those that learn, operations a token.

By formula, so that any size is known at once; tests hold it to what real models count.

Legend: B batch, T tokens, D width, R rank.

Source: [O] these counts; [S] the sizes of a low-rank change from Hu et al. 2021, arXiv 2106.09685.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..errors import check_kind, check_positive_int
from ..models.diverging_gpt_config import DivergingGPTConfig
from ..models.gpt_config import flops_per_token

FORWARD_AND_BACKWARD = 6  # of one weight and token: a multiply-add forward, two backward
WEIGHT_GRADIENT = 2  # of these, what a weight that stands still is spared


@dataclass(frozen=True, kw_only=True)
class StageCount:
    """One stage of a growing model.

    Attributes:
        stage: from 0.
        num_blocks: different ones.
        num_running: places that take part.
        has_low_rank, is_frozen: whether attention learns a low-rank change, and stands still.
        parameters: weights, the low-rank changes among them; those of places that do not run yet
            are not.
        learning: those of them that learn.
        flops_per_token: of a training step, forward and backward.
    """

    stage: int
    num_blocks: int
    num_running: int
    has_low_rank: bool
    is_frozen: bool
    parameters: int
    learning: int
    flops_per_token: float


def count_stages(config: DivergingGPTConfig, *, rows: int = 8) -> tuple[StageCount, ...]:
    """Count every stage of a model of this shape, in order.

    Matrix products are counted, attention's at its full T x T size. A low-rank change is merged
    into its matrix once a step and place, not once a token, so its share falls with the rows.

    Args:
        config: of the model, at whatever stage.
        rows: B of a step, each of context_length tokens.

    Raises:
        ValueError: not a DivergingGPTConfig, or no rows.
    """
    check_kind("config", config, DivergingGPTConfig, "a DivergingGPTConfig")
    rows = check_positive_int("rows", rows)
    return tuple(_count(replace(config, stage=stage), rows) for stage in range(len(config.stages)))


def flops_of_run(stages: Sequence[StageCount], at: Sequence[float]) -> float:
    """Mean operations a token over a run that grows at these shares of it.

    Args:
        stages: of all, in order.
        at: progress at which each later stage begins, ascending, in (0, 1).

    Raises:
        ValueError: one share too many or too few.
    """
    if len(at) != len(stages) - 1:
        raise ValueError(f"at={tuple(at)} must hold {len(stages) - 1} share(s), one a later stage")
    lengths = [end - begin for begin, end in pairwise((0.0, *at, 1.0))]
    costs = [stage.flops_per_token for stage in stages]
    return sum(length * cost for length, cost in zip(lengths, costs, strict=True))


def _count(config: DivergingGPTConfig, rows: int) -> StageCount:
    D, T, R = config.width, config.context_length, config.rank * config.is_between
    matrices, biases = 4 * D * D, 4 * D * config.bias  # attention's; the MLP has twice the first
    block = 3 * matrices + 9 * D * config.bias + 2 * D * (1 + config.bias)
    change = R * (D + 3 * D) + R * (D + D)
    outside = D * (config.vocabulary_size + T + 1 + config.bias)
    is_frozen = config.is_between and config.freeze_attention
    parameters = outside + config.num_blocks * (block + change)
    a_place = FORWARD_AND_BACKWARD * R * matrices / (rows * T)
    if is_frozen and not R:  # a merged change needs the gradient of the whole matrix
        a_place -= WEIGHT_GRADIENT * matrices
    full = flops_per_token(replace(config, growth="diverge"))
    a_block = (full - FORWARD_AND_BACKWARD * D * config.vocabulary_size) / config.num_layers
    saved = (config.num_layers - config.num_running) * a_block
    return StageCount(
        stage=config.stage,
        num_blocks=config.num_blocks,
        num_running=config.num_running,
        has_low_rank=bool(R),
        is_frozen=is_frozen,
        parameters=parameters,
        learning=parameters - config.num_blocks * (matrices + biases) * is_frozen,
        flops_per_token=full - saved + config.num_running * a_place,
    )
