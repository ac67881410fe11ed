"""Write a translation token by token: the likeliest next token, or a beam of the best so far.

Legend: B batch, K sentences kept, S source tokens, T target tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_kind, check_positive_int, check_range
from .encoder_decoder import EncoderDecoder
from .generation import evaluation_mode


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """One translation.

    Attributes:
        tokens: without the start and the end.
        log_probability: of all its tokens, and of the end where there is one; nats, <= 0.
        score: log_probability divided by the length penalty; the larger, the better.
        ended: whether the model wrote the end; else it was cut at the most tokens allowed.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    ended: bool


def length_penalty(num_tokens: int, strength: float) -> float:
    """What a log-probability is divided by, lest short sentences win for being short; >= 1.

    Args:
        num_tokens: written, the end among them; >= 1.
        strength: alpha, >= 0; 0 divides by 1. In 2017 it was 0.6.

    Source: [S] Wu et al. 2016, arXiv 1609.08144, equation 14: ((5 + num_tokens) / 6) ** alpha.
    """
    return ((5 + num_tokens) / 6) ** strength


@torch.no_grad()
def greedy_decode(
    model: EncoderDecoder, source_BS: Tensor, *, max_tokens: int | None = None
) -> tuple[Hypothesis, ...]:
    """One translation a row, always the likeliest next token, in evaluation mode (restored after).

    Scores have no length penalty. The decoder reads all of its tokens again for every new one.

    Args:
        source_BS: tokens, rows filled up with the model's padding.
        max_tokens: the most to write, the end among them; None is the model's context_length.

    Raises:
        ValueError: max_tokens out of range, and what `EncoderDecoder.forward` says.
    """
    most = _check_most(model, max_tokens)
    config = model.config
    with evaluation_mode(model):
        memory_BSD, mask_BS = model.encode(source_BS)
        written_BT = torch.full_like(source_BS[:, :1], config.start, dtype=torch.int64)
        ended_B = torch.zeros_like(written_BT[:, 0], dtype=torch.bool)
        total_B = torch.zeros_like(ended_B, dtype=torch.float64)
        for _ in range(most):
            log_probability_BV = _next(model, written_BT, memory_BSD, mask_BS)
            best_B, token_B = log_probability_BV.max(dim=1)
            total_B += best_B.masked_fill(ended_B, 0.0)
            token_B = token_B.masked_fill(ended_B, config.end)
            written_BT = torch.cat((written_BT, token_B[:, None]), dim=1)
            ended_B |= token_B == config.end
            if bool(ended_B.all()):
                break
    rows = zip(written_BT[:, 1:].tolist(), total_B.tolist(), strict=True)
    return tuple(_hypothesis(tokens, total, config.end, 0.0) for tokens, total in rows)


@torch.no_grad()
def beam_decode(
    model: EncoderDecoder,
    source_BS: Tensor,
    *,
    beam_width: int = 4,
    length_strength: float = 0.6,
    max_tokens: int | None = None,
) -> tuple[tuple[Hypothesis, ...], ...]:
    """Up to `beam_width` translations a row, the best score first.

    Each step keeps the likeliest continuations of what was kept. One that ends is put aside, and
    the beam is narrower by one from then on; so a beam of 1 is greedy, and one with room for
    every sentence misses none. In evaluation mode (restored after), row by row.

    Args:
        source_BS: tokens, rows filled up with the model's padding.
        beam_width: K, >= 1.
        length_strength: see `length_penalty`; it ranks what was found and does not guide the
            search.
        max_tokens: the most to write, the end among them; None is the model's context_length.

    Raises:
        ValueError: an argument out of range, and what `EncoderDecoder.forward` says.
    """
    most = _check_most(model, max_tokens)
    width = check_positive_int("beam_width", beam_width)
    strength = check_range("length_strength", length_strength, 0, math.inf, high_open=True)
    with evaluation_mode(model):
        memory_BSD, mask_BS = model.encode(source_BS)
        return tuple(
            _search(model, memory_BSD[row, None], mask_BS[row, None], width, strength, most)
            for row in range(len(source_BS))
        )


def _search(
    model: EncoderDecoder,
    memory_1SD: Tensor,
    mask_1S: Tensor,
    beam_width: int,
    strength: float,
    max_tokens: int,
) -> tuple[Hypothesis, ...]:
    """The beam of one sentence."""
    end = model.config.end
    written_KT = torch.full_like(mask_1S[:, :1], model.config.start, dtype=torch.int64)
    total_K = torch.zeros_like(mask_1S[:, 0], dtype=torch.float64)
    found: list[Hypothesis] = []
    for _ in range(max_tokens):
        K = len(written_KT)
        memory_KSD, mask_KS = memory_1SD.expand(K, -1, -1), mask_1S.expand(K, -1)
        total_KV = total_K[:, None] + _next(model, written_KT, memory_KSD, mask_KS)
        # Stable: of equals the first, as argmax has it.
        best = total_KV.flatten().sort(descending=True, stable=True)
        total_K = best.values[: beam_width - len(found)]
        place_K = best.indices[: beam_width - len(found)]
        V = total_KV.shape[1]
        written_KT = torch.cat((written_KT[place_K // V], (place_K % V)[:, None]), dim=1)
        has_ended_K = written_KT[:, -1] == end
        found += _hypotheses(written_KT[has_ended_K], total_K[has_ended_K], end, strength)
        written_KT, total_K = written_KT[~has_ended_K], total_K[~has_ended_K]
        if len(written_KT) == 0:
            break
    found += _hypotheses(written_KT, total_K, end, strength)
    return tuple(sorted(found, key=lambda one: one.score, reverse=True))


def _next(model: EncoderDecoder, written_BT: Tensor, memory_BSD: Tensor, mask_BS: Tensor) -> Tensor:
    """Log-probability of every next token, [B, V], in nats."""
    logits_BTV = model.decode(written_BT, memory_BSD, mask_BS)
    return logits_BTV[:, -1].double().log_softmax(dim=1)


def _hypotheses(written_KT: Tensor, total_K: Tensor, end: int, strength: float) -> list[Hypothesis]:
    rows = zip(written_KT[:, 1:].tolist(), total_K.tolist(), strict=True)
    return [_hypothesis(tokens, total, end, strength) for tokens, total in rows]


def _hypothesis(tokens: list[int], total: float, end: int, strength: float) -> Hypothesis:
    """Of tokens that are written up to the first end, where there is one."""
    ended = end in tokens
    kept = tuple(tokens[: tokens.index(end)] if ended else tokens)
    return Hypothesis(
        tokens=kept,
        log_probability=total,
        score=total / length_penalty(len(kept) + ended, strength),
        ended=ended,
    )


def _check_most(model: EncoderDecoder, max_tokens: int | None) -> int:
    check_kind("model", model, EncoderDecoder, "an EncoderDecoder")
    limit = model.config.context_length
    if max_tokens is None:
        return limit
    if check_positive_int("max_tokens", max_tokens) > limit:
        raise ValueError(f"max_tokens={max_tokens} is more than context_length={limit}")
    return max_tokens
