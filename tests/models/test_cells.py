"""Cells written out against torch's own: one step, whole sequences, gradients, gates, errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sbldlib.models.cells import CELLS, GRUCell, LSTMCell, RNNCell, run_cell

D, H = 5, 7
TORCH_CELLS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
TORCH_MODULES = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
KINDS = sorted(CELLS)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def copied(kind: str, theirs, input_width: int = D, layer: int = 0):
    cell = CELLS[kind](input_width, H)
    cell.copy_torch(theirs, layer)
    return cell


def set_gate(gate, value: float) -> None:
    """Make the gate the same whatever it reads."""
    for weight in gate.parameters():
        nn.init.zeros_(weight)
    nn.init.constant_(gate.from_input.bias, value)


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_is_that_of_torchs_cell(kind):
    theirs = TORCH_CELLS[kind](D, H)
    cell = copied(kind, theirs)
    x_BD, state = torch.randn(3, D), tuple(torch.randn(3, H) for _ in range(cell.NUM_STATES))
    expected = theirs(x_BD, state if kind == "lstm" else state[0])
    expected = expected if kind == "lstm" else (expected,)
    for ours, right in zip(cell(x_BD, state), expected, strict=True):
        torch.testing.assert_close(ours, right, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_tokens", [1, 40])
def test_a_sequence_is_that_of_torchs_module(kind, num_tokens):
    theirs = TORCH_MODULES[kind](D, H, batch_first=True)
    cell = copied(kind, theirs)
    x_BTD = torch.randn(3, num_tokens, D)
    right_BTH, right_state = theirs(x_BTD)
    hidden_BTH, state = run_cell(cell, x_BTD)
    torch.testing.assert_close(hidden_BTH, right_BTH, atol=1e-5, rtol=0)
    right_state = right_state if kind == "lstm" else (right_state,)
    for ours, right in zip(state, right_state, strict=True):
        torch.testing.assert_close(ours, right[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_of_a_deep_module_can_be_taken(kind):
    theirs = TORCH_MODULES[kind](D, H, num_layers=2, batch_first=True)
    x_BTD = torch.randn(2, 9, D)
    below_BTH, _ = run_cell(copied(kind, theirs), x_BTD)
    above_BTH, _ = run_cell(copied(kind, theirs, H, layer=1), below_BTH)
    torch.testing.assert_close(above_BTH, theirs(x_BTD)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_through_time_are_torchs(kind):
    theirs = TORCH_MODULES[kind](D, H, batch_first=True)
    cell = copied(kind, theirs)
    x_BTD = torch.randn(2, 12, D, requires_grad=True)
    weight_BTH = torch.randn(2, 12, H)
    (right_BTD,) = torch.autograd.grad((theirs(x_BTD)[0] * weight_BTH).sum(), x_BTD)
    loss = (run_cell(cell, x_BTD)[0] * weight_BTH).sum()
    (ours_BTD,) = torch.autograd.grad(loss, x_BTD, retain_graph=True)
    torch.testing.assert_close(ours_BTD, right_BTD, atol=1e-5, rtol=1e-5)
    loss.backward()
    assert all(weight.grad.abs().sum() > 0 for weight in cell.parameters())


@pytest.mark.parametrize("kind", KINDS)
@given(cut=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_a_sequence_may_be_read_in_two_parts(kind, cut, seed):
    x_BTD = torch.randn(2, 10, D, generator=torch.Generator().manual_seed(seed))
    cell = CELLS[kind](D, H, seed)
    whole_BTH, end = run_cell(cell, x_BTD)
    first_BTH, state = run_cell(cell, x_BTD[:, :cut])
    second_BTH, end_in_parts = run_cell(cell, x_BTD[:, cut:], state)
    assert torch.equal(torch.cat((first_BTH, second_BTH), 1), whole_BTH)
    assert all(map(torch.equal, end, end_in_parts))


def test_an_open_forget_gate_keeps_the_content_and_a_shut_one_loses_it():
    cell, x_BTD = LSTMCell(D, H), torch.randn(2, 200, D)
    state = torch.randn(2, H), torch.randn(2, H)
    set_gate(cell.input_gate, -100)
    set_gate(cell.forget_gate, 100)
    _, (_, content_BH) = run_cell(cell, x_BTD, state)
    assert torch.equal(content_BH, state[1])
    set_gate(cell.forget_gate, -100)
    hidden_BTH, (_, content_BH) = run_cell(cell, x_BTD, state)
    assert not content_BH.any() and not hidden_BTH.any()


def test_an_lstms_output_gate_hides_its_content():
    cell = LSTMCell(D, H)
    set_gate(cell.output_gate, -200)
    hidden_BTH, (_, content_BH) = run_cell(cell, torch.randn(2, 4, D))
    assert not hidden_BTH.any() and content_BH.any()


def test_a_grus_update_gate_keeps_the_state_and_its_reset_gate_hides_it_from_the_candidate():
    cell, x_BD = GRUCell(D, H), torch.randn(2, D)
    state = (torch.randn(2, H),)
    set_gate(cell.update_gate, 100)
    assert torch.equal(cell(x_BD, state)[0], state[0])
    set_gate(cell.update_gate, -100)
    set_gate(cell.reset_gate, -100)
    assert torch.equal(cell(x_BD, state)[0], cell(x_BD, (torch.randn(2, H),))[0])


def test_an_rnns_state_is_squashed():
    hidden_BTH, _ = run_cell(RNNCell(D, H), 1e4 * torch.randn(2, 20, D))
    assert hidden_BTH.abs().max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_the_seeds_alone(kind):
    before = torch.get_rng_state()
    cells = [CELLS[kind](D, H, seed) for seed in (3, 3, 4)]
    weights = [nn.utils.parameters_to_vector(cell.parameters()) for cell in cells]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].abs().max() <= H**-0.5
    assert weights[0].numel() == sum(p.numel() for p in TORCH_CELLS[kind](D, H).parameters())
    with torch.random.fork_rng():
        torch.set_rng_state(before)
        CELLS[kind](D, H)
        assert torch.equal(torch.get_rng_state(), before)


def test_weights_of_another_kind_or_size_are_refused_whole():
    cell = LSTMCell(D, H)
    before = nn.utils.parameters_to_vector(cell.parameters()).clone()
    with pytest.raises(ValueError, match=r"weight_ih of shape \(21, 5\) must be \(28, 5\)"):
        cell.copy_torch(nn.GRUCell(D, H))
    with pytest.raises(ValueError, match=r"weight_ih_l0 of shape \(28, 4\) must be \(28, 5\)"):
        cell.copy_torch(nn.LSTM(4, H))
    with pytest.raises(ValueError, match=r"weight_ih_l1 of shape None must be"):
        cell.copy_torch(nn.LSTM(D, H), layer=1)
    with pytest.raises(ValueError, match=r"bias_ih_l0 of shape None"):
        cell.copy_torch(nn.LSTM(D, H, bias=False))
    with pytest.raises(ValueError, match=r"theirs=Linear.* must be a recurrent cell"):
        cell.copy_torch(nn.Linear(D, H))  # pyright: ignore
    assert torch.equal(nn.utils.parameters_to_vector(cell.parameters()), before)


def test_shapes_that_do_not_fit_are_named():
    cell = LSTMCell(D, H)
    for shape in ((2, D), (2, 3, D + 1), (2, 0, D)):
        with pytest.raises(ValueError, match=r"x of shape \(2, .*must be \[batch, tokens, 5\]"):
            run_cell(cell, torch.zeros(shape))
    x_BTD = torch.zeros(2, 3, D)
    with pytest.raises(ValueError, match=r"state of shapes \[\(2, 7\)\] must be 2 of shape"):
        run_cell(cell, x_BTD, (torch.zeros(2, H),))
    with pytest.raises(ValueError, match=r"must be 1 of shape \(2, 7\)"):
        run_cell(RNNCell(D, H), x_BTD, (torch.zeros(3, H),))
    with pytest.raises(ValueError, match="cell=Linear"):
        run_cell(nn.Linear(D, H), x_BTD)  # pyright: ignore
    with pytest.raises(ValueError, match="width=0 must be at least 1"):
        RNNCell(D, 0)
    with pytest.raises(ValueError, match="seed=-1"):
        RNNCell(D, H, seed=-1)
