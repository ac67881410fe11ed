from __future__ import annotations

import pytest
from methods.runs import contexts, mean_drop, steps_of
from small import EncoderLM, Source, gpt

from sbldlib.dropping.skipping import attach
from sbldlib.methods import dont_drop_dropout
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_it_falls_over_time_and_rises_with_depth(progress):
    keep = dont_drop_dropout(gpt(5), p_max=0.8).keep_probability(progress)
    expected = [1 - 0.8 * layer / 4 * (1 - progress) for layer in range(5)]
    assert keep == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_steps", [2, 11, 200])
def test_as_published_the_mean_drop_is_a_quarter_of_p_max(num_steps):
    model = gpt(6)
    kept = steps_of(dont_drop_dropout(model, p_max=0.72), model, num_steps)
    assert mean_drop(kept) == pytest.approx(0.18, abs=1e-12)
    assert kept[-1] == (1.0,) * 6


@pytest.mark.parametrize("num_steps", [1, 2, 33])
def test_a_saving_is_met_exactly_at_any_length(num_steps):
    model = gpt(8)
    method = dont_drop_dropout(model, saving=0.2)
    assert method.describe()["p_max"] == pytest.approx(0.8)
    assert mean_drop(steps_of(method, model, num_steps)) == pytest.approx(0.2, abs=1e-12)


def test_above_its_cap_the_mean_still_holds_and_the_first_layer_is_kept():
    model = gpt(8)
    kept = steps_of(dont_drop_dropout(model, saving=0.35), model, 50)
    assert mean_drop(kept) == pytest.approx(0.35, abs=1e-12)
    assert min(kept[0]) == pytest.approx(0.01) and all(keep[0] == 1 for keep in kept)


def test_each_sequence_has_its_own_layers_and_what_runs_is_scaled():
    model = gpt(6)
    method = dont_drop_dropout(model, p_max=0.9)
    described = method.describe()
    assert (described["scope"], described["rescale"]) == ("per_sequence", "train_inverse")
    method.before_step(next(contexts(model, 10)))
    factors = attach(model)._residual_scale
    assert factors == pytest.approx(
        {1: 1 / 0.82, 2: 1 / 0.64, 3: 1 / 0.46, 4: 1 / 0.28, 5: 5.0}  # at 0.1 it would be 10
    )
    other = dont_drop_dropout(gpt(6), scope="per_batch", rescale="none").describe()
    assert (other["scope"], other["rescale"]) == ("per_batch", "none")


def test_a_run_ends_at_full_depth():
    model = EncoderLM(6)
    record = train(
        model,
        Source(),
        make_optimizer(model),
        config=TrainConfig(budget=Budget(steps=30)),
        callbacks=[dont_drop_dropout(model, p_max=0.99)],
    )
    shares = [sum(step.forward_share or (1.0,) * 6) / 6 for step in record]
    assert shares[-1] == 1 and shares[0] < 1
    assert sum(shares[:10]) < sum(shares[10:20]) < sum(shares[20:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"saving": 0.45}, r"saving=0.45 asks for a mean drop of 0.8998 where .* can hold 0.7425"),
        ({"p_max": 1.0}, "p_max=1.0"),
        ({"p_maximum": 0.5}, "'p_maximum' .*'p_max'"),
    ],
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        dont_drop_dropout(gpt(4), **options)
