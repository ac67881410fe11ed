"""What flows through an encoder-decoder while it translates: every tensor, in the order it is made.

Legend: S source tokens, T target tokens read so far, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check_kind, check_positive_int
from ..losses import evaluation_mode
from ..models.encoder_decoder import EncoderDecoder

ENCODER, DECODER = "encoder", "decoder"
BLOCK_PARTS = {
    ENCODER: ("attention", "feed_forward"),
    DECODER: ("attention", "cross_attention", "feed_forward"),
}
FIRST, LAST = "embedding", {ENCODER: "memory", DECODER: "next"}


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowStep:
    """One tensor, as it left one part of the model.

    Attributes:
        half: "encoder" or "decoder".
        turn: 0 in the encoder, which runs once; in the decoder 1, 2, ...: which token it writes.
        layer: of the block, from 0; None outside the blocks.
        part: "embedding" (of tokens, with positions), a block's "attention", "cross_attention" or
            "feed_forward" (what it adds), "memory" (the encoder's output), or "next" (the
            probability of each symbol, [1, V]).
        values: one row a token, [S or T, D]; of "next", [1, V].
        rows: the rows' tokens as text.
    """

    half: str
    turn: int
    layer: int | None
    part: str
    values: Tensor
    rows: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class DataFlow:
    """One translation, step by step.

    Attributes:
        steps: in the order in which they were computed.
        source: the S source tokens as text.
        read: all that the decoder read, the start first.
        written: what it wrote, the end with it where it wrote one.
        symbols: the V symbols as text.
        num_layers: blocks of the encoder and of the decoder.
    """

    steps: tuple[FlowStep, ...]
    source: tuple[str, ...]
    read: tuple[str, ...]
    written: tuple[str, ...]
    symbols: tuple[str, ...]
    num_layers: tuple[int, int]


@torch.no_grad()
def trace_translation(
    model: EncoderDecoder,
    source_1S: Tensor,
    symbols: Sequence[str],
    *,
    max_tokens: int | None = None,
) -> DataFlow:
    """Translate greedily and keep a copy of what leaves each part, seen by forward hooks.

    In evaluation mode (restored after); the hooks are gone afterwards.

    Args:
        source_1S: one source sentence.
        symbols: the vocabulary's V symbols as text.
        max_tokens: the most to write, the end among them; None is the model's context_length.

    Raises:
        ValueError: more sentences than one, symbols that are not the model's, max_tokens out of
            range, and what `EncoderDecoder.forward` says.
    """
    check_kind("model", model, EncoderDecoder, "an EncoderDecoder")
    config, names = model.config, tuple(symbols)
    if len(names) != config.vocabulary_size:
        raise ValueError(
            f"symbols: {len(names)} of them; the model's vocabulary_size={config.vocabulary_size}"
        )
    check_kind("source", source_1S, Tensor, "a tensor of tokens, [1, tokens]")
    if source_1S.ndim != 2 or len(source_1S) != 1:
        raise ValueError(f"source of shape {tuple(source_1S.shape)} must be [1, tokens]")
    limit = config.context_length
    most = limit if max_tokens is None else max_tokens
    check_positive_int("max_tokens", most, maximum=limit)
    written = [config.start]

    def name_of(token: float) -> str:  # one that is no symbol is for the model to refuse
        return names[int(token)] if 0 <= token < len(names) else str(token)

    with evaluation_mode(model), _watched(model) as watch:
        source = tuple(map(name_of, source_1S[0].tolist()))
        watch.begin(0, source)
        memory_1SD, mask_1S = model.encode(source_1S)
        for turn in range(1, most + 1):
            watch.begin(turn, tuple(map(name_of, written)))
            logits_1TV = model.decode(source_1S.new_tensor([written]), memory_1SD, mask_1S)
            chance_1V = logits_1TV[:, -1].softmax(-1)
            watch.keep(DECODER, None, LAST[DECODER], chance_1V[None])
            written.append(int(logits_1TV[0, -1].argmax()))
            if written[-1] == config.end:
                break
    read = tuple(map(name_of, written))
    return DataFlow(
        steps=tuple(watch.steps), source=source, read=read[:-1], written=read[1:], symbols=names,
        num_layers=(len(model.encoder.blocks), len(model.decoder.blocks)),
    )  # fmt: skip


class _Watch:
    """Where the hooks put what they see."""

    def __init__(self) -> None:
        self.steps: list[FlowStep] = []
        self._turn = 0
        self._rows: tuple[str, ...] = ()

    def begin(self, turn: int, rows: tuple[str, ...]) -> None:
        """A pass of one half begins, over these tokens."""
        self._turn, self._rows = turn, rows

    def keep(self, half: str, layer: int | None, part: str, values_1TD: Tensor) -> None:
        rows = ("next token",) if part == LAST[DECODER] else self._rows
        values = values_1TD[0].detach().to("cpu", torch.float32).clone()
        self.steps.append(
            FlowStep(half=half, turn=self._turn, layer=layer, part=part, values=values, rows=rows)
        )


@contextmanager
def _watched(model: EncoderDecoder) -> Iterator[_Watch]:
    """Hooks on every part of both halves, for as long as this lasts."""
    watch, handles = _Watch(), []

    def listen(module: nn.Module, half: str, layer: int | None, part: str) -> None:
        def hook(_module: nn.Module, _given: Any, output: Tensor) -> None:
            watch.keep(half, layer, part, output)

        handles.append(module.register_forward_hook(hook))

    def listen_before(module: nn.Module, half: str) -> None:
        def hook(_module: nn.Module, given: tuple[Any, ...]) -> None:
            watch.keep(half, None, FIRST, given[0])

        handles.append(module.register_forward_pre_hook(hook))

    try:
        for half, module in ((ENCODER, model.encoder), (DECODER, model.decoder)):
            listen_before(module, half)
            for layer, block in enumerate(module.blocks):
                for part in BLOCK_PARTS[half]:
                    listen(getattr(block, part), half, layer, part)
        listen(model.encoder, ENCODER, None, LAST[ENCODER])
        yield watch
    finally:
        for handle in handles:
            handle.remove()
