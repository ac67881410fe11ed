"""Global random state of its own for each arm: dropout in one must not move the other's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class OwnDraws:
    """The global generators of torch, numpy and Python, as one arm left them."""

    def __init__(self, device: torch.device):
        self._device = device
        self._left = self._now()

    @contextmanager
    def here(self) -> Iterator[None]:
        """Draw from this arm's within the `with`; what was there before is there again after."""
        before = self._now()
        self._put(self._left)
        try:
            yield
        finally:
            self._left = self._now()
            self._put(before)

    def _now(self) -> tuple[Any, ...]:
        cuda = self._device.type == "cuda"
        return (
            torch.get_rng_state(),
            torch.cuda.get_rng_state(self._device) if cuda else None,
            np.random.get_state(),
            random.getstate(),
        )

    def _put(self, state: tuple[Any, ...]) -> None:
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], self._device)
        np.random.set_state(state[2])
        random.setstate(state[3])
