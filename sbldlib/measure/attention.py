"""What each token of a sentence looks at: the attention weights of a model as it runs.

Legend: B batch, L layers, H heads, T tokens that look (queries), S tokens looked at (keys), E width
of a head.

Source: [S] softmax(Q K^T / sqrt(E)) from Vaswani et al. 2017, arXiv 1706.03762, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import check_kind, check_positive_int, items, shown
from ..losses import evaluation_mode
from ..models.encoder_decoder import EncoderDecoder

ROUNDING = 1e-3  # of a row's sum: weights may come from half precision


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionMaps:
    """Who looks at whom in one sentence, in every layer and head.

    Attributes:
        weights_LHTS: shares in [0, 1]; a row sums to 1, or to 0 where a token may look nowhere.
        queries: the T tokens that look, as text.
        keys: the S tokens that are looked at, as text.

    Raises:
        ValueError: weights of another shape, outside [0, 1], or whose rows sum to something else.
    """

    weights_LHTS: Tensor
    queries: tuple[str, ...]
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        right = "a tensor of weights, [layers, heads, queries, keys]"
        weights = check_kind("weights_LHTS", self.weights_LHTS, Tensor, right).detach()
        for field in ("queries", "keys"):
            names = tuple(items(field, getattr(self, field)))
            object.__setattr__(self, field, tuple(check_kind(field, n, str, "text") for n in names))
        T, S = len(self.queries), len(self.keys)
        if weights.ndim != 4 or not weights.numel() or tuple(weights.shape[2:]) != (T, S):
            raise ValueError(
                f"weights_LHTS of shape {tuple(weights.shape)} must be [layers, heads, {T}, {S}], "
                f"with at least one each: there are {T} queries and {S} keys"
            )
        weights = weights.to("cpu", torch.float32)
        sums = weights.sum(-1)
        is_share = (weights >= 0).all() and (weights <= 1 + ROUNDING).all()
        is_whole = ((sums - 1).abs() <= ROUNDING) | (sums == 0)
        if not (is_share and is_whole.all()):
            raise ValueError(
                f"weights_LHTS from {float(weights.min()):.3g} to {float(weights.max()):.3g}, rows "
                f"sum to {float(sums.min()):.3g} to {float(sums.max()):.3g}; each must be in "
                "[0, 1] and each row sum to 1, or to 0 where a token may look nowhere"
            )
        object.__setattr__(self, "weights_LHTS", weights)

    @property
    def num_layers(self) -> int:
        """L."""
        return self.weights_LHTS.shape[0]

    @property
    def num_heads(self) -> int:
        """H."""
        return self.weights_LHTS.shape[1]

    def strongest(
        self, layer: int, head: int, query: int | None = None, *, num: int = 3
    ) -> tuple[tuple[int, int, float], ...]:
        """The strongest links as (query's place, key's place, weight), the strongest first.

        Args:
            layer, head: which map, from 0.
            query: the place of the one token that looks; None is all.
            num: how many at most, >= 1.
        """
        weights_TS = self.map(layer, head)
        rows = range(len(self.queries)) if query is None else [self.place("query", query)]
        links = [(t, s, float(weights_TS[t, s])) for t in rows for s in range(len(self.keys))]
        links.sort(key=lambda link: -link[2])
        return tuple(links[: check_positive_int("num", num)])

    def map(self, layer: int, head: int) -> Tensor:
        """The weights of one head, [T, S]."""
        return self.weights_LHTS[self.place("layer", layer), self.place("head", head)]

    def place(self, field: str, value: int) -> int:
        """The number of a layer, head or query, or ValueError where there is none of it."""
        dimension = ("layer", "head", "query").index(field)
        most = self.weights_LHTS.shape[dimension] - 1
        return check_positive_int(field, value, minimum=0, maximum=most)


@contextmanager
def capture_attention() -> Iterator[list[Tensor]]:
    """Within it, every attention that a model computes leaves its weights, [B, H, T, S] each.

    They are computed on the side, so that what the model returns does not change: from the
    arguments of each call of torch's scaled_dot_product_attention and of torch.nn's
    MultiheadAttention, in the order of the calls, without dropout, detached, in float32.

    It sees what runs as Python does: not compiled graphs, nor attention that a library writes out
    itself (transformers: load with attn_implementation="sdpa").

    Yields:
        The list that fills up.
    """
    seen_BHTS: list[Tensor] = []
    with _Listener(seen_BHTS):
        yield seen_BHTS


@torch.no_grad()
def attention_maps(
    model: nn.Module, tokens_1T: Tensor, labels: Sequence[str], **inputs: Any
) -> AttentionMaps:
    """The self-attention of a decoder or an encoder over one sentence, every layer and head.

    Runs one forward pass in evaluation mode (restored after).

    Args:
        model: takes tokens [1, T], with one attention a layer; see `capture_attention`.
        tokens_1T: one sentence.
        labels: its T tokens as text.
        inputs: what else the model's forward takes, such as an attention_mask.

    Raises:
        ValueError: more sentences than one, a model in which no attention was seen, or layers whose
            maps differ in shape; and what the model says.
    """
    check_kind("tokens", tokens_1T, Tensor, "a tensor of tokens, [1, tokens]")
    if tokens_1T.ndim != 2 or len(tokens_1T) != 1:
        raise ValueError(
            f"tokens of shape {tuple(tokens_1T.shape)} must be [1, tokens]: one sentence"
        )
    with evaluation_mode(model), capture_attention() as seen_BHTS:
        model(tokens_1T, **inputs)
    labels = tuple(labels)
    return AttentionMaps(weights_LHTS=_stacked(seen_BHTS), queries=labels, keys=labels)


def translation_maps(
    model: EncoderDecoder,
    source_1S: Tensor,
    read_1T: Tensor,
    *,
    source: Sequence[str],
    read: Sequence[str],
    written: Sequence[str] | None = None,
) -> dict[str, AttentionMaps]:
    """An encoder-decoder's "encoder", "decoder" and "cross" attention for one translation.

    Args:
        source_1S: the source sentence.
        read_1T: what the decoder reads, see `shift_right`.
        source, read: their tokens as text.
        written: names of the T queries of "cross", the token that each is to write; None is the
            one that each has read.

    Raises:
        ValueError: a layer was skipped, and what `EncoderDecoder.forward` says.
    """
    check_kind("model", model, EncoderDecoder, "an EncoderDecoder")
    found = model.attention_weights(source_1S, read_1T)
    named = {
        "encoder": (source, source),
        "decoder": (read, read),
        "cross": (read if written is None else written, source),
    }
    maps: dict[str, AttentionMaps] = {}
    for name, (queries, keys) in named.items():
        weights = list(getattr(found, name))
        skipped = [layer for layer, one in enumerate(weights) if one is None]
        if skipped:
            raise ValueError(f"{name}: layers {skipped} are skipped and have no weights")
        maps[name] = AttentionMaps(
            weights_LHTS=_stacked(weights), queries=tuple(queries), keys=tuple(keys)
        )
    return maps


class _Listener(TorchFunctionMode):
    """Sees every call of torch's attention, and answers with what torch answers."""

    def __init__(self, seen_BHTS: list[Tensor]) -> None:
        super().__init__()
        self._seen_BHTS = seen_BHTS

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._keep(_weights(*args, **kwargs))
        elif func is F.multi_head_attention_forward:  # within it no mode sees anything
            asked = {"need_weights": True, "average_attn_weights": False, "training": False}
            with torch.no_grad():
                self._keep(func(*args, **{**kwargs, **asked})[1])
        return func(*args, **kwargs)

    def _keep(self, weights: Tensor) -> None:
        lead = (1,) * (4 - weights.ndim)
        self._seen_BHTS.append(weights.detach().float().nan_to_num(0.0).view(*lead, *weights.shape))


@torch.no_grad()
def _weights(
    query_BHTE: Tensor,
    key_BHSE: Tensor,
    value_BHSE: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The shares that scaled_dot_product_attention takes of the values, [B, H, T, S].

    Args:
        value_BHSE, dropout_p: as torch passes them; of no effect on the shares.
    """
    query_BHTE, key_BHSE = query_BHTE.float(), key_BHSE.float()
    if enable_gqa:  # several queries' heads share a key's
        key_BHSE = key_BHSE.repeat_interleave(query_BHTE.shape[-3] // key_BHSE.shape[-3], dim=-3)
    factor = 1 / math.sqrt(query_BHTE.shape[-1]) if scale is None else scale
    scores_BHTS = query_BHTE @ key_BHSE.transpose(-2, -1) * factor
    if is_causal:
        attn_mask = torch.ones_like(scores_BHTS, dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores_BHTS = scores_BHTS.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores_BHTS = scores_BHTS + attn_mask
    return scores_BHTS.softmax(-1)  # NaN where every score is -inf: kept as 0


def _stacked(maps_1HTS: Sequence[Tensor]) -> Tensor:
    """One sentence's maps, layer by layer, [L, H, T, S]."""
    if not maps_1HTS:
        raise ValueError(
            "the model computed no attention that can be seen: it must call torch's "
            "scaled_dot_product_attention (in transformers: attn_implementation='sdpa')"
        )
    shapes = [tuple(one.shape) for one in maps_1HTS]
    if len(set(shapes)) > 1 or shapes[0][0] != 1:
        raise ValueError(f"maps of shapes {shown(shapes)} must be alike, and of one sentence")
    return torch.cat(list(maps_1HTS))
