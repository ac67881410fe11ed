"""Ways to cut a recurrence's chain, so that more than one step is computed at once.

A chain can be cut where the map of a step is associative, as a linear one is; elsewhere pieces can
begin from a guess of the state, and are as wrong as the guess.

Legend: B batch, T tokens, D input width, H state width, N chunks.

Source: [S] the scan in log2 T rounds from Hillis & Steele, "Data Parallel Algorithms", 1986, doi
10.1145/7902.7903; linear recurrences by scans from Blelloch, "Prefix Sums and Their Applications",
1990, and Martin & Cundy, 2018, arXiv 1709.04057; states by fixed-point rounds from Song et al.,
"Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving", 2021, arXiv
2002.03629.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..errors import check_kind, check_positive_int
from .cells import Cell, check_sequence, run_cell

Elements = tuple[Tensor, ...]


def run_in_chunks(cell: Cell, x_BTD: Tensor, num_chunks: int) -> Tensor:
    """Read N equal pieces of a sequence side by side, each as if nothing came before it.

    Args:
        cell: reads every piece.
        x_BTD: the sequence.
        num_chunks: N, which divides T.

    Returns:
        The hidden vector after each token, [B, T, H]: those of `run_cell` in the first piece alone.

    Raises:
        ValueError: an input that does not fit the cell, or a number that does not divide T.
    """
    check_sequence(cell, x_BTD)
    number = check_positive_int("num_chunks", num_chunks)
    B, T, D = x_BTD.shape
    if T % number:
        raise ValueError(f"num_chunks={number} does not divide the {T} tokens of the sequence")
    hidden, _ = run_cell(cell, x_BTD.reshape(B * number, T // number, D))
    return hidden.reshape(B, T, cell.width)


def fixed_point_rounds(cell: Cell, x_BTD: Tensor) -> Iterator[Tensor]:
    """Compute all steps at once from a guess of all states, again and again.

    The first guess is 0. Each round gives every step the state that the step before it had after
    the round before: after r rounds the first r states are those of `run_cell`.

    Args:
        cell: its step.
        x_BTD: the sequence.

    Yields:
        After each of T rounds, the hidden vectors, [B, T, H].

    Raises:
        ValueError: an input that does not fit the cell.
    """
    check_sequence(cell, x_BTD)
    B, T, D = x_BTD.shape
    steps_SD = x_BTD.reshape(B * T, D)
    first = [part_BH.unsqueeze(1) for part_BH in cell.first_state(B)]
    states = [part_B1H.expand(B, T, cell.width) for part_B1H in first]
    for _ in range(T):
        before = [
            torch.cat([start_B1H, state_BTH[:, :-1]], dim=1).reshape(B * T, cell.width)
            for start_B1H, state_BTH in zip(first, states, strict=True)
        ]
        states = [part_SH.reshape(B, T, cell.width) for part_SH in cell(steps_SD, tuple(before))]
        yield states[0]


def scan(
    combine: Callable[[Elements, Elements], Elements], elements: Elements
) -> tuple[Elements, int]:
    """Every prefix combined, in log2 T rounds of which each does all tokens at once.

    Args:
        combine: an associative map of (earlier, later) to what both do together; its arguments are
            tuples of tensors [B, tokens, ...].
        elements: one tensor or more, [B, T, ...]: each token's part.

    Returns:
        The elements of tokens 0..t combined, for each t, and the number of rounds.

    Raises:
        ValueError: no tensor, or tensors of different lengths.
    """
    parts = tuple(elements)
    lengths = {
        check_kind("elements", part, Tensor, "tensors, [batch, tokens, ...]").shape[1]
        for part in parts
    }
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"elements of {sorted(lengths)} tokens must have one length, at least 1")
    (num_tokens,) = lengths
    offset, rounds = 1, 0
    while offset < num_tokens:
        earlier = tuple(part[:, :-offset] for part in parts)
        later = tuple(part[:, offset:] for part in parts)
        joined = combine(earlier, later)
        pairs = zip(parts, joined, strict=True)
        parts = tuple(torch.cat([part[:, :offset], new], dim=1) for part, new in pairs)
        offset, rounds = 2 * offset, rounds + 1
    return parts, rounds
