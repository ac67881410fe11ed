"""One vector a sentence from BERT, the sentences nearest to each, and how good a guide they are.

Legend: B batch, T tokens, D width, N sentences, K neighbours.

Source: [S] mean pooling against [CLS] as in Reimers & Gurevych, "Sentence-BERT", 2019, arXiv
1908.10084; the common mean is taken off as in Mu & Viswanath, "All-but-the-Top", 2018, arXiv
1702.01417.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import check_choice, check_kind, check_positive_int, items
from .bert import Bert
from .bert_objectives import moved_to
from .generation import evaluation_mode
from .grouped import grouped_mean

POOLINGS = ("mean", "cls")


@dataclass(frozen=True, kw_only=True)
class RetrievalScore:
    """How often the nearest other sentence is of the same group.

    Attributes:
        share: of the sentences, in [0, 1].
        low, high: 95 % interval, groups drawn anew.
        chance: the share of a neighbour that is drawn at random.
        num_sentences, num_groups: how many there were.
    """

    share: float
    low: float
    high: float
    chance: float
    num_sentences: int
    num_groups: int


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


def retrieval_score(
    embeddings_ND: Tensor, groups: Sequence[int], *, centre: bool = True, seed: int = 0
) -> RetrievalScore:
    """How often a sentence's nearest neighbour is of its own group, such as its own file.

    Args:
        embeddings_ND: one vector a sentence.
        groups: the group of each.
        centre: as in `cosines`.
        seed: of the resampling.

    Raises:
        ValueError: another number of groups than of sentences, or one group alone.
    """
    of = np.asarray(list(items("groups", groups)))
    if of.shape != (len(embeddings_ND),):
        raise ValueError(
            f"groups of shape {of.shape} must name one group for each of the "
            f"{len(embeddings_ND)} sentences"
        )
    names, counts = np.unique(of, return_counts=True)
    if len(names) < 2:
        raise ValueError("groups holds one group alone; every neighbour is of it")
    nearest_N = nearest_neighbours(embeddings_ND, 1, centre=centre)[:, 0].numpy()
    share, low, high = grouped_mean(of[nearest_N] == of, of, seed=seed)
    return RetrievalScore(
        share=share,
        low=low,
        high=high,
        chance=float((counts * (counts - 1)).sum() / (len(of) * (len(of) - 1))),
        num_sentences=len(of),
        num_groups=len(names),
    )


def _check_embeddings(embeddings_ND: Tensor) -> None:
    check_kind("embeddings", embeddings_ND, Tensor, "a tensor, [sentences, width]")
    if embeddings_ND.ndim != 2 or len(embeddings_ND) < 2:
        shape = tuple(embeddings_ND.shape)
        raise ValueError(f"embeddings of shape {shape} must be [sentences, width], two at least")
