"""Without residuals tokens become one; norms inside the residual keep them apart the longest."""

from __future__ import annotations

import pytest
import torch

from sbldlib.measure.depth import STACKS, measure_depth


@pytest.mark.parametrize("kind", STACKS)
def test_one_number_a_layer_and_weights_that_sum_to_one(kind):
    before = torch.random.get_rng_state()
    found = measure_depth(kind, num_layers=3, width=16, seed=1)
    assert len(found.gradient_norms) == len(found.likeness) == 3
    assert min(found.gradient_norms) > 0 and max(found.likeness) <= 1 + 1e-5
    assert found.last_weights_HTT.shape == (4, 8, 8)
    assert torch.allclose(found.last_weights_HTT.sum(-1), torch.ones(4, 8))
    again = measure_depth(kind, num_layers=3, width=16, seed=1)
    assert again.gradient_norms == found.gradient_norms
    assert again.gradient_norms != measure_depth(kind, num_layers=3, width=16).gradient_norms
    assert torch.equal(torch.random.get_rng_state(), before)


def test_tokens_become_one_without_residuals():
    found = {kind: measure_depth(kind, num_layers=8, width=32) for kind in STACKS}
    pre, post, none = (found[kind].likeness[-1] for kind in STACKS)
    assert pre < 0.75 and pre < post < none and none > 0.99
    rows = found["no residual"].last_weights_HTT
    assert rows.std(dim=1).max() < 0.02, "every token looks alike"


def test_bad_values_are_named():
    for given, message in (
        ({"kind": "none"}, "kind='none'"),
        ({"kind": "pre", "num_layers": 0}, "num_layers=0"),
        ({"kind": "pre", "width": 6}, "width=6 must be a multiple of num_heads=4"),
        ({"kind": "pre", "seed": -1}, "seed=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            measure_depth(**given)
