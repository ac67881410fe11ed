"""Which token's vector depends on which other token: the mask of a model, measured.

Legend: B batch, T tokens, D width, N directions.

Source: [O] this measure; the norm of a Jacobian from random directions is Hutchinson 1990.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check_kind, check_positive_int, check_seed
from ..losses import device_of, evaluation_mode, logits_of
from .graph import written_out
from .reach import captured_embedding, find_embedding

MOST_TOKENS = 512  # each is a backward pass of its own


def influence_map(
    model: nn.Module,
    tokens_1T: Tensor,
    *,
    outputs: Callable[[Any, Tensor], Tensor] | None = None,
    num_directions: int = 4,
    seed: int = 0,
    embedding: nn.Module | None = None,
) -> Tensor:
    """How strongly each place's output depends on each token, [T, T]: row output, column token.

    Entry (i, j) is the norm of the gradient of random combinations of output i towards the
    embedding of token j. It is exactly 0 where no path leads from j to i. Runs in evaluation mode
    (restored after) and touches no weight's own gradient.

    Args:
        model: maps tokens [1, T] to one output a token.
        tokens_1T: one row of tokens, 512 at the most.
        outputs: gives the outputs [1, T, any] of the model for tokens; None is its logits, or the
            first of what it returns.
        num_directions: random combinations of each output, >= 1.
        seed: of those.
        embedding: as for `measure_reach`.

    Raises:
        ValueError: no embedding that runs once, more rows than one, too many tokens, or outputs
            that are not one a token.
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    tokens = check_kind("tokens", tokens_1T, Tensor, "a tensor of tokens, [1, tokens]")
    if tokens.ndim != 2 or len(tokens) != 1 or not 0 < tokens.shape[1] <= MOST_TOKENS:
        raise ValueError(
            f"tokens of shape {tuple(tokens.shape)} must be [1, tokens], with 1 to {MOST_TOKENS}"
        )
    num = check_positive_int("num_directions", num_directions)
    generator = torch.Generator().manual_seed(check_seed("seed", seed))
    read = outputs or (lambda a_model, a_row: logits_of(a_model(a_row)))
    part = find_embedding(model) if embedding is None else embedding
    with (
        written_out(),
        evaluation_mode(model),
        torch.enable_grad(),
        captured_embedding(part) as embedded,
    ):
        found = read(model, tokens.to(device_of(model)))
        if len(embedded) != 1:
            raise ValueError(
                f"embedding of type {type(part).__name__} ran {len(embedded)} times in one forward "
                "pass; give the part that runs once, as embedding="
            )
        if found.ndim != 3 or found.shape[:2] != tokens.shape:
            raise ValueError(
                f"outputs of shape {tuple(found.shape)} must be [1, {tokens.shape[1]}, any]: one "
                "for each token"
            )
        directions_ND = torch.randn((num, found.shape[-1]), generator=generator).to(found)
        rows = [_norms(output_D, embedded[0], directions_ND) for output_D in found[0]]
    return torch.stack(rows)


def _norms(output_D: Tensor, embedded_1TD: Tensor, directions_ND: Tensor) -> Tensor:
    """Norm of this output's gradient towards each token, [T], a mean over directions."""
    norms_NT = []
    for direction_D in directions_ND:
        (gradient_1TD,) = torch.autograd.grad(
            output_D @ direction_D, embedded_1TD, retain_graph=True
        )
        norms_NT.append(gradient_1TD[0].double().norm(dim=-1).cpu())
    return torch.stack(norms_NT).mean(dim=0)
