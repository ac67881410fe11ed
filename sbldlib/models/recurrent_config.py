"""Sizes of the sequence models: one configuration for all kinds, and one budget of weights.

Source: [S] dilations that grow with the layer from van den Oord et al., "WaveNet", 2016, arXiv
1609.03499; the forget gate's bias from Jozefowicz, Zaremba & Sutskever, "An Empirical Exploration
of Recurrent Network Architectures", ICML 2015; orthogonal starts from Saxe et al., 2013, arXiv
1312.6120.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..errors import (
    check_choice,
    check_flag,
    check_kind,
    check_positive_int,
    check_range,
    items,
)
from .config_checks import check_heads, keep_sizes
from .gpt_config import MAXIMUM

RECURRENT = {"rnn": 1, "lstm": 4, "gru": 3}  # and their gates: maps of input and state a layer
KINDS = (*RECURRENT, "convolution", "attention")


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """The size and shape of a sequence model; models of all kinds differ in their body alone.

    Attributes:
        kind: "rnn", "lstm", "gru", "convolution" or "attention".
        vocabulary_size: V, tokens are 0..V-1.
        context_length: the most tokens a sequence can have.
        width: D, of embeddings and states; a multiple of num_heads for "attention".
        num_layers: L; None is as many as let the last token see all of the context, and at
            least two blocks where there are blocks: 1 for a recurrent body, 2 for "attention", the
            logarithm of context_length to the base kernel_size for "convolution".
        num_heads: of "attention"; other kinds do not read it.
        kernel_size: k, tokens that one convolution sees, >= 2; layer l sees every k ** l-th.
        forget_bias: initial bias of an LSTM's forget gate, finite; at 0 the gate halves the
            cell's content every token, at 3 it keeps 95 %.
        orthogonal: whether a recurrent body's state-to-state matrices start orthogonal (they
            change no vector's length) and not uniform.

    Raises:
        ValueError: a value outside its range, named with its field.
    """

    kind: str
    vocabulary_size: int
    context_length: int
    width: int
    num_layers: int | None = None
    num_heads: int = 2
    kernel_size: int = 2
    forget_bias: float = 1.0
    orthogonal: bool = False

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        is_given = self.num_layers is not None
        keep_sizes(self, {k: most for k, most in MAXIMUM.items() if k != "num_layers" or is_given})
        most = MAXIMUM["context_length"]
        number = check_positive_int("kernel_size", self.kernel_size, minimum=2, maximum=most)
        object.__setattr__(self, "kernel_size", number)
        if self.kind == "attention":
            check_heads("width", self.width, self.num_heads)
        bias = check_range(
            "forget_bias", self.forget_bias, -math.inf, math.inf, low_open=True, high_open=True
        )
        object.__setattr__(self, "forget_bias", bias)
        object.__setattr__(self, "orthogonal", check_flag("orthogonal", self.orthogonal))

    @property
    def depth(self) -> int:
        """Layers that are built: num_layers, or what its None stands for."""
        if self.num_layers is not None:
            return self.num_layers
        if self.kind in RECURRENT:
            return 1
        return 2 if self.kind == "attention" else max(2, self._layers_to_see_all())

    @property
    def window(self) -> int:
        """Tokens that an output can depend on by construction, its own among them."""
        if self.kind != "convolution":
            return self.context_length
        return min(self.context_length, self.kernel_size**self.depth)

    def _layers_to_see_all(self) -> int:
        """The least number of dilated convolutions whose window holds the context."""
        seen, layers = 1, 0
        while seen < self.context_length:
            seen, layers = seen * self.kernel_size, layers + 1
        return layers


def num_parameters(config: SequenceConfig) -> int:
    """Number of weights of the model that this configuration describes."""
    config = check_kind("config", config, SequenceConfig, "a SequenceConfig")
    D, k = config.width, config.kernel_size
    if config.kind in RECURRENT:
        layer = RECURRENT[config.kind] * (2 * D * D + 2 * D)
    elif config.kind == "convolution":
        layer = (k * D * D + D) + (D * D + D) + 2 * D
    else:
        layer = 12 * D * D + 13 * D
    positions = config.context_length * D if config.kind == "attention" else 0
    embedding_and_head = 2 * config.vocabulary_size * D
    return embedding_and_head + positions + config.depth * layer + 2 * D


def fit_width(config: SequenceConfig, budget: int, *, tolerance: float = 0.05) -> SequenceConfig:
    """The configuration with the width that brings its number of weights nearest to a budget.

    Args:
        config: its width is not read.
        budget: weights, >= 1.
        tolerance: how far the number may lie from the budget, as a share of it, > 0.

    Raises:
        ValueError: no width comes that near; the nearest and its number are named.
    """
    config = check_kind("config", config, SequenceConfig, "a SequenceConfig")
    budget = check_positive_int("budget", budget)
    check_range("tolerance", tolerance, 0, math.inf, low_open=True, high_open=True)
    step = config.num_heads if config.kind == "attention" else 1
    low, high = 1, MAXIMUM["width"] // step  # in steps; the number of weights grows with them
    while low < high:
        middle = (low + high) // 2
        if num_parameters(replace(config, width=middle * step)) < budget:
            low = middle + 1
        else:
            high = middle
    near = [replace(config, width=steps * step) for steps in (max(low - 1, 1), low)]
    best = min(near, key=lambda each: abs(num_parameters(each) - budget))
    reached = num_parameters(best)
    if abs(reached - budget) > tolerance * budget:
        raise ValueError(
            f"budget={budget} cannot be met by kind={config.kind!r} with {config.depth} layers: "
            f"the nearest width, {best.width}, has {reached} weights, more than "
            f"tolerance={tolerance:g} away"
        )
    return best


def same_budget(
    config: SequenceConfig, kinds: Iterable[str] = KINDS, *, tolerance: float = 0.05
) -> dict[str, SequenceConfig]:
    """One configuration a kind, each as wide as the number of weights of `config` lets it be.

    Args:
        config: gives the budget; its own width stays. Where its num_layers is a number, every kind
            has that many.
        kinds: those that are wanted, in their order.
        tolerance: as in `fit_width`.

    Raises:
        ValueError: an unknown kind, or one that cannot meet the budget.
    """
    budget = num_parameters(config)
    named = [check_choice("kinds", kind, KINDS) for kind in items("kinds", kinds)]
    return {
        kind: config
        if kind == config.kind
        else fit_width(_of_kind(config, kind), budget, tolerance=tolerance)
        for kind in named
    }


def _of_kind(config: SequenceConfig, kind: str) -> SequenceConfig:
    """The same of another kind, at a width that every kind can have."""
    return replace(config, kind=kind, width=config.num_heads)
