"""Fill a hole in a text: BERT looks at both sides of it, GPT at what stands before it.

Legend: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import check_kind, check_positive_int
from .bert import Bert
from .generation import evaluation_mode
from .gpt import GPT


@torch.no_grad()
def logits_at_mask(model: Bert, tokens_BT: Tensor, segments_BT: Tensor | None = None) -> Tensor:
    """BERT's logits at each row's one [MASK], [B, V] on the CPU, in evaluation mode (restored).

    Args:
        model: reads the rows.
        tokens_BT: rows with exactly one [MASK].
        segments_BT: as for `Bert.encode`.

    Raises:
        ValueError: a row with no [MASK], or with several.
    """
    check_kind("model", model, Bert, "a Bert")
    is_mask_BT = tokens_BT == model.config.mask
    counts = is_mask_BT.sum(dim=-1)
    if bool((counts != 1).any()):
        row = int((counts != 1).nonzero()[0, 0])
        raise ValueError(f"row {row} holds {int(counts[row])} [MASK] tokens; one is needed")
    device = model.token_embedding.weight.device
    segments_BT = None if segments_BT is None else segments_BT.to(device)
    with evaluation_mode(model):
        hidden_BTD = model.encode(tokens_BT.to(device), segments_BT)
        return model.masked_logits(hidden_BTD[is_mask_BT.to(device)]).cpu()


@torch.no_grad()
def logits_after(model: GPT, tokens_BT: Tensor) -> Tensor:
    """GPT's logits of the token after each row, [B, V] on the CPU, in evaluation mode (restored).

    Args:
        model: reads the rows.
        tokens_BT: what stands before the hole, one token at least.
    """
    with evaluation_mode(model):
        return model(tokens_BT.to(model.token_embedding.weight.device))[:, -1].cpu()


def write_with_masks(model: Bert, tokens: Sequence[int], num_tokens: int) -> list[int]:
    """Make BERT write: put a [MASK] at the end, keep its likeliest token, and again.

    It was not trained for that. No special token is written.

    Args:
        tokens: what stands there already, one token at least.
        num_tokens: tokens to add, >= 1.

    Raises:
        ValueError: no token, or more than context_length has room for.
    """
    written, config = [int(token) for token in tokens], model.config
    if not written:
        raise ValueError("tokens=[] holds no token to go on from")
    special = [config.padding, config.classifier, config.separator, config.mask]
    for _ in range(check_positive_int("num_tokens", num_tokens)):
        row = [config.classifier, *written, config.mask, config.separator]
        logits_V = logits_at_mask(model, torch.tensor([row]))[0]
        logits_V[special] = -torch.inf
        written.append(int(logits_V.argmax()))
    return written


def likeliest(
    logits_V: Tensor, num_tokens: int, *, below: int | None = None
) -> list[tuple[int, float]]:
    """The likeliest tokens with their probabilities, likeliest first.

    Args:
        logits_V: of one place.
        num_tokens: how many, >= 1.
        below: only tokens below this number are asked, such as a tokenizer's own without special
            ones; the probabilities are shares among these.
    """
    probabilities_V = logits_V[:below].float().softmax(dim=-1)
    most = check_positive_int("num_tokens", num_tokens, maximum=len(probabilities_V))
    values, tokens = probabilities_V.topk(most)
    return list(zip(tokens.tolist(), values.tolist(), strict=True))


def share_right(logits_BV: Tensor, targets: Sequence[int] | Tensor) -> float:
    """The share of rows whose likeliest token is the target, in [0, 1]."""
    asked_B = torch.as_tensor(targets)
    if asked_B.shape != logits_BV.shape[:1]:
        raise ValueError(
            f"targets of shape {tuple(asked_B.shape)} must be one for each of the "
            f"{len(logits_BV)} rows"
        )
    return float((logits_BV.argmax(-1) == asked_B).float().mean())
