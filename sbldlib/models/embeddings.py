"""One vector a sentence from BERT, and the sentences nearest to each.

Legend: B batch, T tokens, D width, N sentences, K neighbours.

Source: [S] mean pooling against [CLS] as in Reimers & Gurevych, "Sentence-BERT", 2019, arXiv
1908.10084; the common mean is taken off as in Mu & Viswanath, "All-but-the-Top", 2018, arXiv
1702.01417.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import check_choice, check_kind, check_positive_int, items
from .bert import Bert
from .bert_objectives import moved_to
from .generation import evaluation_mode

POOLINGS = ("mean", "cls")


@torch.no_grad()
def sentence_embeddings(
    model: Bert, batches: Iterable[dict[str, Tensor]], *, pooling: str = "mean"
) -> Tensor:
    """One vector a row, [N, D] on the CPU, in evaluation mode (restored after).

    Args:
        model: reads the rows.
        batches: dicts with input_ids, token_type_ids and attention_mask, as `collate` gives them.
        pooling: "mean" over the ordinary tokens of the row, or "cls", the first token's vector.

    Raises:
        ValueError: an unknown pooling, no batch, or a row without an ordinary token.
    """
    check_kind("model", model, Bert, "a Bert")
    check_choice("pooling", pooling, POOLINGS)
    config, found = model.config, []
    special = torch.tensor([config.padding, config.classifier, config.separator])
    with evaluation_mode(model):
        for batch in items("batches", batches):
            moved = moved_to(model, batch)
            counts = moved["attention_mask"].bool()
            hidden_BTD = model.encode(moved["input_ids"], moved["token_type_ids"], counts)
            if pooling == "cls":
                found.append(hidden_BTD[:, 0].cpu())
                continue
            kept_BT1 = ~torch.isin(moved["input_ids"], special.to(counts.device))[..., None]
            if not kept_BT1.any(dim=1).all():
                raise ValueError("a row of a batch holds no ordinary token to take the mean over")
            found.append(((hidden_BTD * kept_BT1).sum(1) / kept_BT1.sum(1)).cpu())
    if not found:
        raise ValueError("batches=[] holds no sentence")
    return torch.cat(found)


def cosines(embeddings_ND: Tensor, *, centre: bool = True) -> Tensor:
    """How alike each two vectors point, [N, N], in [-1, 1].

    Args:
        embeddings_ND: one vector a sentence.
        centre: take their mean off first; else all vectors share a direction, and all are alike.
    """
    _check_embeddings(embeddings_ND)
    if centre:
        embeddings_ND = embeddings_ND - embeddings_ND.mean(dim=0)
    unit_ND = F.normalize(embeddings_ND, dim=-1)
    return unit_ND @ unit_ND.T


def nearest_neighbours(
    embeddings_ND: Tensor, num_neighbours: int = 1, *, centre: bool = True
) -> Tensor:
    """The K other sentences nearest to each by cosine, nearest first, [N, K].

    Raises:
        ValueError: not as many others.
    """
    _check_embeddings(embeddings_ND)
    K = check_positive_int("num_neighbours", num_neighbours, maximum=len(embeddings_ND) - 1)
    alike_NN = cosines(embeddings_ND, centre=centre)
    alike_NN.fill_diagonal_(-torch.inf)
    return alike_NN.topk(K, dim=-1).indices


def _check_embeddings(embeddings_ND: Tensor) -> None:
    check_kind("embeddings", embeddings_ND, Tensor, "a tensor, [sentences, width]")
    if embeddings_ND.ndim != 2 or len(embeddings_ND) < 2:
        shape = tuple(embeddings_ND.shape)
        raise ValueError(f"embeddings of shape {shape} must be [sentences, width], two at least")
