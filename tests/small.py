"""Small models and batches that several test files train and measure.

Legend: B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbldlib.models.gpt import GPT, GPTConfig

V, T, D = 32, 8, 16


def gpt(num_layers: int = 4, seed: int = 0, **changes) -> GPT:
    """A GPT of some thousand weights, initialised so that every layer matters."""
    settings = {"vocabulary_size": V, "context_length": T, "num_heads": 2, "width": D}
    settings |= {"num_layers": num_layers, "init_std": 0.3, **changes}
    return GPT(GPTConfig(**settings), seed=seed)


class EncoderLM(nn.Module):
    """torch's own TransformerEncoder with a causal mask: blocks that this project did not write."""

    def __init__(self, num_layers: int = 4, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(V, D)
            layer = nn.TransformerEncoderLayer(D, 2, 4 * D, dropout, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
            for parameter in self.encoder.parameters():  # torch starts all layers alike
                if parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter)
            self.head = nn.Linear(D, V)
        mask_TT = torch.full((T, T), float("-inf")).triu(1)
        self.register_buffer("mask_TT", mask_TT, persistent=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        size = tokens_BT.shape[1]
        mask_TT = self.mask_TT[:size, :size]
        return self.head(self.encoder(self.embedding(tokens_BT), mask=mask_TT))


class Source:
    """Batches that can be learnt: each next token is its token plus one. Rows differ by step."""

    def __init__(self, seed: int = 0, rows: int = 4) -> None:
        self.seed, self.rows = seed, rows

    def batch(self, step: int, micro_batch: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(10_000 * self.seed + 100 * step + micro_batch)
        starts_B1 = torch.randint(0, V, (self.rows, 1), generator=generator)
        tokens_BT = (starts_B1 + torch.arange(T + 1)) % V
        return tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()


def random_batches(num: int, rows: int = 3, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Tokens and targets without any pattern."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, V, (num, 2, rows, T), generator=generator)
    return [(tokens_BT, targets_BT) for tokens_BT, targets_BT in drawn]


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all that the model holds."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_weights(model: nn.Module, before: dict[str, Tensor]) -> bool:
    """Whether the model holds bit for bit what it held."""
    now = model.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[name], before[name]) for name in now)
