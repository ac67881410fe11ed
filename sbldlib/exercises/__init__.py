"""The checks of the lessons' exercises: each says in a sentence what is wrong with an answer.

A check takes what the reader wrote and raises AssertionError where it is not right.
`lessons.attempt` runs it in a notebook; the worked solutions call it directly.
One file a notebook; a notebook imports its checks from here.
"""

from __future__ import annotations

from .lesson00 import check_allow_keep, check_saving_ceiling
from .lesson05 import check_influence, check_paired_sensitivity, check_rank_correlation
from .lesson06 import check_keep_list, check_largest_gap, check_most_to_block
from .lesson07 import check_mean_keep, check_mixture_weights, check_variance
from .lesson08 import (
    check_gap_at_equal_flops,
    check_realised_drop,
    check_share_with_dropping,
    check_steps_dropping,
)
from .lesson09 import check_affordable_steps, check_paired_interval, check_saved_share

__all__ = [
    "check_affordable_steps",
    "check_allow_keep",
    "check_gap_at_equal_flops",
    "check_influence",
    "check_keep_list",
    "check_largest_gap",
    "check_mean_keep",
    "check_mixture_weights",
    "check_most_to_block",
    "check_paired_interval",
    "check_paired_sensitivity",
    "check_rank_correlation",
    "check_realised_drop",
    "check_saved_share",
    "check_saving_ceiling",
    "check_share_with_dropping",
    "check_steps_dropping",
    "check_variance",
]
