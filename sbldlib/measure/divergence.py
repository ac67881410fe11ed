"""How far the layers of a model are from one another: in their weights, and in what they do.

Made for layers that begin as copies of one another, or as one block at several places: weights of
layers that were drawn by themselves stand at about 1 from each other, however alike they compute,
for nothing says which hidden number of one is which of the other.

Legend: B batch, T tokens, D width, L layers (places).

Source: [O] the measures; stacked layers that stay alike are shown by Gong et al. 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..dropping.blocks import find_blocks
from ..dropping.skipping import attach
from ..errors import check_choice, check_kind, check_positive_int
from ..losses import device_of, evaluation_mode
from ..records import StepRecord


def _relative(one: Tensor, other: Tensor) -> float:
    size = one.square().sum() + other.square().sum()
    return float((one - other).square().sum() / size) ** 0.5 if size else 0.0


def _cosine(one: Tensor, other: Tensor) -> float:
    """Half the squared distance of the two directions: exactly 0 for equal ones."""
    unit = [each / each.norm().clamp_min(torch.finfo(each.dtype).tiny) for each in (one, other)]
    return float((unit[0] - unit[1]).square().sum() / 2)


MEASURES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "relative": _relative,
    "cosine": _cosine,
}


def measure_divergence(
    model: nn.Module, *, measure: str = "relative", part: str = ""
) -> np.ndarray:
    """How far the weights of each two layers are apart, [L, L]; symmetric.

    "relative" is |a - b| / sqrt(|a|^2 + |b|^2), with all matrices of a layer as one vector, in
    [0, sqrt 2]; "cosine" is 1 - cos(a, b), in [0, 2], its square where both are as long. Either is
    exactly 0 for layers with one block, or with copies of it, and about 1 for layers that were
    drawn by themselves. Biases and norms are left out: they begin alike everywhere. A low-rank
    change counts as part of the matrix that it changes.

    Args:
        model: one whose residual blocks are found, all of one shape.
        measure: one of `MEASURES`.
        part: of a block, such as "attention" or "mlp"; "" is all of it.

    Returns:
        Distances; NaN for a layer that does not take part yet, as in a stack that still grows.

    Raises:
        ValueError: no blocks, a part that blocks lack, or blocks of different shapes.
    """
    check_choice("measure", measure, MEASURES)
    check_kind("part", part, str, "the path of a part of a block, such as 'mlp'")
    blocks = [entry.module for entry in find_blocks(model)]
    vectors = [_matrices(block, part) for block in _running(model, blocks)]
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError(f"blocks of {type(model).__name__} differ in shape: none is a copy")
    far_LL = np.full((len(blocks), len(blocks)), np.nan)
    for one, vector in enumerate(vectors):
        far_LL[one, one] = 0.0
        for other in range(one):
            far_LL[one, other] = MEASURES[measure](vector, vectors[other])
            far_LL[other, one] = far_LL[one, other]
    return far_LL


@torch.no_grad()
def measure_change_likeness(model: nn.Module, tokens_BT: Tensor) -> np.ndarray:
    """How alike what two layers add to the residual stream is, [L, L]: mean cosine over tokens.

    1 where two layers add the same direction at every token, 0 where the directions have nothing in
    common. Runs once, in evaluation mode (restored after), at full depth.

    Args:
        model: one whose residual blocks are found and give a tensor.
        tokens_BT: what it reads.

    Returns:
        Cosines; NaN for a layer that does not take part.

    Raises:
        ValueError: no blocks, or blocks that give no tensor.
    """
    blocks = [entry.module for entry in attach(model).blocks]
    changes: dict[int, Tensor] = {}

    def keep(layer: int, given: Sequence[Tensor], found: Any) -> None:
        if not isinstance(found, Tensor):
            raise ValueError(f"block {layer} gives no tensor: its change cannot be measured")
        changes[layer] = nn.functional.normalize((found - given[0]).flatten(0, -2), dim=-1)

    hooks = [
        block.register_forward_hook(lambda _, given, found, layer=layer: keep(layer, given, found))
        for layer, block in enumerate(blocks)
    ]
    try:
        with evaluation_mode(model), attach(model).full_depth():
            model(tokens_BT.to(device_of(model)))
    finally:
        for hook in hooks:
            hook.remove()
    likeness_LL = np.full((len(blocks), len(blocks)), np.nan)
    for one, change_ND in changes.items():
        for other, against_ND in changes.items():
            likeness_LL[one, other] = float((change_ND * against_ND).sum(-1).mean())
    return likeness_LL


class DivergenceLog:
    """The distances of a model's layers every few steps: give it to `train` as `on_step`.

    Measured once when it is made, and then after the steps that are asked. It reads weights and
    changes nothing.

    Attributes:
        steps: how many were done at each measurement.
        stages: the stage that the model was at, 0 for one that has none.
        distances: [L, L] each.

    Example:
        >>> log = DivergenceLog(model, every=10)
        >>> train(model, data, optimizer, on_step=log)
        >>> log.neighbours  # [measurements, L - 1]
    """

    def __init__(
        self, model: nn.Module, *, every: int = 10, measure: str = "relative", part: str = ""
    ) -> None:
        """
        Args:
            model: that trains.
            every: steps between two measurements, >= 1.
            measure, part: as for `measure_divergence`.
        """
        self.every = check_positive_int("every", every)
        self._model, self._measure, self._part = model, measure, part
        self.steps: list[int] = []
        self.stages: list[int] = []
        self.distances: list[np.ndarray] = []
        self._add(0)

    def __call__(self, record: StepRecord) -> None:
        """Measure, where the step that is done is one of those asked."""
        if (record.step + 1) % self.every == 0:
            self._add(record.step + 1)

    @property
    def neighbours(self) -> np.ndarray:
        """Of each layer and the one above it, [measurements, L - 1]."""
        return np.stack([np.diagonal(far_LL, offset=1) for far_LL in self.distances])

    @property
    def switches(self) -> tuple[int, ...]:
        """Steps done at the first measurement of each later stage."""
        pairs = zip(self.steps[1:], self.stages[1:], self.stages, strict=False)
        return tuple(step for step, now, before in pairs if now != before)

    def _add(self, step: int) -> None:
        far_LL = measure_divergence(self._model, measure=self._measure, part=self._part)
        self.distances.append(far_LL)
        self.steps.append(step)
        self.stages.append(int(getattr(self._model, "stage", 0)))


def _running(model: nn.Module, blocks: Sequence[nn.Module]) -> Sequence[nn.Module]:
    """The first of the blocks, as many as take part."""
    return blocks[: len(getattr(model, "running_blocks", blocks))]


def _matrices(block: nn.Module, part: str) -> Tensor:
    """All matrices of a part of a block, one after the other, as they are used."""
    try:
        root = block.get_submodule(part)
    except AttributeError:
        raise ValueError(f"part={part!r} names no part of a {type(block).__name__}") from None
    found = [weight.flatten() for weight in _in_use(root) if weight.ndim >= 2]
    if not found:
        raise ValueError(f"part={part!r} of a {type(block).__name__} holds no matrix")
    return torch.cat(found).double()


@torch.no_grad()
def _in_use(module: nn.Module) -> Iterator[Tensor]:
    """Every weight below a module, with what changes it merged into it."""
    changed: Any = getattr(module, "parametrizations", {})  # what is used stands under its name
    for name in [*module._parameters, *changed]:
        weight = getattr(module, name)
        if weight is not None:
            yield weight.detach()
    for name, child in module.named_children():
        if name != "parametrizations":
            yield from _in_use(child)
