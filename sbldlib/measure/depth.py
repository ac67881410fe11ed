"""What depth does to a new stack of blocks: how much gradient reaches each, what the last one sees.

Legend: B batch, T tokens, D width, H heads, L layers.

Source: [S] norms inside the residual from Xiong et al. 2020, arXiv 2002.04745; tokens that become
one without residuals from Dong et al. 2021, arXiv 2103.03404.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import check_choice, check_positive_int, check_seed
from ..models.from_scratch import EncoderBlock

STACKS = ("pre", "post", "no residual")
_B, _T, _HEADS = 8, 8, 4


@dataclass(frozen=True, kw_only=True, eq=False)
class StackDepth:
    """One stack of untrained blocks, one random batch forward and one gradient back.

    Attributes:
        gradient_norms: of each block's value weights, layer by layer.
        likeness: mean cosine of two tokens' vectors, each less the batch's mean, after each block;
            1 where all tokens of a sentence have become one.
        last_weights_HTT: attention weights of the last block, for one sentence.
    """

    gradient_norms: tuple[float, ...]
    likeness: tuple[float, ...]
    last_weights_HTT: Tensor


def measure_depth(kind: str, *, num_layers: int = 16, width: int = 64, seed: int = 0) -> StackDepth:
    """Stack blocks, send random tokens up and the gradient of a random direction down.

    Args:
        kind: "pre" is x + f(norm(x)), "post" is norm(x + f(x)), "no residual" is f(norm(x)).
        num_layers: L, >= 1.
        width: D, a multiple of 4.
        seed: of weights, tokens and direction.
    """
    check_choice("kind", kind, STACKS)
    depth, D = check_positive_int("num_layers", num_layers), check_positive_int("width", width)
    generator = torch.Generator().manual_seed(check_seed("seed", seed))
    norm = "post" if kind == "post" else "pre"
    blocks = [EncoderBlock(D, _HEADS, 4 * D, generator, norm) for _ in range(depth)]
    x_BTD = torch.randn(_B, _T, D, generator=generator)
    likeness: list[float] = []
    weights_BHTT = x_BTD
    for block in blocks:
        read_BTD = x_BTD if kind == "post" else block.norm1(x_BTD)
        taken_BTD, weights_BHTT = block.attention(read_BTD, read_BTD)
        if kind == "no residual":
            x_BTD = block.feed_forward(block.norm2(taken_BTD))
        else:
            x_BTD = block(x_BTD)
        likeness.append(_likeness(x_BTD.detach()))
    last_BTD = x_BTD if kind == "post" else F.layer_norm(x_BTD, (D,))
    (last_BTD * torch.randn(last_BTD.shape, generator=generator)).sum().backward()
    grads = [block.attention.value.weight.grad for block in blocks]
    return StackDepth(
        gradient_norms=tuple(float(grad.norm()) for grad in grads if grad is not None),
        likeness=tuple(likeness),
        last_weights_HTT=weights_BHTT[0].detach(),
    )


def _likeness(x_BTD: Tensor) -> float:
    """Mean cosine of two different tokens of a sentence."""
    unit_BTD = F.normalize(x_BTD - x_BTD.mean((0, 1)), dim=-1)
    cosine_BTT = unit_BTD @ unit_BTD.transpose(1, 2)
    T = x_BTD.shape[1]
    return float((cosine_BTT.sum((1, 2)) - T).mean() / (T * (T - 1)))
