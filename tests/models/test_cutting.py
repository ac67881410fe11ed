"""Chains cut in pieces: where nothing is lost, where something is, and how many rounds it takes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.models.cells import CELLS, LSTMCell, run_cell
from sbldlib.models.cutting import fixed_point_rounds, run_in_chunks, scan

B, T, D = 2, 12, 4
X_BTD = torch.randn(B, T, D, generator=torch.Generator().manual_seed(0))
KINDS = sorted(CELLS)


def linear(earlier, later):
    """Two steps h -> a h + b, one after the other, as one."""
    return earlier[0] * later[0], later[0] * earlier[1] + later[1]


@pytest.mark.parametrize("kind", KINDS)
def test_one_chunk_is_the_whole_sequence(kind):
    cell = CELLS[kind](D, 5)
    torch.testing.assert_close(run_in_chunks(cell, X_BTD, 1), run_cell(cell, X_BTD)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_each_chunk_begins_from_nothing(kind):
    cell = CELLS[kind](D, 5)
    hidden_BTH, whole_BTH = run_in_chunks(cell, X_BTD, 3), run_cell(cell, X_BTD)[0]
    torch.testing.assert_close(hidden_BTH[:, :4], whole_BTH[:, :4])
    for start in (4, 8):
        alone_BTH, _ = run_cell(cell, X_BTD[:, start : start + 4])
        torch.testing.assert_close(hidden_BTH[:, start : start + 4], alone_BTH)
        assert not torch.allclose(hidden_BTH[:, start], whole_BTH[:, start])


@pytest.mark.parametrize("kind", KINDS)
def test_after_r_rounds_the_first_r_states_are_right(kind):
    cell = CELLS[kind](D, 5)
    whole_BTH, _ = run_cell(cell, X_BTD)
    rounds = list(fixed_point_rounds(cell, X_BTD))
    assert len(rounds) == T
    for number, hidden_BTH in enumerate(rounds, start=1):
        torch.testing.assert_close(hidden_BTH[:, :number], whole_BTH[:, :number])
    assert not torch.allclose(rounds[0][:, 1:], whole_BTH[:, 1:])


def test_who_forgets_agrees_early_and_who_keeps_does_not():
    errors = {}
    for bias in (-8.0, 8.0):
        cell = LSTMCell(D, 5)
        torch.nn.init.constant_(cell.forget_gate.from_input.bias, bias)
        whole_BTH, _ = run_cell(cell, X_BTD)
        third = list(fixed_point_rounds(cell, X_BTD))[T // 2]
        errors[bias] = float((third - whole_BTH).abs().max().detach())
    assert errors[-8.0] < 0.05 * errors[8.0]


@given(st.integers(1, 40))
def test_a_linear_recurrence_is_scanned_in_logarithmic_rounds(num_tokens):
    generator = torch.Generator().manual_seed(num_tokens)
    keep_BT, new_BT = torch.rand(2, B, num_tokens, generator=generator, dtype=torch.float64)
    (_, scanned_BT), rounds = scan(linear, (keep_BT, new_BT))
    assert rounds == (num_tokens - 1).bit_length()
    state_B, states = torch.zeros(B, dtype=torch.float64), []
    for t in range(num_tokens):
        state_B = keep_BT[:, t] * state_B + new_BT[:, t]
        states.append(state_B)
    torch.testing.assert_close(scanned_BT, torch.stack(states, dim=1))


def test_order_counts_where_the_map_does_not_commute():
    ((last_BT,), _) = scan(lambda earlier, later: (later[0],), (X_BTD[..., 0],))
    torch.testing.assert_close(last_BT, X_BTD[..., 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run_in_chunks(LSTMCell(D, 5), X_BTD, 5), "num_chunks=5 does not divide the 12"),
        (lambda: run_in_chunks(LSTMCell(D, 5), X_BTD, 0), "num_chunks=0"),
        (lambda: run_in_chunks(LSTMCell(D + 1, 5), X_BTD, 2), r"\[batch, tokens, 5\]"),
        (lambda: next(fixed_point_rounds(LSTMCell(D + 1, 5), X_BTD)), r"\[batch, tokens, 5\]"),
        (lambda: scan(linear, (X_BTD, X_BTD[:, 1:])), r"\[11, 12\] tokens must have one length"),
        (lambda: scan(linear, ()), "must have one length, at least 1"),
        (lambda: scan(linear, (X_BTD[:, :0],)), "at least 1"),
    ],
)
def test_refusals_name_what_would_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
