"""What BERT is trained on and judged by: hidden tokens, and whether a span follows another.

A batch is what `data.masking` gives, a dict with input_ids, token_type_ids, attention_mask, labels
and next_sentence_label.

Legend: B batch, T tokens, D width, V vocabulary, N hidden tokens of a batch.

Source: [S] Devlin et al. 2018, arXiv 1810.04805, section 3.1 and appendix A.2: the loss is the sum
of both means.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import check_kind, items
from .bert import Bert
from .generation import evaluation_mode

MaskedBatch = dict[str, Tensor]
IGNORE = -100  # a target that carries no loss, torch's own default
KEYS = ("input_ids", "token_type_ids", "attention_mask", "labels", "next_sentence_label")


@dataclass(frozen=True, kw_only=True)
class BertScores:
    """How well BERT does on batches.

    Attributes:
        masked_nats: mean loss of the hidden tokens, nats a token.
        masked_accuracy: share of them that it names first, in [0, 1].
        most_frequent: the same for who always names the token that is hidden most often here.
        num_masked: hidden tokens.
        at_mask_accuracy: of those that show [MASK], the share that it names first; a token that was
            left as it is can be copied, these cannot.
        at_mask_most_frequent: as most_frequent, of those that show [MASK].
        next_sentence_nats: mean loss of the pairs, nats a pair; who guesses has ln 2.
        next_sentence_accuracy: share of the pairs judged right, in [0, 1].
        num_pairs: pairs.
    """

    masked_nats: float
    masked_accuracy: float
    most_frequent: float
    num_masked: int
    at_mask_accuracy: float
    at_mask_most_frequent: float
    next_sentence_nats: float
    next_sentence_accuracy: float
    num_pairs: int


def bert_loss(model: Bert, batch: MaskedBatch) -> Tensor:
    """Masked-language loss and next-sentence loss, added: nats a hidden token + nats a pair.

    For `train(model, data, optimizer, loss=bert_loss)`.
    """
    masked_NV, labels_N, next_B2, next_B = _predict(model, batch)
    return F.cross_entropy(masked_NV.float(), labels_N) + F.cross_entropy(next_B2.float(), next_B)


@torch.no_grad()
def score_bert(model: Bert, batches: Iterable[MaskedBatch]) -> BertScores:
    """Both losses and accuracies over batches, in evaluation mode (restored after).

    Raises:
        ValueError: no batch.
    """
    labels, right, shows_mask, nats = [], [], [], 0.0
    num_pairs, pair_nats, pairs_right = 0, 0.0, 0
    with evaluation_mode(model):
        for batch in items("batches", batches):
            moved = moved_to(model, batch)
            masked_NV, labels_N, next_B2, next_B = _predict(model, moved)
            nats += float(F.cross_entropy(masked_NV.float(), labels_N, reduction="sum"))
            right.append((masked_NV.argmax(-1) == labels_N).double().cpu())
            shown_N = moved["input_ids"][moved["labels"] != IGNORE]
            shows_mask.append((shown_N == model.config.mask).cpu())
            pair_nats += float(F.cross_entropy(next_B2.float(), next_B, reduction="sum"))
            pairs_right += int((next_B2.argmax(-1) == next_B).sum())
            num_pairs += len(next_B)
            labels.append(labels_N.cpu())
    if not labels:
        raise ValueError("batches=[] holds no batch to score on")
    labels_N, right_N, at_mask_N = torch.cat(labels), torch.cat(right), torch.cat(shows_mask)
    return BertScores(
        masked_nats=nats / len(labels_N),
        masked_accuracy=float(right_N.mean()),
        most_frequent=_most_frequent(labels_N),
        num_masked=len(labels_N),
        at_mask_accuracy=float(right_N[at_mask_N].mean()),
        at_mask_most_frequent=_most_frequent(labels_N[at_mask_N]),
        next_sentence_nats=pair_nats / num_pairs,
        next_sentence_accuracy=pairs_right / num_pairs,
        num_pairs=num_pairs,
    )


def _most_frequent(labels_N: Tensor) -> float:
    """The share of the most frequent one; 0 of none."""
    return int(labels_N.bincount().max()) / len(labels_N) if len(labels_N) else 0.0


def moved_to(model: Bert, batch: MaskedBatch) -> MaskedBatch:
    """The batch on the model's device."""
    device = model.token_embedding.weight.device
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _predict(model: Bert, batch: MaskedBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits and targets of the hidden tokens, [N, V] and [N], and of the pairs, [B, 2] and [B].

    Only the hidden places go through the head: it is most of a small model's work.
    """
    check_kind("batch", batch, dict, f"a dict with {', '.join(KEYS)}")
    if missing := [key for key in KEYS if key not in batch]:
        raise ValueError(f"batch has no {', '.join(missing)}; PairBatches gives all of {KEYS}")
    tokens_BT, labels_BT = batch["input_ids"], batch["labels"]
    if labels_BT.shape != tokens_BT.shape:
        raise ValueError(
            f"labels of shape {tuple(labels_BT.shape)} must have the tokens' shape "
            f"{tuple(tokens_BT.shape)}"
        )
    counts = batch["attention_mask"].bool()
    hidden_BTD = model.encode(tokens_BT, batch["token_type_ids"], counts)
    is_hidden_BT = labels_BT != IGNORE
    return (
        model.masked_logits(hidden_BTD[is_hidden_BT]),
        labels_BT[is_hidden_BT],
        model.next_sentence(model.pool(hidden_BTD)),
        batch["next_sentence_label"],
    )
