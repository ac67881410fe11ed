"""What a training step of a GPT takes, foretold from its configuration: operations and memory.

Legend: B rows, T tokens a row, D width, H heads, V vocabulary, L layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import check_choice, check_flag, check_kind, check_positive_int, check_range
from ..models.gpt_config import GPTConfig, flops_per_token
from ..records import Record

PRECISIONS = ("float32", "bfloat16")
FLOAT = 4  # bytes of a float32
HALF = 2  # of a bfloat16
MOMENTS = 2  # that AdamW keeps of every weight


@dataclass(frozen=True, kw_only=True)
class Footprint(Record):
    """What one training step needs; bytes unless said.

    Attributes:
        parameters: number of weights, the tied head counted once.
        tokens: input tokens of the step.
        flops: floating-point operations, forward, backward and what is computed again.
        weights: float32, under autocast too.
        gradients: float32.
        moments: AdamW's two, float32.
        activations: what the forward pass keeps for the backward pass, under autocast with the
            weights' bfloat16 copies.
        recomputed: of the one block whose activations are computed again at a time; 0 without
            activation recomputation.
    """

    parameters: int
    tokens: int
    flops: int
    weights: int
    gradients: int
    moments: int
    activations: int
    recomputed: int = 0

    def __post_init__(self) -> None:
        for name in ("parameters", "tokens", "flops", *PARTS):
            check_positive_int(name, getattr(self, name), minimum=0)

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each part, by its name in words."""
        return {words: getattr(self, name) for name, words in PARTS.items()}

    @property
    def total(self) -> int:
        """Bytes of all parts: the least that a device must hold, work space not counted."""
        return sum(self.parts.values())

    def seconds(self, flops_per_second: float) -> float:
        """Of the step, where the device reaches so many operations a second.

        Args:
            flops_per_second: reached in practice, > 0; often a third of a data sheet's.
        """
        rate = check_range("flops_per_second", flops_per_second, 0, math.inf, low_open=True)
        return self.flops / rate


PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "moments": "AdamW moments",
    "activations": "activations",
    "recomputed": "a block, computed again",
}


def predict_footprint(
    config: GPTConfig,
    *,
    batch_size: int,
    num_tokens: int | None = None,
    precision: str = "float32",
    activation_recomputation: bool = False,
) -> Footprint:
    """Foretell operations and memory of one training step of a GPT, AdamW's included.

    Exact for the forward pass of `GPT` with `next_token_loss` on a CPU, whose attention is fused;
    CUDA's kernels keep a little more. What is needed for a moment only, as the gradients of
    activations, is not counted.

    Args:
        config: the model's, without dropout, whose masks would be kept too.
        batch_size: rows B of a micro-batch, >= 1.
        num_tokens: T of a row, in 1..context_length; None is context_length.
        precision: "float32" or "bfloat16" (autocast).
        activation_recomputation: as the attribute of `GPT`.

    Raises:
        ValueError: a value out of range, or a model with dropout.

    Source: [O] counted from the operations of the forward pass; [S] attention that keeps no T x T
    matrix, Dao et al. 2022, arXiv 2205.14135; recomputation, Chen et al. 2016, arXiv 1604.06174.
    """
    check_kind("config", config, GPTConfig, "a GPTConfig, such as PRESETS['tiny']")
    if config.dropout:
        raise ValueError(f"dropout={config.dropout:g} keeps masks that are not foretold; use 0")
    B = check_positive_int("batch_size", batch_size)
    T = config.context_length if num_tokens is None else num_tokens
    a_token = flops_per_token(config, T)  # which checks T
    is_half = check_choice("precision", precision, PRECISIONS) == "bfloat16"
    again = check_flag("activation_recomputation", activation_recomputation)
    parameters, block = num_weights(config), block_bytes(config, B, T, is_half=is_half)
    kept = B * T * config.width * FLOAT if again else block
    if again:
        a_token += config.num_layers * _recomputed_flops(config, T)
    return Footprint(
        parameters=parameters,
        tokens=B * T,
        flops=B * T * a_token,
        weights=FLOAT * parameters,
        gradients=FLOAT * parameters,
        moments=MOMENTS * FLOAT * parameters,
        activations=config.num_layers * kept + outside_bytes(config, B, T, is_half=is_half),
        recomputed=block if again else 0,
    )


def num_weights(config: GPTConfig) -> int:
    """Weights of a GPT of this shape, the tied head counted once; the model need not be made."""
    D, L = config.width, config.num_layers
    biases = 9 * D + 2 * D if config.bias else 0  # of four maps, and of two norms
    block = 12 * D * D + 2 * D + biases
    return D * (config.vocabulary_size + config.context_length) + L * block + (1 + config.bias) * D


def block_bytes(config: GPTConfig, B: int, T: int, *, is_half: bool) -> int:
    """What one block keeps for its backward pass.

    In numbers a token: both norms' inputs (2 D); the norms' outputs, queries, keys, values, what
    attention gives, and the MLP's hidden layer before and after GELU (14 D); mean and deviation of
    both norms (4); and for each head the logarithm of its softmax's sum.
    """
    D, size = config.width, HALF if is_half else FLOAT
    numbers = 2 * D * FLOAT + 14 * D * size + (4 + config.num_heads) * FLOAT
    return B * T * numbers + (12 * D * D * HALF if is_half else 0)


def outside_bytes(config: GPTConfig, B: int, T: int, *, is_half: bool) -> int:
    """What is kept outside the blocks: the final norm's input, the head's, and every logit."""
    D, V, size = config.width, config.vocabulary_size, HALF if is_half else FLOAT
    numbers = D * FLOAT + 2 * FLOAT + D * size + V * FLOAT
    number_of_targets = FLOAT
    return B * T * numbers + number_of_targets + (V * D * HALF if is_half else 0)


def _recomputed_flops(config: GPTConfig, T: int) -> int:
    """Operations a token that one block computes again: its forward up to its last matrix.

    torch stops as soon as it has again what was kept: that matrix's output is not among it.
    """
    D = config.width
    return 2 * (8 * D * D + 2 * T * D)
