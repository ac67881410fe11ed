"""What holds for every method alike."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import EncoderLM, Source, gpt

from sbldlib.dropping.plan import MODES
from sbldlib.dropping.skipping import attach
from sbldlib.methods import METHODS, LayerDropping, make_method
from sbldlib.records import RunRecord, SensitivityData
from sbldlib.training.callbacks import StepContext
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

NUM_LAYERS = 8
SENSITIVITY = SensitivityData(
    values=(0.9, 0.1, 0.3, 0.02, 0.4, 0.05, 0.2, 0.7), standard_errors=(0.01,) * NUM_LAYERS
)
SAVES = [name for name in METHODS if name != "none"]


def method_on(model, name: str, **options) -> LayerDropping:
    return make_method(name, model, sensitivity_data=SENSITIVITY, **options)


def contexts(model, num_steps: int):
    for step in range(num_steps):
        yield StepContext(
            step=step, num_steps=num_steps, progress=step / max(1, num_steps - 1), model=model
        )


def keep_over_a_run(method: LayerDropping, model, num_steps: int) -> list[tuple[float, ...]]:
    """The keep probabilities of every step, without training."""
    kept = []
    for context in contexts(model, num_steps):
        method.before_step(context)
        kept.append(context.keep_probability)
    return kept


def mean_drop(kept: list[tuple[float, ...]]) -> float:
    return 1 - math.fsum(math.fsum(keep) for keep in kept) / (len(kept) * len(kept[0]))


@pytest.mark.parametrize("name", SAVES)
@settings(max_examples=25)
@given(saving=st.floats(0, 0.35), num_steps=st.integers(20, 120))
def test_the_mean_drop_over_a_run_is_the_asked_saving(name, saving, num_steps):
    model = gpt(NUM_LAYERS)
    kept = keep_over_a_run(method_on(model, name, saving=saving), model, num_steps)
    assert all(0 < keep <= 1 for step in kept for keep in step)
    assert mean_drop(kept) == pytest.approx(saving, abs=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", METHODS)
def test_what_is_dropped_keeps_to_its_probabilities(name, mode):
    model, num_steps = gpt(NUM_LAYERS), 500
    method = method_on(model, name, saving=0.25, seed=11, mode=mode)
    dropped, expected, variance = [0] * NUM_LAYERS, [0.0] * NUM_LAYERS, [0.0] * NUM_LAYERS
    for context in contexts(model, num_steps):
        method.before_step(context)
        count = 0
        for layer, keep in enumerate(context.keep_probability):
            is_dropped = layer in attach(model).dropped
            count += is_dropped
            dropped[layer] += is_dropped
            expected[layer] += 1 - keep
            variance[layer] += keep * (1 - keep)
        if mode == "fixed_count":
            assert abs(count - (NUM_LAYERS - sum(context.keep_probability))) < 1
    for layer in range(NUM_LAYERS):
        assert abs(dropped[layer] - expected[layer]) <= 4 * math.sqrt(variance[layer]), layer
    if name == "none":
        assert dropped == [0] * NUM_LAYERS


@pytest.mark.parametrize("make_model", [gpt, EncoderLM])
@pytest.mark.parametrize("name", METHODS)
def test_a_run_drops_what_was_drawn_and_its_record_is_whole(name, make_model):
    def once() -> RunRecord:
        model = make_model(NUM_LAYERS)
        return train(
            model,
            Source(),
            make_optimizer(model),
            config=TrainConfig(budget=Budget(steps=12)),
            callbacks=[method_on(model, name, saving=0.25, seed=2)],
        )

    record = once()
    assert record.losses == once().losses
    assert RunRecord.from_json(record.to_json()).steps == record.steps
    described = record.configuration["callbacks"][0]
    assert (described["method"], described["seed"]) == (name, 2)
    assert (record.realised_drop > 0) == (name != "none")
    assert all(len(step.keep_probability) == NUM_LAYERS for step in record)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_the_same_plan_whatever_the_model_and_whenever_it_is_made(name):
    def plan(model) -> list[frozenset[int]]:
        method, drawn = method_on(model, name, saving=0.25, seed=5), []
        for context in contexts(model, 30):
            method.before_step(context)
            drawn.append(attach(model).dropped)
        return drawn

    assert plan(gpt(NUM_LAYERS)) == plan(EncoderLM(NUM_LAYERS))


def test_another_seed_gives_another_plan():
    def plan(seed: int) -> list[frozenset[int]]:
        model, drawn = gpt(NUM_LAYERS), []
        method = method_on(model, "uniform", saving=0.5, seed=seed)
        for context in contexts(model, 30):
            method.before_step(context)
            drawn.append(attach(model).dropped)
        return drawn

    assert plan(0) != plan(1)


def test_layers_run_at_their_own_rates():
    rates = {"uniform": (0.7,) * 8, "linear": tuple(1 - depth / 15 for depth in range(1, 9))}
    for name, keep in rates.items():
        saving = 0.3 if name == "uniform" else 4.5 / 15
        method = method_on(gpt(NUM_LAYERS), name, saving=saving)
        assert method.keep_probability(0.0) == pytest.approx(keep, abs=1e-12)
        assert method.keep_probability(1.0) == pytest.approx(keep, abs=1e-12)


@pytest.mark.parametrize("saving", [0.1, 0.3, 0.5])
def test_linear_has_the_published_p_max(saving):
    method = method_on(gpt(NUM_LAYERS), "linear", saving=saving)
    p_max = 2 * NUM_LAYERS / (NUM_LAYERS + 1) * saving
    expected = [1 - (layer + 1) / NUM_LAYERS * p_max for layer in range(NUM_LAYERS)]
    assert p_max <= 0.9 and method.keep_probability(0.5) == pytest.approx(expected, abs=1e-12)


def test_linear_above_its_cap_keeps_the_mean():
    keep = method_on(gpt(NUM_LAYERS), "linear", saving=0.7).keep_probability(0.5)
    assert min(keep) == pytest.approx(0.1) and sum(keep) / NUM_LAYERS == pytest.approx(0.3)
    assert list(keep) == sorted(keep, reverse=True)


# ---------------------------------------------------------------- what is refused


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ValueError, match=r"method='unifrom' .*did you mean 'uniform'"):
        make_method("unifrom", gpt())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("saving", [-0.1, 1.0, math.nan, "much"])
def test_a_saving_out_of_range_is_named(name, saving):
    with pytest.raises(ValueError, match="saving="):
        method_on(gpt(NUM_LAYERS), name, saving=saving)


@pytest.mark.parametrize("name", SAVES)
def test_a_saving_that_cannot_be_held_names_both_numbers(name):
    with pytest.raises(ValueError, match=r"(mean_keep=0.05|saving=0.95) .*\d"):
        method_on(gpt(NUM_LAYERS), name, saving=0.95)


@pytest.mark.parametrize("name", SAVES)
def test_an_unknown_mode_names_the_nearest(name):
    with pytest.raises(ValueError, match=r"mode='fixed' .*'fixed_count'"):
        method_on(gpt(NUM_LAYERS), name, mode="fixed")


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_must_be_a_whole_number(name):
    with pytest.raises(ValueError, match="seed=-1"):
        method_on(gpt(NUM_LAYERS), name, seed=-1)


def test_sbld_says_what_it_needs():
    with pytest.raises(ValueError, match="'sbld' needs sensitivity_data"):
        make_method("sbld", gpt())
    with pytest.raises(ValueError, match="sensitivity_data is for 8 layers, the model has 4"):
        method_on(gpt(4), "sbld")
