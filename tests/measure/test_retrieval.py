from __future__ import annotations

import pytest
import torch

from sbldlib.measure.retrieval import retrieval_score


def test_retrieval_finds_what_is_there_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(40) // 4
    noise = torch.randn(40, 16, generator=generator)
    there = retrieval_score(5 * torch.eye(16)[groups] + noise, groups.tolist())
    assert there.share > 0.9 and there.low > there.chance
    assert there.num_sentences == 40 and there.num_groups == 10
    assert there.chance == pytest.approx(3 / 39)
    nothing = retrieval_score(noise, groups.tolist())
    assert nothing.low <= nothing.chance + 0.05


def test_bad_groups():
    with pytest.raises(ValueError, match=r"groups of shape \(3,\)"):
        retrieval_score(torch.eye(4), [0, 0, 1])
    with pytest.raises(ValueError, match="one group alone"):
        retrieval_score(torch.eye(4), [0, 0, 0, 0])
