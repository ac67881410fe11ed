"""How far back a model looks: the gradient of its last output towards each earlier input.

Legend: B batch, T tokens, D width, V vocabulary.

Source: [S] gradients that vanish with distance from Bengio, Simard & Frasconi, "Learning Long-Term
Dependencies with Gradient Descent is Difficult", 1994, doi 10.1109/72.279181; [O] this measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import check_finite, check_kind, check_positive_int, check_range, check_seed
from ..losses import device_of, evaluation_mode, logits_of
from ..records import Record
from .graph import written_out


@dataclass(frozen=True, kw_only=True)
class Reach(Record):
    """Gradient of the last position's logits towards the embedding of each token.

    Attributes:
        norms: by distance, 0 (the last token itself) to T - 1: mean norm over rows and directions.
        num_rows, num_directions: that the means are over.
        seed: of the directions.
    """

    norms: tuple[float, ...]
    num_rows: int
    num_directions: int
    seed: int

    def __post_init__(self) -> None:
        norms = check_finite("norms", self.norms)
        if not norms or min(norms) < 0 or norms[0] == 0:
            raise ValueError(
                f"norms={norms!r} must be at least 0, and above it at distance 0: a last output "
                "that does not depend on its own token has nothing to be relative to"
            )
        object.__setattr__(self, "norms", norms)

    @property
    def relative(self) -> tuple[float, ...]:
        """Norm at each distance / norm at distance 0."""
        return tuple(norm / self.norms[0] for norm in self.norms)

    def window(self, threshold: float = 1e-3) -> int:
        """The furthest distance at which the relative norm is at least this, in 0..T-1.

        Args:
            threshold: in (0, 1].
        """
        least = check_range("threshold", threshold, 0, 1, low_open=True)
        return max(distance for distance, norm in enumerate(self.relative) if norm >= least)


def measure_reach(
    model: nn.Module,
    tokens_BT: Tensor,
    *,
    num_directions: int = 4,
    seed: int = 0,
    embedding: nn.Module | None = None,
) -> Reach:
    """Measure how strongly the last position's logits depend on each token, by distance.

    The norm is that of the gradient of a random combination of all logits; its mean square is the
    squared norm of the whole Jacobian. Gradients are float32 where the weights are: what lies below
    1e-45 is 0. Runs in evaluation mode (restored after) and touches no weight's own gradient.

    Args:
        model: maps tokens [B, T] to logits [B, T, V], or to an output with `.logits`.
        tokens_BT: rows to measure on, at least one.
        num_directions: random combinations of the logits a row, >= 1.
        seed: of those.
        embedding: the part whose output [B, T, D] stands for the tokens; None is what
            `model.get_input_embeddings()` names, else the first nn.Embedding.

    Raises:
        ValueError: no such part, one that did not run exactly once, or a value out of range.
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    tokens = check_kind("tokens", tokens_BT, Tensor, "a tensor, [batch, tokens]")
    if tokens.ndim != 2 or tokens.numel() == 0:
        shape = tuple(tokens.shape)
        raise ValueError(f"tokens of shape {shape} must be [batch, tokens] with at least one each")
    num = check_positive_int("num_directions", num_directions)
    generator = torch.Generator().manual_seed(check_seed("seed", seed))
    part = find_embedding(model) if embedding is None else embedding
    check_kind("embedding", part, nn.Module, "a part of the model, such as model.token_embedding")
    with (
        written_out(),
        evaluation_mode(model),
        torch.enable_grad(),
        captured_embedding(part) as embedded,
    ):
        logits_BV = logits_of(model(tokens.to(device_of(model))))[:, -1]
        if len(embedded) != 1:
            raise ValueError(
                f"embedding of type {type(part).__name__} ran {len(embedded)} times in one forward "
                "pass; give the part that runs once, as embedding="
            )
        directions_NBV = torch.randn((num, *logits_BV.shape), generator=generator).to(logits_BV)
        norms_NBT = torch.stack(
            [_norms(logits_BV, embedded[0], each_BV) for each_BV in directions_NBV]
        )
    norms_T = norms_NBT.mean((0, 1)).flip(0)
    return Reach(norms=tuple(norms_T.tolist()), num_rows=len(tokens), num_directions=num, seed=seed)


def find_embedding(model: nn.Module) -> nn.Module:
    """The part that turns tokens into vectors.

    Raises:
        ValueError: the model holds no nn.Embedding.
    """
    named = getattr(model, "get_input_embeddings", None)
    if callable(named):
        found = named()
    else:
        found = next((part for part in model.modules() if isinstance(part, nn.Embedding)), None)
    if not isinstance(found, nn.Module):
        raise ValueError(
            f"model={type(model).__name__} holds no nn.Embedding; name the part that turns tokens "
            "into vectors, as embedding="
        )
    return found


def _norms(logits_BV: Tensor, embedded_BTD: Tensor, direction_BV: Tensor) -> Tensor:
    """Norm of the gradient of this combination of logits, [B, T]; no row sees another."""
    combined = (logits_BV * direction_BV).sum()
    (gradient_BTD,) = torch.autograd.grad(combined, embedded_BTD, retain_graph=True)
    return gradient_BTD.double().norm(dim=-1).cpu()  # squares of small floats would be 0


@contextmanager
def captured_embedding(part: nn.Module) -> Iterator[list[Tensor]]:
    """What the part returns within this `with`, each cut off from its past to be a leaf."""
    outputs: list[Tensor] = []

    def capture(_part: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_())
        return outputs[-1]

    hook = part.register_forward_hook(capture)
    try:
        yield outputs
    finally:
        hook.remove()
