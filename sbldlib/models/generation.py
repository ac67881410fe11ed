"""Continue token sequences with a language model.

Legend: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import check_flag, check_kind, check_positive_int, check_range
from .cache import KeyValueCache

if TYPE_CHECKING:
    from .language_model import LanguageModel


def check_tokens(tokens_BT: Tensor, vocabulary_size: int) -> None:
    """Raise ValueError unless there are tokens, and all are whole numbers in 0..V-1.

    Reads the values, for which a GPU has to be waited for: once, at the door.
    """
    check_kind("tokens", tokens_BT, Tensor, "a tensor, [batch, tokens]")
    if tokens_BT.ndim != 2 or tokens_BT.numel() == 0:
        shape = tuple(tokens_BT.shape)
        raise ValueError(f"tokens of shape {shape} must be [batch, tokens] with at least one each")
    if tokens_BT.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"tokens of type {tokens_BT.dtype} must be torch.int64")
    lowest, highest = (int(end) for end in torch.aminmax(tokens_BT))
    if lowest < 0 or highest >= vocabulary_size:
        outside = lowest if lowest < 0 else highest
        raise ValueError(f"token {outside} is outside vocabulary_size={vocabulary_size}")


@torch.no_grad()
def generate(
    model: LanguageModel,
    tokens_BT: Tensor,
    num_tokens: int,
    *,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
    use_cache: bool,
) -> Tensor:
    """What `GPT.generate` says; each pass gives as many tokens as lie between input and target."""
    config = model.config
    check_tokens(tokens_BT, config.vocabulary_size)
    check_positive_int("num_tokens", num_tokens)
    total = tokens_BT.shape[1] + num_tokens
    if total > config.context_length:
        raise ValueError(
            f"num_tokens={num_tokens} after a prompt of {tokens_BT.shape[1]} makes {total} tokens, "
            f"more than context_length={config.context_length}"
        )
    check_range("temperature", temperature, 0, math.inf, high_open=True)
    if top_k is not None and check_positive_int("top_k", top_k) > config.vocabulary_size:
        raise ValueError(f"top_k={top_k} is more than vocabulary_size={config.vocabulary_size}")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    check_kind("generator", generator, torch.Generator, "a torch.Generator, or None")
    use_cache = check_flag("use_cache", use_cache)
    cache = KeyValueCache(config.num_layers) if use_cache else None
    offset = config.offset
    with evaluation_mode(model):
        while tokens_BT.shape[1] < total:
            if cache is None:
                logits_BTV = model(tokens_BT)
            else:
                logits_BTV = model(tokens_BT[:, cache.length :], cache)
            for logits_BV in logits_BTV[:, -offset:].unbind(1)[: total - tokens_BT.shape[1]]:
                next_B1 = choose_tokens(logits_BV, temperature, top_k, generator)
                tokens_BT = torch.cat((tokens_BT, next_B1.to(tokens_BT)), dim=1)
    return tokens_BT


def choose_tokens(
    logits_BV: Tensor, temperature: float, top_k: int | None, generator: torch.Generator
) -> Tensor:
    """One token a row, [B, 1]: the likeliest at temperature 0, else a draw.

    Args:
        logits_BV: any real numbers.
        temperature: divides the logits; at least 0.
        top_k: draw among the k largest logits only (all that tie with the k-th); None is all.
        generator: draws on its own device; is not moved at temperature 0.
    """
    if temperature == 0:
        return logits_BV.argmax(dim=-1, keepdim=True)
    if top_k is not None:
        smallest_B1 = logits_BV.topk(top_k, dim=-1).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < smallest_B1, -math.inf)
    # With the largest at 0, no temperature is small enough to overflow.
    below_BV = logits_BV.float() - logits_BV.float().amax(dim=-1, keepdim=True)
    probability_BV = (below_BV / temperature).softmax(dim=-1)
    drawn_B1 = torch.multinomial(probability_BV.to(generator.device), 1, generator=generator)
    return drawn_B1.to(logits_BV.device)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the `with`; each part gets its own mode back after."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
