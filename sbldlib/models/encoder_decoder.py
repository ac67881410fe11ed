"""The transformer of 2017: an encoder reads a sentence, a decoder writes another one.

Legend: B batch, S source tokens, T target tokens, D width, V vocabulary, H heads, E width of a
head (D / H).

Source: [S] Vaswani et al., "Attention Is All You Need", 2017, arXiv 1706.03762; what the parts
compute is written out in `from_scratch`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import check_kind, check_seed
from .encoder_decoder_config import PRESETS, EncoderDecoderConfig
from .encoder_decoder_parts import Decoder, Encoder, Maps
from .from_scratch import sinusoidal_positions
from .generation import evaluation_mode
from .language_model import NamedModel

__all__ = [
    "PRESETS",
    "AttentionWeights",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "shift_right",
    "translation_loss",
]

IGNORE = -100  # a target that carries no loss, torch's own default


@dataclass(frozen=True, kw_only=True)
class AttentionWeights:
    """Which token looked at which: one entry a layer, None where the layer was skipped.

    Attributes:
        encoder: self-attention of the source, [B, H, S, S] each; rows sum to 1.
        decoder: causal self-attention of the target, [B, H, T, T] each.
        cross: from the target's tokens to the source's, [B, H, T, S] each.
    """

    encoder: tuple[Tensor | None, ...]
    decoder: tuple[Tensor | None, ...]
    cross: tuple[Tensor | None, ...]


class EncoderDecoder(NamedModel):
    """Encoder, decoder with cross-attention, sinusoidal positions, and one shared embedding.

    The embedding is also the head, as in 2017. Blocks are `encoder.blocks` and `decoder.blocks`:
    layer dropping numbers the encoder's first, then the decoder's. Sizes by name: "tiny",
    "base-2017" and "big-2017".

    Args:
        config: size and shape.
        seed: of the initial weights; torch's own random state is neither read nor moved. The
            weights are the same on every device.

    Example:
        >>> model = EncoderDecoder.from_preset("tiny")
        >>> logits_BTV = model(source_BS, shift_right(targets_BT, start=1, padding=0))
    """

    config_class, presets = EncoderDecoderConfig, PRESETS
    config: EncoderDecoderConfig
    positions_TD: Tensor

    def __init__(self, config: EncoderDecoderConfig, seed: int = 0) -> None:
        super().__init__()
        right = "an EncoderDecoderConfig; EncoderDecoder.from_preset('tiny') makes one by name"
        self.config = check_kind("config", config, EncoderDecoderConfig, right)
        seed = check_seed("seed", seed)
        # torch's layers draw weights of their own at construction; on "meta" nothing is drawn.
        with torch.device("meta"):
            self.embedding = nn.Embedding(config.vocabulary_size, config.width)
            self.embedding_dropout = nn.Dropout(config.dropout)
            self.encoder = Encoder(config)
            self.decoder = Decoder(config)
            positions_TD = torch.empty(config.context_length, config.width)
            self.register_buffer("positions_TD", positions_TD, persistent=False)
        self.to_empty(device=torch.get_default_device())
        self._draw_weights(seed)

    def forward(
        self, source_BS: Tensor, target_BT: Tensor, *, source_mask_BS: Tensor | None = None
    ) -> Tensor:
        """Logits of the token after each target token, [B, T, V].

        Each depends on all of its source sentence, and on the targets up to its own. So padding at
        the end of a target needs no mask.

        Args:
            source_BS: tokens, rows filled up with `config.padding`.
            target_BT: what the decoder reads: `config.start`, then the target, see `shift_right`.
            source_mask_BS: True where a source token counts; None is all but padding.

        Raises:
            ValueError: a mask, or rows, of another shape; more tokens than context_length; a token
                outside the vocabulary; a source sentence without a token that counts (found on a
                CPU; a GPU would have to be waited for, there it reads as zeros).
        """
        return self.decode(target_BT, *self.encode(source_BS, source_mask_BS))

    def encode(
        self, source_BS: Tensor, source_mask_BS: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The encoder's output, [B, S, D], and where it may be read, [B, S]; as `decode` takes."""
        return self._encode(source_BS, source_mask_BS, None)

    def decode(self, target_BT: Tensor, memory_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        """Logits of the token after each target token, [B, T, V], given `encode`'s answer."""
        return self._decode(target_BT, memory_BSD, mask_BS, None)

    @torch.no_grad()
    def attention_weights(
        self, source_BS: Tensor, target_BT: Tensor, *, source_mask_BS: Tensor | None = None
    ) -> AttentionWeights:
        """Every head's weights in every layer, in evaluation mode (restored after).

        Computed on the side: a plain forward pass holds no weights, which is what makes it fast.

        Args:
            source_BS, target_BT, source_mask_BS: as for `forward`.
        """
        encoder: list[Maps] = []
        decoder: list[Maps] = []
        with evaluation_mode(self):
            memory = self._encode(source_BS, source_mask_BS, encoder)
            self._decode(target_BT, *memory, decoder)
        return AttentionWeights(
            encoder=tuple(maps.get("own") for maps in encoder),
            decoder=tuple(maps.get("own") for maps in decoder),
            cross=tuple(maps.get("cross") for maps in decoder),
        )

    def _encode(
        self, source_BS: Tensor, mask_BS: Tensor | None, kept: list[Maps] | None
    ) -> tuple[Tensor, Tensor]:
        x_BSD = self._embed("source", source_BS)
        if mask_BS is None:
            mask_BS = source_BS != self.config.padding
        _check_mask("source_mask", mask_BS, tuple(source_BS.shape))
        if mask_BS.device.type == "cpu" and not mask_BS.any(dim=1).all():
            row = int(mask_BS.any(dim=1).logical_not().nonzero()[0, 0])
            raise ValueError(
                f"source row {row} of {len(mask_BS)} is an empty sentence: every token is padding "
                f"({self.config.padding}) or masked; give it one that counts, such as the end"
            )
        return self.encoder(x_BSD, mask_BS[:, None, None], kept), mask_BS

    def _decode(
        self, target_BT: Tensor, memory_BSD: Tensor, mask_BS: Tensor, kept: list[Maps] | None
    ) -> Tensor:
        x_BTD = self._embed("target", target_BT)
        if len(target_BT) != len(memory_BSD):
            raise ValueError(
                f"target of shape {tuple(target_BT.shape)} has {len(target_BT)} rows, the source "
                f"{len(memory_BSD)}; there must be one target a source"
            )
        _check_mask("mask", mask_BS, tuple(memory_BSD.shape[:2]))
        x_BTD = self.decoder(x_BTD, memory_BSD, mask_BS[:, None, None], kept)
        return F.linear(x_BTD, self.embedding.weight)

    def _embed(self, field: str, tokens_BT: Tensor) -> Tensor:
        """Embeddings of tokens, scaled to stand beside positions, which reach from -1 to 1."""
        check_kind(field, tokens_BT, Tensor, "a tensor of tokens, [batch, tokens]")
        if tokens_BT.ndim != 2 or not tokens_BT.numel():
            raise ValueError(
                f"{field} of shape {tuple(tokens_BT.shape)} must be [batch, tokens] with at least "
                "one each"
            )
        if tokens_BT.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"{field} of type {tokens_BT.dtype} must be torch.int64")
        num_tokens = tokens_BT.shape[1]
        if num_tokens > self.config.context_length:
            limit = self.config.context_length
            raise ValueError(f"{field} of {num_tokens} tokens exceeds context_length={limit}")
        try:
            token_BTD = self.embedding(tokens_BT)
        except (IndexError, RuntimeError):  # found out here, for a GPU's tokens must not be read
            _check_symbols(field, tokens_BT, self.config.vocabulary_size)
            raise
        scale = self.config.width**0.5
        return self.embedding_dropout(token_BTD * scale + self.positions_TD[:num_tokens])

    @torch.no_grad()
    def _draw_weights(self, seed: int) -> None:
        """Glorot's uniform weights as in 2017; embeddings that scaled have variance 1."""
        if self.embedding.weight.is_meta:
            return
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, (nn.Linear, nn.Embedding)):
                drawn = torch.empty(module.weight.shape, dtype=torch.float32, device="cpu")
                if isinstance(module, nn.Embedding):
                    drawn.normal_(0.0, self.config.width**-0.5, generator=generator)
                else:
                    nn.init.xavier_uniform_(drawn, generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()
                module.weight.copy_(drawn)
        self._fill_buffers()

    def _fill_buffers(self) -> None:
        T, D = self.positions_TD.shape
        self.positions_TD = sinusoidal_positions(T, D).to(self.embedding.weight)


def shift_right(targets_BT: Tensor, *, start: int, padding: int) -> Tensor:
    """What the decoder reads to predict each target: `start`, then the targets before it.

    Args:
        targets_BT: tokens; -100, which carries no loss, is read as padding.
        start, padding: the model's, as in its config.
    """
    check_kind("targets", targets_BT, Tensor, "a tensor of tokens, [batch, tokens]")
    if targets_BT.ndim != 2 or not targets_BT.numel():
        raise ValueError(
            f"targets of shape {tuple(targets_BT.shape)} must be [batch, tokens] with at least "
            "one each"
        )
    start_B1 = torch.full_like(targets_BT[:, :1], start)
    shifted_BT = torch.cat((start_B1, targets_BT[:, :-1]), dim=1)
    return shifted_BT.masked_fill(shifted_BT == IGNORE, padding)


def translation_loss(model: EncoderDecoder, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy in nats per target token, for `train(..., loss=translation_loss)`.

    Args:
        batch: source tokens [B, S] and targets [B, T], both as they are: the shift is made here.
            Targets of -100 carry no loss.

    Raises:
        ValueError: a target outside the vocabulary, and what `EncoderDecoder.forward` says.
    """
    source_BS, targets_BT = batch
    config = model.config
    shifted_BT = shift_right(targets_BT, start=config.start, padding=config.padding)
    logits_BTV = model(source_BS, shifted_BT)
    try:
        return F.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets_BT.flatten().long(), ignore_index=IGNORE
        )
    except IndexError as error:  # found out here, for a GPU's targets must not be read
        raise ValueError(f"targets in a batch, for {config.vocabulary_size} logits: {error}") from (
            None
        )


def _check_mask(field: str, mask: Tensor, shape: tuple[int, ...]) -> None:
    check_kind(field, mask, Tensor, "a tensor of booleans, [batch, tokens]")
    if mask.dtype != torch.bool or tuple(mask.shape) != shape:
        raise ValueError(
            f"{field} of shape {tuple(mask.shape)} and type {mask.dtype} must have the source's "
            f"shape {shape} and type torch.bool, True where a token counts"
        )


def _check_symbols(field: str, tokens_BT: Tensor, vocabulary_size: int) -> None:
    """Raise ValueError where a token is no symbol of the vocabulary."""
    lowest, highest = (int(end) for end in torch.aminmax(tokens_BT))
    if lowest < 0 or highest >= vocabulary_size:
        outside = lowest if lowest < 0 else highest
        raise ValueError(f"{field}: token {outside} is outside vocabulary_size={vocabulary_size}")
