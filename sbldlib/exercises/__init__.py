"""The checks of the lessons' exercises: each says in a sentence what is wrong with an answer.

A check takes what the reader wrote and raises AssertionError where it is not right.
`lessons.attempt` runs it in a notebook; the worked solutions call it directly.
One file a notebook; a notebook imports its checks from here.
"""

from __future__ import annotations

from .lesson00 import check_allow_keep, check_saving_ceiling
from .lesson01 import (
    check_forget_bias,
    check_longest_path,
    check_receptive_field,
    check_softmax_combine,
)
from .lesson02 import (
    check_attention,
    check_best_sentence,
    check_decoder_input,
    check_target_mask,
)
from .lesson03 import (
    check_masked_input,
    check_neighbour_chance,
    check_petaflop_days,
    check_visible,
)
from .lesson04 import (
    check_block_weights,
    check_cache_bytes,
    check_learning_rate,
    check_micro_batches,
)
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
from .lesson10 import check_first_leak, check_last_seen, check_mixing, check_pad_share
from .lesson11 import check_affordable_tokens, check_bump, check_leaders, check_merged

__all__ = [
    "check_affordable_steps",
    "check_affordable_tokens",
    "check_allow_keep",
    "check_attention",
    "check_best_sentence",
    "check_block_weights",
    "check_bump",
    "check_cache_bytes",
    "check_decoder_input",
    "check_first_leak",
    "check_forget_bias",
    "check_gap_at_equal_flops",
    "check_influence",
    "check_keep_list",
    "check_largest_gap",
    "check_last_seen",
    "check_leaders",
    "check_learning_rate",
    "check_longest_path",
    "check_masked_input",
    "check_mean_keep",
    "check_merged",
    "check_micro_batches",
    "check_mixing",
    "check_mixture_weights",
    "check_most_to_block",
    "check_neighbour_chance",
    "check_pad_share",
    "check_paired_interval",
    "check_paired_sensitivity",
    "check_petaflop_days",
    "check_rank_correlation",
    "check_realised_drop",
    "check_receptive_field",
    "check_saved_share",
    "check_saving_ceiling",
    "check_share_with_dropping",
    "check_softmax_combine",
    "check_steps_dropping",
    "check_target_mask",
    "check_variance",
    "check_visible",
]
