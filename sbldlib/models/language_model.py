"""What the kit's models share: sizes by name, whole files; and for GPTs tokens and first weights.

Legend: B batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..errors import check_choice, unknown_name
from . import files, generation

Model = TypeVar("Model", bound="NamedModel")


class NamedModel(nn.Module):
    """A model that is made from a configuration and a seed, by name or from its own files.

    Attributes:
        config_class: of the configuration, a dataclass.
        presets: the named sizes.
    """

    config_class: ClassVar[type]
    presets: ClassVar[Mapping[str, Any]]
    config: Any

    @classmethod
    def from_preset(cls: type[Model], name: str, seed: int = 0, **changes: Any) -> Model:
        """A model of a named size, one of its `presets`.

        Args:
            name: such as "tiny".
            seed: of the initial weights.
            changes: fields of the configuration that differ from the preset's.

        Raises:
            ValueError: an unknown name or field (the nearest is suggested), or a bad value.
        """
        check_choice("preset", name, cls.presets)
        known = [field.name for field in fields(cls.config_class)]
        for field in changes:
            if field not in known:
                raise unknown_name("changes", field, known)
        return cls(replace(cls.presets[name], **changes), seed)

    def num_parameters(self, *, embeddings: bool = True) -> int:
        """Number of weights; a tied head counts once, as an embedding.

        Args:
            embeddings: whether the tables of tokens, positions and segments are counted.
        """
        tables = (part.weight for part in self.modules() if isinstance(part, nn.Embedding))
        without = 0 if embeddings else sum(table.numel() for table in tables)
        return sum(parameter.numel() for parameter in self.parameters()) - without

    def save(self, folder: str | Path) -> Path:
        """Write model.safetensors and config.json into `folder`, each whole or not at all."""
        return files.save_model(folder, asdict(self.config), self.state_dict())

    @classmethod
    def load(cls: type[Model], folder: str | Path) -> Model:
        """The model that `save` wrote, with its weights' types, on the CPU.

        Raises:
            ValueError: files that are missing, damaged, or disagree with each other.
        """
        config, weights = files.load_model(folder)
        known = {field.name for field in fields(cls.config_class)}
        if odd := sorted(config.keys() ^ known):
            raise ValueError(f"{files.CONFIG}: fields {odd} are missing or unknown")
        with torch.device("meta"):
            model = cls(cls.config_class(**config))
        files.check_shapes(model.state_dict(), weights)
        model.load_state_dict(weights, assign=True)
        model._fill_buffers()
        return model

    def _fill_buffers(self) -> None:
        """Compute what is no weight and in no file; most models have nothing of the kind."""


class LanguageModel(NamedModel):
    """Learned embeddings of tokens and positions, a body, and the token embedding as its head.

    A subclass builds `token_embedding`, `position_embedding`, `embedding_dropout` and the body; its
    configuration has vocabulary_size, context_length, num_layers and init_std.
    """

    token_embedding: nn.Embedding
    position_embedding: nn.Embedding
    embedding_dropout: nn.Module

    def _embed(self, tokens_BT: Tensor, start: int = 0) -> Tensor:
        """Embeddings of tokens whose first stands at position `start`."""
        if not isinstance(tokens_BT, Tensor) or tokens_BT.ndim != 2 or not tokens_BT.numel():
            generation.check_tokens(tokens_BT, self.config.vocabulary_size)
        end = start + tokens_BT.shape[1]
        if end > self.config.context_length:
            raise ValueError(f"{end} tokens exceed context_length={self.config.context_length}")
        try:
            token_BTD = self.token_embedding(tokens_BT)
        except (IndexError, RuntimeError):  # found out here, for a GPU's tokens must not be read
            generation.check_tokens(tokens_BT, self.config.vocabulary_size)
            raise
        return self.embedding_dropout(token_BTD + self.position_embedding.weight[start:end])

    @torch.no_grad()
    def _draw_weights(self, seed: int) -> None:
        """Normal weights, narrower where a block writes to the residual stream."""
        if self.token_embedding.weight.is_meta:
            return
        generator = torch.Generator().manual_seed(seed)
        for name, module in self.named_modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, (nn.Linear, nn.Embedding)):
                std = self._initial_std(name, module)
                drawn = torch.empty(module.weight.shape, dtype=torch.float32, device="cpu")
                module.weight.copy_(drawn.normal_(0.0, std, generator=generator))
                if isinstance(module, nn.Linear) and module.bias is not None:
                    module.bias.zero_()

    def _initial_std(self, name: str, _module: nn.Module) -> float:
        """Standard deviation of the initial weights of the part of this name."""
        is_written_to_the_stream = name.endswith(".output")
        scale = (2 * self.config.num_layers) ** -0.5 if is_written_to_the_stream else 1.0
        return self.config.init_std * scale
