from __future__ import annotations

import pytest
import torch
from small import EncoderLM, Source, gpt, same_weights, weights
from torch import nn

from sbldlib.methods import uniform
from sbldlib.methods.pilot import run_pilot
from sbldlib.records import PilotData
from sbldlib.training.callbacks import Callback
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

CONFIG = TrainConfig(budget=Budget(steps=6))


def pilot(saving: float = 0.5, *, make_model=None, seeds=(3, 8), config=CONFIG, **arguments):
    return run_pilot(
        make_model or (lambda seed: gpt(seed=seed)),
        lambda seed: Source(seed),
        make_optimizer,
        lambda model, seed: uniform(model, saving=saving, seed=seed),
        seeds=seeds,
        config=config,
        **arguments,
    )


def test_each_arm_is_the_run_it_says_it_is():
    told = []
    found = pilot(on_run=told.append)
    realised = []
    for pair, seed in enumerate((3, 8)):
        base_model, drop_model = gpt(seed=seed), gpt(seed=seed)
        base = train(base_model, Source(seed), make_optimizer(base_model), config=CONFIG)
        drop = train(
            drop_model,
            Source(seed),
            make_optimizer(drop_model),
            config=CONFIG,
            callbacks=[uniform(drop_model, saving=0.5, seed=seed)],
        )
        assert found.baseline_losses[pair] == base.losses
        assert found.dropping_losses[pair] == drop.losses
        realised.append(drop.realised_drop)
    assert isinstance(found, PilotData)
    assert (found.seeds, found.num_iterations) == ((3, 8), 6)
    assert found.mean_keep == pytest.approx(1 - sum(realised) / 2)
    assert 0 < found.mean_keep < 1 and found.seconds > 0
    assert told == [f"pilot {arm}, seed {s}" for s in (3, 8) for arm in ("baseline", "dropping")]
    assert PilotData.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    "make_model",
    [
        lambda seed: gpt(seed=seed),
        lambda seed: gpt(seed=seed, dropout=0.3),
        lambda seed: EncoderLM(seed=seed, dropout=0.3),
        lambda seed: torch.nn.Sequential(
            torch.nn.Embedding(32, 16), Blocks(), torch.nn.Linear(16, 32)
        ),
    ],
    ids=["plain", "dropout", "torch's dropout", "weights from torch's own state"],
)
def test_without_dropping_both_arms_are_bit_equal(make_model):
    found = pilot(0.0, make_model=make_model)
    assert found.baseline_losses == found.dropping_losses
    assert found.baseline_losses[0] != found.baseline_losses[1]
    assert found.mean_keep == 1.0


class Blocks(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            *(nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True) for _ in range(2))
        )


def test_torchs_random_state_is_neither_moved_nor_heeded():
    state = torch.get_rng_state()
    found = pilot(make_model=lambda seed: gpt(seed=seed, dropout=0.3))
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        again = pilot(make_model=lambda seed: gpt(seed=seed, dropout=0.3))
    assert again.dropping_losses == found.dropping_losses


def test_models_are_new_for_every_run():
    made = []

    def make_model(seed: int):
        made.append((seed, gpt(seed=seed)))
        return made[-1][1]

    steps = []
    pilot(make_model=make_model, on_step=steps.append)
    assert [seed for seed, _ in made] == [3, 3, 8, 8] and len(steps) == 4 * 6
    assert not same_weights(made[0][1], weights(made[1][1]))


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_must_be_different_ones(seeds):
    with pytest.raises(ValueError, match=r"seeds=\(.*\) must be one or more different seeds"):
        pilot(seeds=seeds)


@pytest.mark.parametrize("budget", [Budget(flops=1e6), Budget(seconds=1.0)])
def test_a_budget_of_unequal_steps_is_refused_before_any_work(budget):
    def make_model(seed: int):
        raise AssertionError("work began")

    with pytest.raises(ValueError, match="must be steps or tokens"):
        pilot(make_model=make_model, config=TrainConfig(budget=budget))


def test_a_dropping_arm_may_be_any_callback():
    found = run_pilot(
        lambda seed: gpt(seed=seed),
        Source,
        make_optimizer,
        lambda model, seed: Callback(),
        seeds=[0],
        config=CONFIG,
    )
    assert found.baseline_losses == found.dropping_losses
