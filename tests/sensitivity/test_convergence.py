"""What training without a layer ends with: pairs from one seed, and a checkpoint left alone."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from small import Source, gpt, random_batches, same_weights, weights

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import evaluate_loss
from sbldlib.sensitivity import convergence_sensitivities
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

SHORT = TrainConfig(budget=Budget(steps=3))


def train_briefly(model, seed):
    train(model, Source(seed), make_optimizer(model), config=SHORT)


def test_is_the_loss_gap_after_training_without_each_layer():
    model = gpt(num_layers=3)
    held_out = [Source(9).batch(step) for step in range(2)]
    before, state = weights(model), torch.get_rng_state()
    found = convergence_sensitivities(
        model, train_briefly, batches=held_out, seeds=(1, 2), iteration=5
    )
    assert same_weights(model, before) and torch.equal(torch.get_rng_state(), state)
    assert attach(model).skipped == set() and not model.blocks[0].mlp.hidden.weight.grad

    def end_loss(seed, off):
        copy = gpt(num_layers=3)
        copy.load_state_dict(before)
        with skip_layers(copy, off):
            train_briefly(copy, seed)
            return evaluate_loss(copy, held_out)

    for layer in range(3):
        gaps = [end_loss(seed, {layer}) - end_loss(seed, set()) for seed in (1, 2)]
        assert found.samples[layer] == pytest.approx(gaps, abs=1e-6)
        assert found.standard_errors[layer] == pytest.approx(stats.sem(gaps), abs=1e-6)
        assert abs(found.values[layer]) > 1e-4
    assert (found.method, found.unit) == ("convergence", "nats per token after training")
    assert (found.num_batches, found.iteration) == (2, 5)


def test_every_run_starts_from_the_same_weights_with_one_layer_off():
    model, seen = gpt(num_layers=3), []

    def watch(copy, seed):
        assert copy is not model and same_weights(copy, weights(model))
        seen.append((seed, sorted(attach(copy).skipped), float(torch.rand(()))))
        with torch.no_grad():
            copy.blocks[1].mlp.output.weight.mul_(2)

    found = convergence_sensitivities(model, watch, batches=random_batches(2), seeds=(4, 6))
    assert [(s, off) for s, off, _ in seen] == [(s, o) for s in (4, 6) for o in ([], [0], [1], [2])]
    drawn = {seed: {noise for s, _, noise in seen if s == seed} for seed in (4, 6)}
    assert all(len(noises) == 1 for noises in drawn.values()) and drawn[4] != drawn[6]
    assert found.samples[1][0] == found.samples[1][1]


def test_a_loop_that_runs_full_depth_again_does_not_hide_the_layer():
    def undo(copy, seed):
        attach(copy).set_skipped(())

    found = convergence_sensitivities(gpt(), undo, batches=random_batches(2), seeds=(0, 1))
    assert all(abs(value) > 1e-4 for value in found.values)


@pytest.mark.parametrize("seeds", [(), (3,), (3, 3)])
def test_one_seed_gives_no_standard_error(seeds):
    with pytest.raises(ValueError, match=r"seeds=.* must be two or more different seeds"):
        convergence_sensitivities(gpt(), train_briefly, batches=random_batches(2), seeds=seeds)


def test_training_that_ends_without_a_number_says_where():
    def spoil(copy, seed):
        if attach(copy).skipped == {1}:
            with torch.no_grad():
                copy.final_norm.weight.fill_(float("nan"))

    with pytest.raises(ValueError, match=r"loss=nan after training without \[1\] from seed 0"):
        convergence_sensitivities(gpt(), spoil, batches=random_batches(2), seeds=(0, 1))
