"""Recurrent cells with their gates written out: what torch.nn computes, to be read.

A cell takes one token's vector and the state that the token before it left, and returns the new
state. The first part of a state is the hidden vector that the layer above sees; an LSTM's second
part is the cell's content, which only it sees.

Legend: B batch, T tokens, D input width, H state width.

Source: [S] Elman, "Finding Structure in Time", 1990; Hochreiter & Schmidhuber, "Long Short-Term
Memory", 1997, with the forget gate of Gers, Schmidhuber & Cummins, 2000; Cho et al., 2014, arXiv
1406.1078 (GRU), its reset gate after the matrix as torch.nn has it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import check_kind, check_positive_int, check_seed, shown
from .gpt_config import MAXIMUM

State = tuple[Tensor, ...]


class Gate(nn.Module):
    """One map of input and state, before its non-linearity: W x + b + U h + c."""

    def __init__(self, input_width: int, width: int) -> None:
        super().__init__()
        self.from_input = nn.Linear(input_width, width)
        self.from_state = nn.Linear(width, width)

    def forward(self, x_BD: Tensor, hidden_BH: Tensor) -> Tensor:
        return self.from_input(x_BD) + self.from_state(hidden_BH)


class Cell(nn.Module):
    """What all cells share: their gates, their first state, and torch's weights.

    Args:
        input_width: D.
        width: H.
        seed: of the initial weights, uniform between plus and minus H ** -0.5 as in torch; torch's
            own random state is neither read nor moved.

    Attributes:
        GATES: names of the gates, in the order in which torch keeps them below one another.
        NUM_STATES: parts of the state.
    """

    GATES: ClassVar[tuple[str, ...]] = ()
    NUM_STATES: ClassVar[int] = 1

    def __init__(self, input_width: int, width: int, seed: int = 0) -> None:
        super().__init__()
        most = MAXIMUM["width"]
        self.input_width = check_positive_int("input_width", input_width, maximum=most)
        self.width = check_positive_int("width", width, maximum=most)
        generator = torch.Generator().manual_seed(check_seed("seed", seed))
        with torch.device("meta"):  # where torch's layers draw no weights of their own
            for name in self.GATES:
                setattr(self, name, Gate(self.input_width, self.width))
        self.to_empty(device="cpu")
        bound = self.width**-0.5
        for weight in self.parameters():
            nn.init.uniform_(weight, -bound, bound, generator=generator)

    def first_state(self, batch_size: int) -> State:
        """Zeros: nothing has been read."""
        zeros_BH = next(self.parameters()).new_zeros(batch_size, self.width)
        return (zeros_BH,) * self.NUM_STATES

    @torch.no_grad()
    def copy_torch(self, theirs: nn.RNNCellBase | nn.RNNBase, layer: int = 0) -> None:
        """Take the weights of torch's cell, or of one layer of torch's recurrent module.

        Raises:
            ValueError: its kind or its widths are not this cell's; both shapes are named.
        """
        kinds = (nn.RNNCellBase, nn.RNNBase)
        check_kind("theirs", theirs, kinds, "a recurrent cell or module of torch.nn")
        ending = f"_l{layer}" if isinstance(theirs, nn.RNNBase) else ""
        pairs: list[tuple[Tensor, Tensor]] = []
        for side, part in (("ih", "from_input"), ("hh", "from_state")):
            maps = [getattr(getattr(self, gate), part) for gate in self.GATES]
            for kind in ("weight", "bias"):
                ours = [getattr(each, kind) for each in maps]
                whole = self._checked(theirs, f"{kind}_{side}{ending}", ours)
                pairs += zip(ours, whole.chunk(len(ours)), strict=True)
        for mine, copied in pairs:  # only now, when all of them fit
            mine.copy_(copied)

    def _checked(self, theirs: nn.Module, name: str, ours: list[Tensor]) -> Tensor:
        """torch's gates of one kind below one another, if they are as large as ours."""
        whole = getattr(theirs, name, None)
        shape = tuple(whole.shape) if isinstance(whole, Tensor) else None
        wanted = (len(ours) * self.width, *ours[0].shape[1:])
        if not isinstance(whole, Tensor) or shape != wanted:
            raise ValueError(
                f"theirs={shown(theirs)}: {name} of shape {shape} must be {wanted}, for a "
                f"{type(self).__name__}"
            )
        return whole


class RNNCell(Cell):
    """The new state is one squashed map of the input and the old state."""

    GATES = ("candidate",)
    candidate: Gate

    def forward(self, x_BD: Tensor, state: State) -> State:
        (hidden_BH,) = state
        return (torch.tanh(self.candidate(x_BD, hidden_BH)),)


class LSTMCell(Cell):
    """A content that gates let in, keep and let out; it is added to, not multiplied through."""

    GATES = ("input_gate", "forget_gate", "candidate", "output_gate")
    NUM_STATES = 2
    input_gate: Gate
    forget_gate: Gate
    candidate: Gate
    output_gate: Gate

    def forward(self, x_BD: Tensor, state: State) -> State:
        hidden_BH, content_BH = state
        let_in_BH = torch.sigmoid(self.input_gate(x_BD, hidden_BH))
        keep_BH = torch.sigmoid(self.forget_gate(x_BD, hidden_BH))
        candidate_BH = torch.tanh(self.candidate(x_BD, hidden_BH))
        let_out_BH = torch.sigmoid(self.output_gate(x_BD, hidden_BH))
        content_BH = keep_BH * content_BH + let_in_BH * candidate_BH
        return let_out_BH * torch.tanh(content_BH), content_BH


class GRUCell(Cell):
    """The state is a mixture of the old one and a candidate; one gate says how much of each."""

    GATES = ("reset_gate", "update_gate", "candidate")
    reset_gate: Gate
    update_gate: Gate
    candidate: Gate

    def forward(self, x_BD: Tensor, state: State) -> State:
        (hidden_BH,) = state
        reset_BH = torch.sigmoid(self.reset_gate(x_BD, hidden_BH))
        keep_BH = torch.sigmoid(self.update_gate(x_BD, hidden_BH))
        recalled_BH = reset_BH * self.candidate.from_state(hidden_BH)
        candidate_BH = torch.tanh(self.candidate.from_input(x_BD) + recalled_BH)
        return (keep_BH * hidden_BH + (1 - keep_BH) * candidate_BH,)


CELLS: dict[str, type[Cell]] = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}


def run_cell(cell: Cell, x_BTD: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Read a sequence token by token; each step waits for the one before it.

    Args:
        cell: the same one at every step.
        x_BTD: at least one token.
        state: what tokens before these left; None where there were none.

    Returns:
        The hidden vector after each token, [B, T, H], and the last state.

    Raises:
        ValueError: an input or a state whose shape does not fit the cell.
    """
    check_sequence(cell, x_BTD)
    current = cell.first_state(len(x_BTD)) if state is None else tuple(state)
    shapes, right = [tuple(part.shape) for part in current], (len(x_BTD), cell.width)
    if shapes != [right] * cell.NUM_STATES:
        raise ValueError(f"state of shapes {shapes} must be {cell.NUM_STATES} of shape {right}")
    hidden = []
    for x_BD in x_BTD.unbind(1):
        current = cell(x_BD, current)
        hidden.append(current[0])
    return torch.stack(hidden, dim=1), current


def check_sequence(cell: Cell, x_BTD: Tensor) -> None:
    """Raise ValueError where the cell cannot read this sequence."""
    check_kind("cell", cell, Cell, "a cell of CELLS")
    check_kind("x", x_BTD, Tensor, "a tensor, [batch, tokens, width]")
    if x_BTD.ndim != 3 or x_BTD.shape[1] == 0 or x_BTD.shape[2] != cell.input_width:
        raise ValueError(
            f"x of shape {tuple(x_BTD.shape)} must be [batch, tokens, {cell.input_width}] with at "
            "least one token"
        )
