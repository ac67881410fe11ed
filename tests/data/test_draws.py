from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from sbldlib.data.draws import Draws


def test_the_stream_is_the_same_on_every_machine():
    assert Draws("tokens", 0).integers(1000, 4).tolist() == [931, 903, 186, 990]
    draws = Draws("tokens", 7, 1, 2, 3)
    assert [draws.below(10) for _ in range(6)] == [6, 5, 7, 2, 0, 6]


def test_every_argument_makes_another_stream():
    arguments = [("a", 0), ("b", 0), ("a", 1), ("a", 0, 1), ("a", 0, 0, 1), ("a", 0, 0, 0, 1)]
    streams = [tuple(Draws(*each).integers(2**40, 8)) for each in arguments]
    assert len(set(streams)) == len(arguments)


def test_numbers_are_uniform_below_their_bound():
    counts = np.bincount(Draws("uniform", 3).integers(7, 70_000), minlength=7)
    assert np.abs(counts - 10_000).max() < 5 * np.sqrt(10_000)


def test_global_random_state_is_not_touched():
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    Draws("a", 0).integers(10, 10)
    Draws("a", 0).below(10)
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, True])
def test_a_seed_that_is_no_word_is_named(seed):
    with pytest.raises(ValueError, match="seed="):
        Draws("a", seed)


def test_the_largest_seed_and_counter_work():
    assert Draws("a", 2**64 - 1, 2**64 - 1).below(5) in range(5)
