"""What can be told of a pair without reading it: its lengths, and the tokens that its spans share.

Rules on these are what a model that judges pairs has to beat.

Legend: B batch, T tokens, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import check_callable, items
from .batches import IGNORE
from .masking import MaskedBatch


def lengths(batch: MaskedBatch) -> Tensor:
    """Each pair's two lengths, their squares and their product, [B, 5]."""
    second_B = batch["token_type_ids"].sum(dim=1).float()
    first_B = batch["attention_mask"].sum(dim=1).float() - second_B
    return torch.stack([first_B, second_B, first_B**2, second_B**2, first_B * second_B], dim=1)


def shared_tokens(batch: MaskedBatch) -> Tensor:
    """The share of the second span's different tokens that the first span has too, [B, 1].

    Hidden tokens are looked up in the labels: this rule may see what the model may not.
    """
    labels_BT = batch["labels"]
    tokens_BT = torch.where(labels_BT == IGNORE, batch["input_ids"], labels_BT)
    # Places 0 and the two separators are the same in every pair.
    separator = tokens_BT[0][batch["attention_mask"][0].bool()][-1]
    kept_BT = batch["attention_mask"].bool() & (tokens_BT != separator)
    kept_BT[:, 0] = False
    shares = []
    for tokens_T, kept_T, segments_T in zip(
        tokens_BT, kept_BT, batch["token_type_ids"], strict=True
    ):
        spans = [set(tokens_T[kept_T & (segments_T == segment)].tolist()) for segment in (0, 1)]
        shares.append(len(spans[0] & spans[1]) / max(1, len(spans[1])))
    return torch.tensor(shares)[:, None]


def rule_accuracy(
    features: Callable[[MaskedBatch], Tensor],
    train: Sequence[MaskedBatch],
    held_out: Sequence[MaskedBatch],
) -> float:
    """How often the best linear rule on these features judges held-out pairs right, in [0, 1].

    Least squares on the training batches; it says "follows" where its value is above 0.

    Args:
        features: gives [B, F] for a batch, such as `lengths` or `shared_tokens`.
        train: batches to fit the rule on.
        held_out: batches to judge.

    Raises:
        ValueError: no batch on either side.
    """
    check_callable("features", features, "a function of a batch")
    sides = []
    for name, batches in (("train", train), ("held_out", held_out)):
        given = list(items(name, batches))
        if not given:
            raise ValueError(f"{name}=[] holds no batch")
        values_NF = torch.cat([features(batch) for batch in given]).double()
        follows_N = torch.cat([1 - 2 * batch["next_sentence_label"] for batch in given]).double()
        sides.append((values_NF, follows_N))
    (fit_NF, fit_N), (asked_NF, asked_N) = sides
    mean_F, std_F = fit_NF.mean(dim=0), fit_NF.std(dim=0).clamp(min=1e-9)
    fit_NF, asked_NF = ((values - mean_F) / std_F for values in (fit_NF, asked_NF))
    with_one = [torch.cat([v, torch.ones(len(v), 1, dtype=v.dtype)], 1) for v in (fit_NF, asked_NF)]
    rule_F = torch.linalg.lstsq(with_one[0], fit_N[:, None], driver="gelsd").solution
    says_N = (with_one[1] @ rule_F)[:, 0] > 0
    return float((says_N == (asked_N > 0)).double().mean())
