"""How good a guide sentence vectors are: is the nearest other sentence of the same group?

Legend: N sentences, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..errors import items
from ..models.embeddings import nearest_neighbours
from .grouped import grouped_mean


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
