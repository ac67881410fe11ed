from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from small import EncoderLM, Source, gpt, same_weights, weights
from torch import nn

from sbldlib.dropping.schedules import linear as linear_schedule
from sbldlib.methods import sbld, uniform
from sbldlib.methods.pilot import run_pilot
from sbldlib.records import PilotData, SensitivityData
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
    realised, flops = [], 0.0
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
        flops += sum(step.flops for run in (base, drop) for step in run)
    assert isinstance(found, PilotData)
    assert (found.seeds, found.num_iterations) == ((3, 8), 6)
    assert found.mean_keep == pytest.approx(1 - sum(realised) / 2)
    assert 0 < found.mean_keep < 1 and found.seconds > 0
    assert found.flops == pytest.approx(flops) and found.num_steps == 4 * 6
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


class Killed(BaseException):
    """What no `except Exception` holds up, as a kill would."""


def killed_after(num_steps: int):
    steps = []

    def on_step(record) -> None:
        steps.append(record)
        if len(steps) == num_steps:
            raise Killed

    return on_step


def test_a_killed_pilot_goes_on_run_by_run_and_gives_the_same(tmp_path):
    told = []
    with pytest.raises(Killed):  # in the middle of the third run of four
        pilot(folder=tmp_path, key="small", on_run=told.append, on_step=killed_after(2 * 6 + 3))
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert kept == ["baseline-3.json", "uniform-3.json"] and len(told) == 3
    before = [json.loads((tmp_path / name).read_text()) for name in kept]

    told.clear()
    found = pilot(folder=tmp_path, key="small", on_run=told.append)
    assert told == ["pilot baseline, seed 8", "pilot dropping, seed 8"]
    plain = pilot()
    assert replace(found, seconds=plain.seconds) == plain  # bit for bit, the clock apart
    assert found.seconds > sum(run["seconds"] for run in before) > 0

    steps = []
    assert pilot(folder=tmp_path, key="small", on_step=steps.append) == found and not steps
    assert not list(tmp_path.glob(".*"))


class Renamed(Callback):
    """A callback that keeps its runs where uniform keeps them."""

    def describe(self):
        return {**super().describe(), "method": "uniform"}


def test_more_pairs_train_what_is_new_alone(tmp_path):
    told = []
    few = pilot(seeds=(3,), folder=tmp_path, key="small")
    more = pilot(seeds=(8, 3), folder=tmp_path, key="small", on_run=told.append)
    assert told == ["pilot baseline, seed 8", "pilot dropping, seed 8"]
    assert more.seeds == (8, 3) and more.dropping_losses[1] == few.dropping_losses[0]


def test_methods_share_their_baselines_in_one_folder(tmp_path):
    told = []
    shared = {"seeds": (3,), "folder": tmp_path, "key": "small", "on_run": told.append}
    found = pilot(**shared)
    spared = run_pilot(
        lambda seed: gpt(seed=seed), Source, make_optimizer, sensitive(4, 3, 2, 1),
        config=CONFIG, **shared,
    )  # fmt: skip
    bare = run_pilot(
        lambda seed: gpt(seed=seed), Source, make_optimizer, lambda model, seed: Callback(),
        config=CONFIG, **shared,
    )  # fmt: skip
    assert told == ["pilot baseline, seed 3"] + ["pilot dropping, seed 3"] * 3
    assert spared.baseline_losses == found.baseline_losses == bare.dropping_losses
    assert spared.dropping_losses != found.dropping_losses
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {f"{name}-3.json" for name in ("baseline", "uniform", "sbld", "dropping")}


def sensitive(*values: float, scheduler=None):
    data = SensitivityData(values=values, standard_errors=(0.0,) * 4)
    scheduler = scheduler or linear_schedule(0.7, 0.5)
    return lambda model, seed: sbld(model, data, scheduler=scheduler, seed=seed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": TrainConfig(budget=Budget(steps=7))}, r"config.budget.steps=7 is asked for"),
        ({"key": "other"}, r'key="other" is asked for, but .* is of key="small"'),
        ({"saving": 0.25}, r"dropping.saving=0.25 is asked for, .* of dropping.saving=0.5"),
        ({"rate": 1e-4}, r"optimizer.groups=\[.*0.0001"),
        ({"dropping": Renamed()}, r'dropping.callback="Renamed" is asked for, .*=nothing'),
    ],
    ids=["config", "key", "dropping", "optimizer", "method"],
)
def test_a_run_of_other_settings_is_refused_by_the_fields_name(change, message, tmp_path):
    pilot(seeds=(3,), folder=tmp_path, key="small")
    asked = {"saving": 0.5, "config": CONFIG, "key": "small", "rate": None, **change}
    rate = {} if asked["rate"] is None else {"learning_rate": asked["rate"]}

    def again():
        return run_pilot(
            lambda seed: gpt(seed=seed),
            Source,
            lambda model: make_optimizer(model, **rate),
            lambda model, seed: (
                asked.get("dropping") or uniform(model, saving=asked["saving"], seed=seed)
            ),
            seeds=(3,),
            config=asked["config"],
            folder=tmp_path,
            key=asked["key"],
        )

    with pytest.raises(ValueError, match=message + ".*delete the file"):
        again()


def test_schedules_and_sensitivities_that_share_a_description_are_told_apart(tmp_path):
    def found(make_dropping):
        return run_pilot(
            lambda seed: gpt(seed=seed), Source, make_optimizer, make_dropping,
            seeds=(3,), config=CONFIG, folder=tmp_path, key="small",
        )  # fmt: skip

    first = found(sensitive(4, 3, 2, 1))
    assert found(sensitive(4, 3, 2, 1)) == first
    for other in (
        sensitive(4, 1, 2, 3),
        sensitive(4, 3, 2, 1, scheduler=linear_schedule(0.5, 0.7)),
    ):
        with pytest.raises(ValueError, match=r"dropping\.keep_probabilities_sha256="):
            found(other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-40], r"baseline-3.json is not a pilot's run"),
        (lambda text: "[]", r"baseline-3.json is not a pilot's run"),
        (lambda text: text.replace('"losses"', '"loss"'), "SHA-256 is not the one"),
        (lambda text: text.replace('"mean_keep": 1', '"mean_keep": 2'), "SHA-256 is not the one"),
    ],
    ids=["cut short", "another file", "a field renamed", "a digit changed"],
)
def test_a_damaged_file_is_refused_by_its_name(damage, message, tmp_path):
    pilot(seeds=(3,), folder=tmp_path, key="small")
    file = tmp_path / "baseline-3.json"
    changed = damage(file.read_text())
    assert changed != file.read_text()
    file.write_text(changed)
    with pytest.raises(ValueError, match=message + ".*delete it"):
        pilot(seeds=(3,), folder=tmp_path, key="small")


def test_a_folder_needs_a_key(tmp_path):
    with pytest.raises(ValueError, match="key='' must name the model and the data"):
        pilot(folder=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"make_model": lambda seed: "gpt"}, "model='gpt' must be a torch module"),
        ({"make_model": 3}, "make_model=3 must be a function"),
        ({"config": None}, "config=None must be a TrainConfig"),
        ({"on_step": "print"}, "on_step='print' must be a function, or None"),
        ({"seeds": ("0", "1")}, "seeds='0' must be a whole number"),
        ({"folder": ""}, "folder='' must be a path"),
    ],
)
def test_an_argument_that_is_none_is_named_before_any_training(wrong, message):
    with pytest.raises(ValueError, match=message):
        pilot(**{"on_run": lambda name: pytest.fail("training began"), **wrong})


def test_a_dropping_that_is_none_is_named():
    with pytest.raises(ValueError, match=r"make_dropping\(model, seed\)='sbld' must be a dropping"):
        run_pilot(
            lambda seed: gpt(seed=seed), Source, make_optimizer, lambda model, seed: "sbld",
            seeds=(0,), config=CONFIG,
        )  # fmt: skip
