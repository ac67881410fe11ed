"""The checks of the lessons' exercises: each says in a sentence what is wrong with an answer.

A check takes what the reader wrote and raises AssertionError where it is not right.
`lessons.attempt` runs it in a notebook; the worked solutions call it directly.
One file a notebook; a notebook imports its checks from here.
"""

from __future__ import annotations

from .lesson00 import check_allow_keep, check_saving_ceiling
from .lesson07 import check_mean_keep, check_mixture_weights, check_variance
from .lesson08 import check_realised_drop, check_share_with_dropping, check_steps_dropping

__all__ = [
    "check_allow_keep",
    "check_mean_keep",
    "check_mixture_weights",
    "check_realised_drop",
    "check_saving_ceiling",
    "check_share_with_dropping",
    "check_steps_dropping",
    "check_variance",
]
