"""Tiny models of every architecture that layer dropping is promised for, with random weights.

Legend: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from small import EncoderLM, gpt
from torch import Tensor, nn

V, T, LAYERS = 32, 6, 4

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": LAYERS,
}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A model to drop layers of.

    Attributes:
        build: the model, its weights drawn from torch's global state.
        names: paths of its blocks, in layer order.
        images: whether it takes images instead of tokens.
    """

    build: Callable[[], nn.Module]
    names: tuple[str, ...]
    images: bool = False

    def model(self, seed: int = 0) -> nn.Module:
        """A model with weights drawn from the seed, large enough that each block matters."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = self.build()
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    nn.init.normal_(parameter, std=0.3)
        return model

    def inputs(self, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.images:
            return torch.randn(2, 3, 16, 16, generator=generator)
        return torch.randint(3, V, (2, T), generator=generator)


def transformers() -> Any:
    return pytest.importorskip("transformers", reason="the interop extra brings transformers")


def gpt2() -> nn.Module:
    library = transformers()
    config = library.GPT2Config(
        vocab_size=V,
        n_positions=16,
        n_layer=LAYERS,
        n_head=2,
        n_embd=16,
        bos_token_id=None,
        eos_token_id=None,
    )
    return library.GPT2LMHeadModel(config)


def bert() -> nn.Module:
    library = transformers()
    return library.BertForMaskedLM(
        library.BertConfig(vocab_size=V, max_position_embeddings=16, **SIZES)
    )


def vit() -> nn.Module:
    library = transformers()
    sizes = {**SIZES, "hidden_dropout_prob": 0.1}
    return library.ViTForImageClassification(
        library.ViTConfig(image_size=16, patch_size=8, **sizes)
    )


def llama() -> nn.Module:
    library = transformers()
    config = library.LlamaConfig(
        vocab_size=V,
        num_key_value_heads=1,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        attention_dropout=0.1,
        **SIZES,
    )
    return library.LlamaForCausalLM(config)


def swinv2() -> nn.Module:
    library = transformers()
    config = library.Swinv2Config(
        image_size=16,
        patch_size=2,
        embed_dim=8,
        depths=[2, 2],
        num_heads=[1, 2],
        window_size=4,
        hidden_dropout_prob=0.1,
    )
    return library.Swinv2ForImageClassification(config)


def timm_vit() -> nn.Module:
    reason = "timm needs torchvision, which has no build for a CPU alone on PyPI"
    models = pytest.importorskip("timm.models", reason=reason, exc_type=ImportError)
    return models.VisionTransformer(
        img_size=16,
        patch_size=8,
        embed_dim=16,
        depth=LAYERS,
        num_heads=2,
        num_classes=3,
        proj_drop_rate=0.1,
    )


def numbered(*lists: str, size: int = LAYERS) -> tuple[str, ...]:
    return tuple(f"{name}.{layer}" for name in lists for layer in range(size))


PEERS = {
    "ours": Peer(build=lambda: gpt(LAYERS, dropout=0.1), names=numbered("blocks")),
    "torch TransformerEncoder": Peer(
        build=lambda: EncoderLM(LAYERS, dropout=0.1), names=numbered("encoder.layers")
    ),
    "GPT-2": Peer(build=gpt2, names=numbered("transformer.h")),
    "BERT": Peer(build=bert, names=numbered("bert.encoder.layer")),
    "ViT": Peer(build=vit, names=numbered("vit.layers"), images=True),
    "Llama": Peer(build=llama, names=numbered("model.layers")),
    "SwinV2": Peer(
        build=swinv2,
        names=numbered("swinv2.encoder.layers.0.blocks", "swinv2.encoder.layers.1.blocks", size=2),
        images=True,
    ),
    "timm ViT": Peer(build=timm_vit, names=numbered("blocks"), images=True),
}
