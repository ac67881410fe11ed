"""Work and span: exact counts on graphs made by hand, growth with length on models."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import Source, gpt, same_weights, weights
from torch import nn

from sbldlib.losses import next_token_loss
from sbldlib.measure import (
    AutogradGraph,
    Parallelism,
    count_operations,
    measure_parallelism,
    trace_graph,
)
from sbldlib.measure.graph import written_out
from sbldlib.models.recurrent import KINDS, SequenceConfig, SequenceModel

BASE = SequenceConfig(kind="attention", vocabulary_size=11, context_length=64, width=8)


def leaf() -> torch.Tensor:
    return torch.ones(3, requires_grad=True)


def of_length(kind: str, num_tokens: int, **changes) -> Parallelism:
    """A model that sees its whole context, on a context of this length."""
    model = SequenceModel(replace(BASE, kind=kind, context_length=num_tokens, **changes))
    tokens_BT = torch.zeros(2, num_tokens, dtype=torch.long)
    return measure_parallelism(model, (tokens_BT, tokens_BT))


def over_cell(cell: nn.Module, num_tokens: int) -> torch.Tensor:
    """The mean of a cell's outputs, one token after another."""
    state, outputs = None, []
    for x_BD in torch.zeros(num_tokens, 2, 4):
        state = cell(x_BD, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(outputs).mean()


def test_a_product_and_its_sum():
    graph = trace_graph((leaf() * torch.ones(3)).sum())
    assert graph == AutogradGraph(
        names=("AccumulateGrad", "MulBackward0", "SumBackward0"),
        needs=((), (0,), (1,)),
        depths=(1, 2, 3),
    )
    assert (graph.num_nodes, graph.longest_path, graph.critical_path()) == (3, 3, (0, 1, 2))


def test_of_two_ways_the_longer_is_critical():
    w = leaf()
    graph = trace_graph((w.exp() + w.sin().tanh()).sum())
    critical = [graph.names[node] for node in graph.critical_path()]
    assert critical[:3] == ["AccumulateGrad", "SinBackward0", "TanhBackward0"]
    assert critical[3:] == ["AddBackward0", "SumBackward0"]
    assert sorted(graph.names) == sorted([*critical, "ExpBackward0"])
    assert graph.longest_path == 5


def test_a_value_that_is_read_twice_is_needed_once():
    w = leaf()
    assert trace_graph((w * w).sum()).needs == ((), (0,), (1,))


def test_what_does_not_reach_the_loss_is_not_in_its_graph():
    w = leaf()
    w.exp().log()
    loss = (w.detach() * leaf()).sum()
    assert trace_graph(loss).num_nodes == 3


@given(st.data())
def test_any_graph_has_the_depth_that_its_making_says(data):
    leaves = [leaf() for _ in range(data.draw(st.integers(1, 3)))]
    made = [(tensor, 1, {number}) for number, tensor in enumerate(leaves)]
    for number in range(data.draw(st.integers(1, 25))):
        picked = data.draw(st.lists(st.sampled_from(range(len(made))), min_size=1, max_size=3))
        parts = [made[index] for index in picked]
        depth = 1 + max(part[1] for part in parts)
        behind = set().union(*(part[2] for part in parts)) | {len(leaves) + number}
        made.append((torch.stack([part[0] for part in parts]).sum(0), depth + 1, behind))
    loss, depth, behind = made[-1]
    graph = trace_graph(loss)
    assert graph.longest_path == depth
    num_leaves = len(behind & set(range(len(leaves))))
    assert graph.num_nodes == num_leaves + 2 * (len(behind) - num_leaves)  # a stack and its sum
    for node, needed in enumerate(graph.needs):
        assert all(other < node for other in needed), "each comes after what it needs"
        assert graph.depths[node] == 1 + max((graph.depths[n] for n in needed), default=0)
    path = graph.critical_path()
    assert len(path) == graph.longest_path
    assert all(a in graph.needs[b] for a, b in pairwise(path))


def test_a_chain_may_be_longer_than_calls_may_nest():
    length = 5 * sys.getrecursionlimit()
    value = leaf()
    for _ in range(length):
        value = value + 1
    graph = trace_graph(value)
    assert graph.longest_path == graph.num_nodes == length + 1
    assert graph.critical_path() == tuple(range(length + 1))


@pytest.mark.parametrize("num_tokens", [16, 64])
@pytest.mark.parametrize(("cell", "nodes_per_token"), [(nn.RNNCell, 3), (nn.LSTMCell, 8)])
def test_a_cells_chain_grows_by_the_same_number_of_nodes_a_token(cell, nodes_per_token, num_tokens):
    loss = over_cell(cell(4, 4), num_tokens)
    assert trace_graph(loss).longest_path == nodes_per_token * num_tokens + 4


def test_operations_are_counted_by_name():
    x, w = torch.ones(2, 3), torch.ones(3, 4)
    product, operations = count_operations(lambda: (x @ w + 1).add_(2).relu())
    assert torch.equal(product, torch.full((2, 4), 6.0))
    assert operations == {"aten.add": 1, "aten.add_": 1, "aten.mm": 1, "aten.relu": 1}
    assert list(operations) == sorted(operations)
    assert count_operations(lambda: None) == (None, {})


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_recurrence_waits_for_every_token(kind):
    counts = [of_length(kind, num_tokens) for num_tokens in (4, 8, 16, 32)]
    for name in ("longest_path", "num_nodes", "num_operations"):
        values = [getattr(count, name) for count in counts]
        first, second, third = (b - a for a, b in pairwise(values))
        assert third == 2 * second == 4 * first > 0, f"{name} must be linear"
    assert counts[3].longest_path >= 3 * 32
    shares = [count.flops_per_step for count in counts]
    assert shares[3] < 1.3 * shares[2], "more tokens give each step no more to share"


def test_attention_waits_for_none():
    counts = [of_length("attention", num_tokens) for num_tokens in (4, 16, 64)]
    for name in ("longest_path", "num_nodes", "num_operations"):
        assert len({getattr(count, name) for count in counts}) == 1, name
    assert counts[2].flops > 16 * counts[0].flops, "its work grows faster than its tokens"


def test_a_dilated_convolution_waits_for_the_logarithm():
    counts = [of_length("convolution", num_tokens) for num_tokens in (4, 8, 16, 32, 64)]
    for name in ("longest_path", "num_nodes", "num_operations"):
        values = [getattr(count, name) for count in counts]
        steps = [b - a for a, b in pairwise(values)]
        assert len(set(steps)) == 1 and steps[0] > 0, f"{name}: the same for every doubling"


def test_depth_is_waited_for_by_every_kind():
    for kind in KINDS:
        paths = [of_length(kind, 8, num_layers=n).longest_path for n in (2, 3, 4)]
        assert paths[2] - paths[1] == paths[1] - paths[0] > 0, kind


def test_flops_are_those_of_the_matrices():
    B, T, D, V = 2, 8, BASE.width, BASE.vocabulary_size
    head = 2 * B * T * D * V
    assert of_length("rnn", T).flops == 2 * B * T * 2 * D * D + head
    block = 2 * B * T * (12 * D * D + 2 * T * D)
    assert of_length("attention", T).flops == 2 * block + head
    k = BASE.kernel_size
    assert of_length("convolution", T).flops == 3 * 2 * B * T * (k * D * D + D * D) + head


def test_counts_do_not_depend_on_weights_or_tokens_and_come_again():
    model, other = gpt(seed=0), gpt(seed=1)
    first = measure_parallelism(model, Source().batch(0))
    assert first == measure_parallelism(other, Source(seed=3).batch(7))
    assert first.num_operations == sum(first.operations.values())
    assert Parallelism.from_json(first.to_json()) == first


def test_nothing_is_left_behind():
    model = gpt(dropout=0.5).train()
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    before, state = weights(model), torch.get_rng_state()
    flags = written_flags()
    with torch.no_grad():
        counted = measure_parallelism(model, Source().batch(0))
    assert counted == measure_parallelism(gpt(), Source().batch(0)), "no dropout is counted"
    assert same_weights(model, before) and torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(weight.grad is None for weight in model.parameters())
    assert written_flags() == flags


def written_flags() -> tuple[bool, ...]:
    backends = torch.backends
    attention = backends.cuda.flash_sdp_enabled(), backends.cuda.math_sdp_enabled()
    return (torch._C._get_mkldnn_enabled(), backends.cudnn.enabled, *attention)


def test_kernels_are_written_out_within_and_as_they_were_after():
    flags = written_flags()
    with pytest.raises(RuntimeError, match="within"), written_out():
        assert written_flags() == (False, False, False, True)
        raise RuntimeError("within")
    assert written_flags() == flags


def test_a_traced_loss_can_still_run_backward():
    model = gpt(2)
    loss = next_token_loss(model, Source().batch(0))
    nodes = trace_graph(loss)
    assert trace_graph(loss) == nodes
    loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_what_has_no_graph_is_refused():
    for loss in (torch.ones(1), leaf(), leaf().sum().detach(), 3.0, None):
        with pytest.raises(ValueError, match="has no autograd graph"):
            trace_graph(loss)  # pyright: ignore
    with pytest.raises(ValueError, match=r"loss returned 0\.5"):
        measure_parallelism(gpt(2), Source().batch(0), loss=lambda model, batch: 0.5)  # pyright: ignore
