"""Reach: models whose gradients are known, the known order of the recurrent ones, and errors."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from small import T, V, gpt, random_batches, same_weights, weights
from torch import nn

from sbldlib.measure import Reach, measure_reach
from sbldlib.measure.reach import find_embedding
from sbldlib.models.recurrent import SequenceConfig, SequenceModel, same_budget

TOKENS_BT = random_batches(1)[0][0]
LONG = SequenceConfig(kind="attention", vocabulary_size=17, context_length=65, width=32)


class Decaying(nn.Module):
    """Logits of a weighted sum of the tokens: `decay ** distance`, 0 from `window` on."""

    def __init__(self, decay: float, window: int = T) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Embedding(V, 6)
        self.weight_DV = nn.Parameter(torch.randn(6, V, generator=generator))
        self.decay, self.window, self.modes = decay, window, []

    def forward(self, tokens_BT):
        self.modes.append(self.training)
        size = tokens_BT.shape[1]
        distance_TT = torch.arange(size)[:, None] - torch.arange(size)
        is_seen_TT = (distance_TT >= 0) & (distance_TT < self.window)
        share_TT = torch.where(is_seen_TT, self.decay ** distance_TT.clamp(min=0).float(), 0.0)
        return share_TT @ self.embedding(tokens_BT) @ self.weight_DV


def reach_of(**changes) -> Reach:
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(LONG.vocabulary_size, (4, LONG.context_length), generator=generator)
    config = replace(LONG, **changes)
    return measure_reach(SequenceModel(config), tokens_BT)


@pytest.mark.parametrize("decay", [1.0, 0.5, 0.01])
def test_a_linear_models_reach_is_its_decay(decay):
    reach = measure_reach(Decaying(decay), TOKENS_BT)
    assert reach.relative == pytest.approx([decay**k for k in range(T)], rel=1e-4)
    assert (reach.num_rows, reach.num_directions, reach.seed) == (3, 4, 0)


def test_nothing_reaches_beyond_a_window():
    reach = measure_reach(Decaying(1.0, window=3), TOKENS_BT)
    assert reach.relative == pytest.approx([1, 1, 1] + [0] * (T - 3))
    assert reach.window() == 2


def test_the_norms_are_those_of_the_jacobian_along_each_direction():
    model = gpt(2)
    embedded = []

    def keep(_part, _inputs, output):
        embedded.append(output)

    handle = model.token_embedding.register_forward_hook(keep)
    logits_BV = model(TOKENS_BT)[:, -1]
    handle.remove()
    rows = range(len(TOKENS_BT))
    jacobian_BVTD = torch.stack(
        [
            torch.stack(
                [
                    torch.autograd.grad(logit, embedded[0], retain_graph=True)[0][row]
                    for logit in one
                ]
            )
            for row, one in zip(rows, logits_BV, strict=True)
        ]
    )
    generator = torch.Generator().manual_seed(5)
    directions_NBV = torch.randn((3, len(TOKENS_BT), V), generator=generator)
    along_NBTD = torch.einsum("nbv,bvtd->nbtd", directions_NBV, jacobian_BVTD)
    expected_T = along_NBTD.norm(dim=-1).mean((0, 1)).flip(0)
    reach = measure_reach(model, TOKENS_BT, num_directions=3, seed=5)
    assert reach.norms == pytest.approx(expected_T.tolist(), rel=1e-4)
    many = measure_reach(model, TOKENS_BT[:1], num_directions=400)
    frobenius_T = jacobian_BVTD[0].square().sum((0, 2)).sqrt().flip(0)
    # a mean of norms lies below the root of the mean square, and not far
    for mean, root in zip(many.norms, frobenius_T.tolist(), strict=True):
        assert 0.6 * root < mean < 1.1 * root


def test_untrained_models_reach_as_far_as_their_gates_and_paths_let_them():
    configs = same_budget(LONG)
    lstm = {"kind": "lstm", "width": configs["lstm"].width}
    rnn = {"kind": "rnn", "width": configs["rnn"].width}
    far = {
        "rnn": reach_of(**rnn),
        "orthogonal rnn": reach_of(**rnn, orthogonal=True),
        "lstm, shut": reach_of(**lstm, forget_bias=0.0),
        "lstm": reach_of(**lstm),
        "lstm, open": reach_of(**lstm, forget_bias=3.0),
        "gru": reach_of(kind="gru", width=configs["gru"].width),
        "convolution": reach_of(kind="convolution", width=configs["convolution"].width),
        "attention": reach_of(),
    }
    at_64 = {name: reach.relative[64] for name, reach in far.items()}
    assert 0 < at_64["rnn"] < 1e-15, "so small that its square is no float32"
    assert at_64["rnn"] < 1e-6 * at_64["orthogonal rnn"] < 1e-9
    assert 1e3 * at_64["lstm, shut"] < at_64["lstm"] < 1e-3 * at_64["lstm, open"]
    assert at_64["rnn"] < 1e-3 * at_64["gru"] < 1e-10
    flat = far["attention"].relative[1:]
    assert min(flat) > 1e-3 and max(flat) < 30 * min(flat)
    assert far["rnn"].window() < far["gru"].window() < far["lstm"].window()
    assert far["attention"].window() == far["lstm, open"].window() == 64


def test_a_dilated_convolution_reaches_by_as_many_steps_as_the_distance_has_ones():
    """Layer l moves by 0 or 2 ** l, so a distance is the sum of the layers that are not skipped."""
    relative = reach_of(kind="convolution", width=35).relative
    by_ones = [
        [norm for distance, norm in enumerate(relative[:64]) if distance.bit_count() == ones]
        for ones in range(7)
    ]
    for near, far in pairwise(by_ones):
        assert min(near) > 3 * max(far)
    assert min(by_ones[1]) > 0.1 and by_ones[6][0] > 1e-7


def test_a_window_is_the_furthest_distance_at_the_threshold():
    reach = Reach(norms=(4.0, 0.0, 1.0, 0.2, 0.0), num_rows=1, num_directions=1, seed=0)
    assert reach.relative == (1.0, 0.0, 0.25, 0.05, 0.0)
    assert [reach.window(level) for level in (1, 0.25, 0.26, 0.05, 0.01)] == [0, 2, 0, 3, 3]
    assert Reach.from_json(reach.to_json()) == reach
    for level in (0, 1.5, math.nan):
        with pytest.raises(ValueError, match="threshold="):
            reach.window(level)


def test_nothing_is_left_behind():
    model = gpt(dropout=0.5).train()
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    before, state = weights(model), torch.get_rng_state()
    with torch.no_grad():
        reach = measure_reach(model, TOKENS_BT)
    assert reach == measure_reach(gpt().requires_grad_(False), TOKENS_BT)
    assert same_weights(model, before) and torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_go_where_the_model_raises():
    model = gpt()
    with pytest.raises(ValueError, match="exceed context_length"):
        measure_reach(model, torch.zeros(1, T + 1, dtype=torch.long))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_seed_is_its_directions():
    model = gpt()
    first, again, other = (measure_reach(model, TOKENS_BT, seed=seed) for seed in (0, 0, 1))
    assert first == again and first.norms != other.norms


def test_one_token_reaches_itself_alone():
    reach = measure_reach(gpt(), TOKENS_BT[:, :1])
    assert reach.relative == (1.0,) and reach.window() == 0


class Tabled(nn.Module):
    """As transformers' models: it names its embedding, and returns more than logits."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(2, 2)
        self.inner = Decaying(0.5)

    def get_input_embeddings(self):
        return self.inner.embedding

    def forward(self, tokens_BT):
        return SimpleNamespace(logits=self.inner(tokens_BT))


def test_the_embedding_is_the_one_that_the_model_names():
    model = Tabled()
    assert find_embedding(model) is model.inner.embedding
    reach = measure_reach(model, TOKENS_BT)
    assert reach.relative[2] == pytest.approx(0.25, rel=1e-4)
    assert measure_reach(model, TOKENS_BT, embedding=model.inner.embedding) == reach
    with pytest.raises(ValueError, match="Embedding ran 0 times"):
        measure_reach(model, TOKENS_BT, embedding=model.positions)


def test_a_part_that_runs_twice_is_refused():
    class Twice(Decaying):
        def forward(self, tokens_BT):
            return super().forward(tokens_BT) + super().forward(tokens_BT)

    with pytest.raises(ValueError, match="Embedding ran 2 times in one forward pass"):
        measure_reach(Twice(0.5), TOKENS_BT)


def test_bad_arguments_are_named():
    model = gpt()
    for tokens in (TOKENS_BT[0], TOKENS_BT[:, :0]):
        with pytest.raises(ValueError, match=r"tokens of shape .* must be \[batch, tokens\]"):
            measure_reach(model, tokens)
    with pytest.raises(ValueError, match="num_directions=0"):
        measure_reach(model, TOKENS_BT, num_directions=0)
    with pytest.raises(ValueError, match="seed=-1"):
        measure_reach(model, TOKENS_BT, seed=-1)
    with pytest.raises(ValueError, match="model=3 must be"):
        measure_reach(3, TOKENS_BT)  # pyright: ignore
    with pytest.raises(ValueError, match=r"Linear holds no nn\.Embedding"):
        measure_reach(nn.Linear(2, 2), TOKENS_BT)
    with pytest.raises(ValueError, match="embedding='wte'"):
        measure_reach(model, TOKENS_BT, embedding="wte")  # pyright: ignore


@pytest.mark.parametrize("norms", [(), (0.0, 1.0), (1.0, -1.0), (1.0, math.nan)])
def test_norms_that_say_nothing_are_refused(norms):
    with pytest.raises(ValueError, match="norms"):
        Reach(norms=norms, num_rows=1, num_directions=1, seed=0)
