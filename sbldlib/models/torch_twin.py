"""torch.nn's own modules with our weights: what the parts written out are held against.

Legend: B batch, S source tokens, T target tokens, D width, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import shown
from .encoder_decoder import EncoderDecoder
from .from_scratch import DecoderBlock, EncoderBlock, LayerNorm, MultiHeadAttention

_LAYERS = {EncoderBlock: nn.TransformerEncoderLayer, DecoderBlock: nn.TransformerDecoderLayer}


@torch.no_grad()
def torch_twin(module: nn.Module) -> nn.Module:
    """The module of torch.nn that computes what this one does, with a copy of its weights.

    In evaluation mode; torch's own random state is neither read nor moved.

    Args:
        module: `from_scratch`'s LayerNorm, MultiHeadAttention, EncoderBlock or DecoderBlock (twins
            read [batch, tokens, width], and their masks are torch's), or an EncoderDecoder, whose
            twin is a `TorchEncoderDecoder`.

    Raises:
        ValueError: a module of another kind.
    """
    if isinstance(module, LayerNorm):
        twin = _new(nn.LayerNorm, len(module.weight), eps=module.epsilon)
        _copy(twin, module)
    elif isinstance(module, MultiHeadAttention):
        width = len(module.output.bias)
        twin = _new(nn.MultiheadAttention, width, module.num_heads, batch_first=True)
        _copy_attention(twin, module)
    elif isinstance(module, (EncoderBlock, DecoderBlock)):
        hidden = module.feed_forward.hidden.weight
        twin = _new(
            _LAYERS[type(module)], hidden.shape[1], module.attention.num_heads, hidden.shape[0],
            dropout=0.0, batch_first=True, norm_first=module.norm == "pre",
            layer_norm_eps=module.norm1.epsilon,
        )  # fmt: skip
        _copy_block(twin, module)
    elif isinstance(module, EncoderDecoder):
        twin = TorchEncoderDecoder(module)
    else:
        raise ValueError(
            f"module={shown(module)} has no twin; LayerNorm, MultiHeadAttention, EncoderBlock, "
            "DecoderBlock and EncoderDecoder have"
        )
    return twin.eval()


class TorchEncoderDecoder(nn.Module):
    """torch.nn.Transformer between an EncoderDecoder's embedding and its head, copied from it."""

    positions_TD: Tensor

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.config = model.config
        self.embedding = nn.Embedding.from_pretrained(model.embedding.weight.detach().clone())
        self.register_buffer("positions_TD", model.positions_TD.clone())
        self.transformer = _new(_build_transformer, model)
        for ours, theirs in (
            (model.encoder, self.transformer.encoder),
            (model.decoder, self.transformer.decoder),
        ):
            for block, layer in zip(ours.blocks, theirs.layers, strict=True):
                _copy_block(layer, block)
            if theirs.norm is not None:
                _copy(theirs.norm, ours.final_norm)

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Logits of the token after each target token, [B, T, V]; as `EncoderDecoder.forward`."""
        size = target_BT.shape[1]
        is_padding_BS = source_BS == self.config.padding
        x_BTD = self.transformer(
            self._embed(source_BS),
            self._embed(target_BT),
            tgt_mask=torch.ones(size, size, dtype=torch.bool, device=target_BT.device).triu(1),
            src_key_padding_mask=is_padding_BS,
            memory_key_padding_mask=is_padding_BS,
        )
        return F.linear(x_BTD, self.embedding.weight)

    def _embed(self, tokens_BT: Tensor) -> Tensor:
        scaled_BTD = self.embedding(tokens_BT) * self.config.width**0.5
        return scaled_BTD + self.positions_TD[: tokens_BT.shape[1]]


def _new(make: Callable[..., Any], *sizes: Any, **settings: Any) -> Any:
    """A module without weights drawn: on "meta" nothing is, and then it is empty memory."""
    with torch.device("meta"):
        module = make(*sizes, **settings)
    return module.to_empty(device="cpu")


def _build_transformer(model: EncoderDecoder) -> nn.Transformer:
    """torch's model of the same size; a last norm after pre-norm blocks alone, as in 2017."""
    config = model.config
    is_pre_norm = config.norm == "pre"
    settings: dict[str, Any] = {
        "d_model": config.width, "nhead": config.num_heads,
        "dim_feedforward": config.hidden_width, "dropout": 0.0, "activation": config.activation,
        "batch_first": True, "norm_first": is_pre_norm, "bias": config.bias,
    }  # fmt: skip
    norms = [
        nn.LayerNorm(config.width, bias=config.bias) if is_pre_norm else None for _ in range(2)
    ]
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**settings), config.num_encoder_layers, norms[0],
        enable_nested_tensor=False,
    )  # fmt: skip
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(**settings), config.num_decoder_layers, norms[1]
    )
    return nn.Transformer(
        config.width, config.num_heads, custom_encoder=encoder, custom_decoder=decoder,
        batch_first=True,
    )  # fmt: skip


def _copy_block(layer: Any, block: Any) -> None:
    """One block's weights; torch's names on the left."""
    _copy_attention(layer.self_attn, block.attention)
    if hasattr(block, "cross_attention"):
        _copy_attention(layer.multihead_attn, block.cross_attention)
        _copy(layer.norm3, block.norm3)
    _copy(layer.linear1, block.feed_forward.hidden)
    _copy(layer.linear2, block.feed_forward.output)
    _copy(layer.norm1, block.norm1)
    _copy(layer.norm2, block.norm2)


def _copy_attention(theirs: Any, ours: Any) -> None:
    """torch keeps the maps to queries, keys and values in one."""
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    if theirs.in_proj_bias is not None:
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    _copy(theirs.out_proj, ours.output)


def _copy(theirs: Any, ours: Any) -> None:
    theirs.weight.copy_(ours.weight)
    if theirs.bias is not None:
        theirs.bias.copy_(ours.bias)
