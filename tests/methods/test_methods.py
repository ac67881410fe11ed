"""What holds for every method alike, in every mode, scope and rescaling that it takes."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import EncoderLM, Source, gpt, random_batches

from sbldlib.dropping.plan import MODES
from sbldlib.dropping.skipping import attach
from sbldlib.losses import evaluate_loss
from sbldlib.measure import count_flops
from sbldlib.methods import METHODS, LayerDropping, make_method
from sbldlib.methods.base import RESCALES, SCOPES
from sbldlib.records import RunRecord, SensitivityData
from sbldlib.training.callbacks import StepContext
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

NUM_LAYERS, NUM_ROWS = 8, 4
SENSITIVITY = SensitivityData(
    values=(0.9, 0.1, 0.3, 0.02, 0.4, 0.05, 0.2, 0.7), standard_errors=(0.01,) * NUM_LAYERS
)
SAVES = [name for name in METHODS if name != "none"]


def method_on(model, name: str, **options) -> LayerDropping:
    return make_method(name, model, sensitivity_data=SENSITIVITY, **options)


def combinations():
    """(method, mode, scope, rescale): where forward runs whole, only the defaults of the last."""
    for name in METHODS:
        skips = method_on(gpt(NUM_LAYERS), name, saving=0.1).effect == "skip"
        for mode in MODES:
            for scope in SCOPES if skips else SCOPES[:1]:
                for rescale in RESCALES if skips else RESCALES[:1]:
                    yield name, mode, scope, rescale


COMBINATIONS = list(combinations())


def contexts(model, num_steps: int):
    for step in range(num_steps):
        yield StepContext(
            step=step,
            num_steps=num_steps,
            progress=step / max(1, num_steps - 1),
            model=model,
            num_rows=NUM_ROWS,
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


def dropped_of(method: LayerDropping) -> list[float]:
    """Share of the rows for which each layer is dropped, in the sense of the method's effect."""
    if method.effect == "skip":
        return [1 - share for share in method.planned.shares()[0]]
    return [float(layer in method.planned.forward_only) for layer in range(NUM_LAYERS)]


@pytest.mark.parametrize("name", SAVES)
@settings(max_examples=25)
@given(saving=st.floats(0, 0.35), num_steps=st.integers(20, 120))
def test_the_mean_drop_over_a_run_is_the_asked_saving(name, saving, num_steps):
    model = gpt(NUM_LAYERS)
    method = method_on(model, name, saving=saving)
    kept = keep_over_a_run(method, model, num_steps)
    lowest = 0 if method.effect == "freeze" else 1e-12
    assert all(lowest <= keep <= 1 for step in kept for keep in step)
    assert mean_drop(kept) == pytest.approx(saving, abs=1e-12)


@pytest.mark.parametrize("name, mode, scope, rescale", [c for c in COMBINATIONS if c[3] == "none"])
def test_what_is_dropped_keeps_to_its_probabilities(name, mode, scope, rescale):
    model, num_steps = gpt(NUM_LAYERS), 500
    draws = {"saving": 0.25, "seed": 11, "mode": mode, "scope": scope, "rescale": rescale}
    method = method_on(model, name, **draws)
    dropped, expected, variance = [0.0] * NUM_LAYERS, [0.0] * NUM_LAYERS, [0.0] * NUM_LAYERS
    for context in contexts(model, num_steps):
        method.before_step(context)
        shares = dropped_of(method)
        for layer, keep in enumerate(context.keep_probability):
            dropped[layer] += shares[layer]
            expected[layer] += 1 - keep
            variance[layer] += keep * (1 - keep)
            if keep == 1:
                assert shares[layer] == 0
        if mode == "fixed_count":
            assert abs(sum(shares) - (NUM_LAYERS - sum(context.keep_probability))) < 1
    for layer in range(NUM_LAYERS):
        # half a step: freezing rounds the one step in which a layer freezes
        bound = 4 * math.sqrt(variance[layer]) + 0.5
        assert abs(dropped[layer] - expected[layer]) <= bound, layer
    if name == "none":
        assert dropped == [0.0] * NUM_LAYERS


@pytest.mark.parametrize("name, mode, scope, rescale", COMBINATIONS)
def test_a_run_does_what_was_drawn_and_its_ledger_says_so(name, mode, scope, rescale):
    model, num_steps = gpt(NUM_LAYERS), 6
    drawn = {"seed": 2, "mode": mode, "scope": scope, "rescale": rescale}
    method = method_on(model, name, saving=0.25, **drawn)
    planned = []
    record = train(
        model,
        Source(rows=NUM_ROWS),
        make_optimizer(model),
        config=TrainConfig(budget=Budget(steps=num_steps)),
        callbacks=[method],  # whose detector holds every step against its plan
        evaluations={"loss": lambda model: evaluate_loss(model, random_batches(1))},
        on_step=lambda step: planned.append(method.planned.shares()),
    )
    counted = count_flops(gpt(NUM_LAYERS), Source(rows=NUM_ROWS).batch(0))
    for step, (forward, backward) in zip(record, planned, strict=True):
        assert step.layers_run == tuple(layer for layer, share in enumerate(forward) if share)
        assert step.num_layers_forward == pytest.approx(sum(forward))
        assert step.num_layers_backward == pytest.approx(sum(backward))
        ran = counted.of((), forward_share=forward, backward_share=backward)
        assert step.flops == pytest.approx(ran)
    drops = [1 - sum(forward) / NUM_LAYERS for forward, _ in planned]
    assert record.realised_drop == pytest.approx(sum(drops) / num_steps)
    if name != "none":
        assert record.realised_backward_drop > 0
    assert (record.realised_drop > 0) == (name != "none" and method.effect == "skip")
    assert RunRecord.from_json(record.to_json()).steps == record.steps
    described = record.configuration["callbacks"][0]
    assert {key: described[key] for key in drawn} == drawn and described["method"] == name
    assert all(len(step.keep_probability) == NUM_LAYERS for step in record)
    skipping, keep = attach(model), record.steps[-1].keep_probability
    last = {layer: k for layer, k in enumerate(keep) if k < 1} if rescale == "eval_scale" else {}
    assert skipping.evaluation_scale == last, "the last step's, and it stays"
    assert skipping.dropped == skipping.forward_only == frozenset()


@pytest.mark.parametrize("make_model", [gpt, EncoderLM])
@pytest.mark.parametrize("name", METHODS)
def test_the_same_run_twice_is_equal(name, make_model):
    def once() -> RunRecord:
        model = make_model(NUM_LAYERS)
        return train(
            model,
            Source(),
            make_optimizer(model),
            config=TrainConfig(budget=Budget(steps=8)),
            callbacks=[method_on(model, name, saving=0.25, seed=2)],
        )

    assert once().losses == once().losses


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_the_same_plan_whatever_the_model_and_whenever_it_is_made(name):
    def plan(model) -> list:
        method, drawn = method_on(model, name, saving=0.25, seed=5), []
        for context in contexts(model, 30):
            method.before_step(context)
            drawn.append(method.planned)
        return drawn

    assert plan(gpt(NUM_LAYERS)) == plan(EncoderLM(NUM_LAYERS))


@pytest.mark.parametrize("name, mode, scope, rescale", [c for c in COMBINATIONS if c[3] == "none"])
def test_a_resumed_run_and_every_rank_draw_the_whole_runs_plan(name, mode, scope, rescale):
    """A step's plan is a function of the seed and the step, whatever was drawn before."""
    draws = {"saving": 0.25, "seed": 9, "mode": mode, "scope": scope, "rescale": rescale}
    model, rank = gpt(NUM_LAYERS), gpt(NUM_LAYERS)
    whole, other = method_on(model, name, **draws), method_on(rank, name, **draws)
    plans = {}
    for context in contexts(model, 24):
        whole.before_step(context)
        plans[context.step] = whole.planned
    order = list(contexts(rank, 24))[10:]
    random.Random(0).shuffle(order)
    for context in order:
        other.before_step(context)
        assert other.planned == plans[context.step]


def test_another_seed_gives_another_plan():
    def plan(seed: int, **options) -> list:
        model, drawn = gpt(NUM_LAYERS), []
        method = method_on(model, "uniform", saving=0.5, seed=seed, **options)
        for context in contexts(model, 30):
            method.before_step(context)
            drawn.append(method.planned)
        return drawn

    assert plan(0) != plan(1)
    assert plan(0, scope="per_sequence") != plan(1, scope="per_sequence")


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
def test_unknown_draws_name_the_nearest(name):
    with pytest.raises(ValueError, match=r"scope='per_sequense' .*'per_sequence'"):
        method_on(gpt(NUM_LAYERS), name, scope="per_sequense")
    with pytest.raises(ValueError, match=r"rescale='inverse' .*'train_inverse'"):
        method_on(gpt(NUM_LAYERS), name, rescale="inverse")
    with pytest.raises(ValueError, match=r"option='reskale' is not known .*'rescale'"):
        method_on(gpt(NUM_LAYERS), name, reskale="none")


def test_where_forward_runs_whole_rows_and_rescaling_are_refused():
    effects = {name: method_on(gpt(NUM_LAYERS), name, saving=0.1).effect for name in METHODS}
    for name in (name for name, effect in effects.items() if effect != "skip"):
        for option in ({"scope": "per_sequence"}, {"rescale": "train_inverse"}):
            with pytest.raises(ValueError, match=f"{name} has effect='{effects[name]}'"):
                method_on(gpt(NUM_LAYERS), name, **option)


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_must_be_a_whole_number(name):
    with pytest.raises(ValueError, match="seed=-1"):
        method_on(gpt(NUM_LAYERS), name, seed=-1)


def test_sbld_says_what_it_needs():
    with pytest.raises(ValueError, match="'sbld' needs sensitivity_data"):
        make_method("sbld", gpt())
    with pytest.raises(ValueError, match="sensitivity_data is for 8 layers, the model has 4"):
        method_on(gpt(4), "sbld")


@pytest.mark.parametrize("option", ["schedule", "allocation", "theta_bar", "model_"])
def test_another_method_s_option_is_named(option):
    message = rf"option='{option}' is not known.*known: mode, rescale, saving, scope, seed"
    with pytest.raises(ValueError, match=message):
        make_method("uniform", gpt(), **{option: 1})
    assert isinstance(make_method("layerskip", gpt(), schedule="constant"), LayerDropping)


@pytest.mark.parametrize("value", [True, 0.5, "0", 2, [0]])
def test_the_first_index_is_zero_or_one(value):
    with pytest.raises(ValueError, match=r"first_index=.* must be"):
        make_method("pld", gpt(), first_index=value)


@pytest.mark.parametrize(
    ("name", "option"), [("pld", {"theta_bar": 2.0}), ("freezing", {"t_0": 2.0})]
)
def test_what_a_saving_decides_is_looked_at_all_the_same(name, option):
    with pytest.raises(ValueError, match=rf"{next(iter(option))}=2.0 is outside"):
        make_method(name, gpt(), saving=0.1, **option)
