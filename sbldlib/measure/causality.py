"""Which inputs each output of a language model depends on: does it see its own answer?

Legend: B batch, T tokens, D width, V vocabulary; i an output's position, j an input's.

Source: [O] this measure; the question is as old as masks: an output that depends on its target, or
on what comes after it, has nothing left to predict.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import check_choice, check_finite, check_kind, check_positive_int, check_seed, items
from ..losses import device_of, evaluation_mode, logits_of
from ..records import Record
from .graph import written_out
from .influence import influence_map
from .reach import find_embedding

METHODS = ("gradient", "substitution")
NOISE = 1e-5  # of a substitution: what other shapes of the same sum may change, relative


@dataclass(frozen=True, kw_only=True)
class Causality(Record):
    """How strongly the logits at each position depend on each token.

    Attributes:
        influence: row i, column j: norm of the gradient of logits i towards token j's embedding,
            or their largest relative change when token j is another; 0 where there is none.
        offset: the target of position i is token i + offset.
        method: "gradient" or "substitution".
    """

    influence: tuple[tuple[float, ...], ...]
    offset: int
    method: str

    def __post_init__(self) -> None:
        rows = tuple(check_finite("influence", row) for row in items("influence", self.influence))
        if not rows or any(len(row) != len(rows) or min(row) < 0 for row in rows):
            raise ValueError("influence must be a square of numbers >= 0, one row a position")
        object.__setattr__(self, "influence", rows)
        check_positive_int("offset", self.offset)
        check_choice("method", self.method, METHODS)

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.influence)

    @property
    def leaks(self) -> tuple[tuple[int, int], ...]:
        """Every (i, j) where logits i depend on token j, which is their target or after it."""
        return tuple(
            (i, j)
            for i, row in enumerate(self.influence)
            for j in range(i + self.offset, self.num_tokens)
            if row[j] > 0
        )

    @property
    def is_causal(self) -> bool:
        """Whether no output sees its target or anything after it."""
        return not self.leaks

    @property
    def lookahead(self) -> int:
        """The most places after itself at which a position still sees a token; 0 where none."""
        seen = [
            j - i for i, row in enumerate(self.influence) for j, value in enumerate(row) if value
        ]
        return max(0, *seen) if seen else 0

    def summary(self) -> str:
        """One sentence: what was found, and the nearest leak where there is one."""
        if self.is_causal:
            return (
                f"No output of {self.num_tokens} depends on its target, {self.offset} token(s) "
                f"ahead, or on what comes after it; the furthest look ahead is {self.lookahead}."
            )
        i, j = self.leaks[0]
        return (
            f"{len(self.leaks)} leaks: the first is that the logits at position {i}, whose target "
            f"is token {i + self.offset}, depend on token {j}."
        )


def measure_causality(
    model: nn.Module,
    tokens_BT: Tensor,
    *,
    offset: int = 1,
    method: str = "gradient",
    seed: int = 0,
    embedding: nn.Module | None = None,
) -> Causality:
    """Measure which tokens each position's logits depend on.

    Runs in evaluation mode (restored after) and touches no weight's own gradient. A mask's zeros
    are exact, so any influence of a later token is a leak, however small. "gradient" follows the
    graph, one backward pass a position; "substitution" sees what has no gradient as well (a length,
    a choice), one forward pass a position, but nothing smaller than rounding.

    Args:
        model: maps tokens [B, T] to logits [B, T, V], or to an output with `.logits`.
        tokens_BT: rows to measure on, at least one; the largest influence over rows counts.
        offset: the target of position i is token i + offset, >= 1.
        method: "gradient" or "substitution".
        seed: of the combinations of logits, or of the tokens put in.
        embedding: as for `measure_reach`.

    Raises:
        ValueError: no embedding that runs once, logits of another length than the tokens, or a
            value out of range.
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    tokens = check_kind("tokens", tokens_BT, Tensor, "a tensor, [batch, tokens]")
    if tokens.ndim != 2 or tokens.numel() == 0:
        shape = tuple(tokens.shape)
        raise ValueError(f"tokens of shape {shape} must be [batch, tokens] with at least one each")
    offset = check_positive_int("offset", offset)
    check_choice("method", method, METHODS)
    if method == "gradient":
        once = {"num_directions": 1, "seed": seed, "embedding": embedding}
        maps = [influence_map(model, row_T[None], outputs=_logits, **once) for row_T in tokens]
        influence_TT = torch.stack(maps).amax(0)
    else:
        generator = torch.Generator().manual_seed(check_seed("seed", seed))
        part = find_embedding(model) if embedding is None else embedding
        tokens = tokens.to(device_of(model))
        with written_out(), evaluation_mode(model):
            influence_TT = _by_substitution(model, tokens, part, generator)
    rows = tuple(tuple(row) for row in influence_TT.tolist())
    return Causality(influence=rows, offset=offset, method=method)


def _by_substitution(
    model: nn.Module, tokens_BT: Tensor, part: nn.Module, generator: torch.Generator
) -> Tensor:
    """Largest change of logits i, relative to their size, when token j is another one."""
    num_known = getattr(part, "num_embeddings", None)
    if num_known is None or num_known < 2:
        raise ValueError(
            f"embedding of type {type(part).__name__} does not say which tokens there are; "
            "method='gradient' needs no other ones"
        )
    drawn_BT = torch.randint(1, num_known, tokens_BT.shape, generator=generator)
    others_BT = (tokens_BT + drawn_BT.to(tokens_BT)) % num_known
    with torch.no_grad():
        before_BTV = _logits(model, tokens_BT)
        size = before_BTV.abs().max()
        columns = []
        for j in range(tokens_BT.shape[1]):
            changed_BT = tokens_BT.clone()
            changed_BT[:, j] = others_BT[:, j]
            change_T = (_logits(model, changed_BT) - before_BTV).abs().amax((0, 2)) / size
            columns.append(change_T * (change_T > NOISE))
    return torch.stack(columns, dim=1).double().cpu()


def _logits(model: nn.Module, tokens_BT: Tensor) -> Tensor:
    logits_BTV = logits_of(model(tokens_BT))
    if logits_BTV.shape[:2] != tokens_BT.shape:
        raise ValueError(
            f"logits of shape {tuple(logits_BTV.shape)} for tokens of {tuple(tokens_BT.shape)}: "
            "there must be one row of logits a token"
        )
    return logits_BTV
