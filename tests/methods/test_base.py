from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pytest
import torch
from small import D, EncoderLM, Source, gpt

from sbldlib.dropping.schedules import constant, linear
from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.methods import PlanMismatchError, adjust_probability, none, sbld, uniform
from sbldlib.methods.base import LayerDropping
from sbldlib.models.diverging_gpt import DivergingGPT
from sbldlib.models.gpt import GPT
from sbldlib.records import RunRecord, SensitivityData
from sbldlib.training.callbacks import Callback, StepContext
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

SENSITIVITY = SensitivityData(values=(0.4, 0.3, 0.2, 0.1), standard_errors=(0.0,) * 4)


def run(model, callbacks, *, steps: int = 8, **arguments) -> RunRecord:
    config = TrainConfig(budget=Budget(steps=steps))
    return train(
        model, Source(), make_optimizer(model), config=config, callbacks=callbacks, **arguments
    )


# ---------------------------------------------------------------- the door


def test_a_stack_that_still_grows_is_refused_and_taken_at_its_last_stage():
    changes = {"num_layers": 4, "stages": (1, 2, 4), "growth": "stack"}
    model = DivergingGPT.from_preset("tiny", **changes)
    for running in (1, 2):
        with pytest.raises(ValueError, match=f"runs {running} of its 4 layers as yet.*'diverge'"):
            uniform(model, saving=0.25)
        model.grow()
    assert len(uniform(model, saving=0.25).keep_probability(0.5)) == 4


def test_places_that_share_a_block_all_take_part():
    model = DivergingGPT.from_preset("tiny", num_layers=4, stages=(1, 2, 4))
    assert len(uniform(model, saving=0.25).keep_probability(0.5)) == 4


# ---------------------------------------------------------------- the detector


class BypassingGPT(GPT):
    """Calls the second block's `forward`, past everything that stands around a call."""

    def forward(self, tokens_BT, cache=None):
        x_BTD = self._embed(tokens_BT, 0)
        for layer, block in enumerate(self.blocks):
            x_BTD = block.forward(x_BTD) if layer == 1 else block(x_BTD)
        return self.final_norm(x_BTD) @ self.token_embedding.weight.T


def test_a_bypassed_block_stops_the_run():
    model = BypassingGPT(gpt().config)
    with pytest.raises(
        PlanMismatchError, match=r"step 0: planned layers \[0, 1, 2, 3\].*\[0, 2, 3\]"
    ):
        run(model, [none(model)])
    assert attach(model).dropped == set()


class SwapPlan(Callback):
    """Sets other layers than the method did."""

    def __init__(self, dropped: set[int]) -> None:
        self.dropped = dropped

    def before_step(self, context):
        attach(context.model).set_dropped(self.dropped)


@pytest.mark.parametrize("swapped", [{2}, {0, 1}])
def test_a_swapped_plan_stops_the_run(swapped):
    model = gpt()
    with pytest.raises(PlanMismatchError, match="step 0: planned layers"):
        run(model, [none(model), SwapPlan(swapped)])


def test_a_plan_that_was_undone_stops_the_run():
    model = gpt()
    with pytest.raises(PlanMismatchError, match="planned layers"):
        run(model, [uniform(model, saving=0.5), SwapPlan(set())], steps=20)


def test_a_method_of_another_model_stops_the_run():
    with pytest.raises(PlanMismatchError):
        run(gpt(), [uniform(gpt(), saving=0.5)], steps=20)


def test_layers_skipped_on_purpose_are_part_of_the_plan():
    model = gpt()
    with skip_layers(model, {0, 3}):
        record = run(model, [uniform(model, saving=0.5)], steps=20)
    assert all(set(step.layers_run) <= {1, 2} for step in record)
    assert 0 < record.realised_drop < 1


def test_a_step_with_every_layer_dropped_trains_the_rest():
    model = gpt()
    record = run(model, [uniform(model, saving=0.9)], steps=20)
    assert any(step.layers_run == () for step in record)
    assert all(step.gradient_norm > 0 for step in record)


# ---------------------------------------------------------------- sbld


def test_the_block_list_is_never_dropped_and_the_least_sensitive_most():
    model = gpt(8)
    values = (0.9, 0.1, 0.3, 0.02, 0.4, 0.05, 0.2, 0.7)
    sensitivity = SensitivityData(values=values, standard_errors=(0.0,) * 8)
    dropping = sbld(model, sensitivity, saving=0.4)
    record = run(model, [dropping], steps=60)
    assert dropping.describe()["block"] == (0, 7)
    for step in record:
        assert {0, 7} <= set(step.layers_run)
        assert step.keep_probability[0] == 1 == step.keep_probability[7]
    keep = record.steps[0].keep_probability
    allow = sorted(range(1, 7), key=lambda layer: -values[layer])
    assert [keep[layer] for layer in allow] == sorted([keep[layer] for layer in allow])[::-1]
    times = [sum(layer in step.layers_run for step in record) for layer in range(8)]
    assert times[4] > times[3]


def test_a_schedule_says_when_and_the_saving_is_taken_from_it():
    model = gpt()
    dropping = sbld(model, SENSITIVITY, scheduler=linear(1.0, 0.6))
    record = run(model, [dropping], steps=11)
    means = [sum(step.keep_probability) / 4 for step in record]
    assert means == pytest.approx([1 - 0.04 * t for t in range(11)])


def test_full_depth_at_the_ends_keeps_the_saving():
    model = gpt()
    dropping = sbld(model, SENSITIVITY, saving=0.2, full_depth_start=0.1, full_depth_end=0.2)
    record = run(model, [dropping], steps=41)
    drops = [1 - sum(step.keep_probability) / 4 for step in record]
    assert drops[:4] == [0.0] * 4 and drops[-8:] == [0.0] * 8
    assert drops[4:33] == pytest.approx([0.2 * 41 / 29] * 29)
    assert sum(drops) / 41 == pytest.approx(0.2, abs=1e-12)
    described = dropping.describe()
    assert (described["full_depth_start"], described["full_depth_end"]) == (0.1, 0.2)
    assert described["saving"] == 0.2
    with pytest.raises(ValueError, match=r"mean_keep=.* asks for .* dropped layers"):
        sbld(model, SENSITIVITY, saving=0.5, full_depth_start=0.4)


# ---------------------------------------------------------------- rescaling


def test_train_inverse_is_one_over_keep_up_to_five():
    model = gpt()
    keep = (1.0, 0.5, 0.2, 0.1)
    method = LayerDropping(
        "four",
        model,
        schedule=constant(0.45),
        allocation=lambda mean_keep: keep,
        rescale="train_inverse",
    )
    method.before_step(StepContext(step=0, num_steps=1, progress=0.0, model=model))
    skipping = attach(model)
    skipping.set_dropped(())
    block, x = model.blocks[0], torch.randn(1, 3, D, generator=torch.Generator().manual_seed(0))
    for layer, factor in enumerate((1.0, 2.0, 5.0, 5.0)):
        block = model.blocks[layer]
        with skipping.full_depth():
            residual = block(x) - x
        torch.testing.assert_close(block(x) - x, factor * residual, rtol=1e-4, atol=1e-5)


def exact_mean(block_of, keep: float, rescale: str):
    """E[output] of one block over its two draws, given its input, as the method sets them."""
    total = 0
    for runs in (True, False):
        model = gpt(2)
        method = LayerDropping(
            "one",
            model,
            schedule=constant((1 + keep) / 2),
            allocation=lambda mean_keep: (keep, 1.0),
            rescale=rescale,
        )
        method.draw = lambda keep, step, runs=runs: (0, 1) if runs else (1,)
        method.before_step(StepContext(step=0, num_steps=1, progress=0.0, model=model))
        total = total + (keep if runs else 1 - keep) * block_of(model)
    return total


@pytest.mark.parametrize("keep", [0.1, 0.2, 0.5, 0.9, 1.0])
def test_what_each_rescaling_claims_holds_for_one_block_given_its_input(keep):
    x = torch.randn(2, 3, D, generator=torch.Generator().manual_seed(1))

    def block_of(model):
        return model.train().blocks[0](x)

    full = gpt(2).blocks[0](x)
    inverse, plain = (exact_mean(block_of, keep, kind) for kind in ("train_inverse", "none"))
    if keep >= 0.2:
        torch.testing.assert_close(inverse, full)
    else:  # clamped at five: short of full depth, as the documentation says
        torch.testing.assert_close(inverse - x, 5 * keep * (full - x))

    model = gpt(2)
    method = LayerDropping(
        "one",
        model,
        schedule=constant((1 + keep) / 2),
        allocation=lambda mean_keep: (keep, 1.0),
        rescale="eval_scale",
    )
    method.before_step(StepContext(step=0, num_steps=1, progress=0.0, model=model))
    torch.testing.assert_close(model.eval().blocks[0](x), plain)


def test_the_evaluation_scale_is_the_last_steps_and_another_method_clears_it():
    model = gpt()
    falling = sbld(model, SENSITIVITY, scheduler=linear(1.0, 0.6), rescale="eval_scale")
    seen = []
    record = run(model, [falling], on_step=lambda step: seen.append(attach(model).evaluation_scale))
    for step, scale in zip(record, seen, strict=True):
        keep = step.keep_probability
        assert scale == {layer: k for layer, k in enumerate(keep) if k < 1}
    assert attach(model).evaluation_scale == seen[-1] != {}
    run(model, [uniform(model)], steps=1)
    assert attach(model).evaluation_scale == {}


def test_rows_need_the_number_of_rows():
    model = gpt()
    method = uniform(model, scope="per_sequence")
    with pytest.raises(ValueError, match=r"scope='per_sequence' needs context.num_rows"):
        method.before_step(StepContext(step=0, num_steps=1, progress=0.0, model=model))


def test_a_method_whose_model_is_gone_says_so():
    method = uniform(gpt())
    gc.collect()
    with pytest.raises(ReferenceError, match="the model of uniform is gone"):
        _ = method.model


# ---------------------------------------------------------------- adjust_probability


def test_another_scheduler_is_in_force_from_the_next_step_on():
    model = gpt()
    dropping = sbld(model, SENSITIVITY, saving=0.1)
    applied = []

    def steer(step) -> None:
        if step.step == 2:
            applied.append(adjust_probability(model, 0.6))
        if step.step == 5:
            applied.append(adjust_probability(model, linear(1.0, 0.5)))

    record = run(model, [dropping], on_step=steer)
    means = [sum(step.keep_probability) / 4 for step in record]
    assert means == pytest.approx([0.9] * 3 + [0.6] * 3 + [1 - 0.5 * 6 / 7, 0.5])
    assert applied[0] == record.steps[3].keep_probability
    assert sum(applied[1]) / 4 == pytest.approx(1 - 0.5 * 5 / 7)  # where the run was then
    assert dropping.progress == 1.0


def test_it_returns_what_holds_at_the_progress_asked_for():
    model = gpt()
    dropping = sbld(model, SENSITIVITY)
    applied = adjust_probability(model, linear(1.0, 0.5), progress=0.5)
    assert applied == dropping.keep_probability(0.5) and sum(applied) / 4 == pytest.approx(0.75)
    assert sum(adjust_probability(model, constant(0.7))) / 4 == pytest.approx(0.7)
    with pytest.raises(ValueError, match=r"progress=1.5 is outside \[0, 1\]"):
        adjust_probability(model, 0.8, progress=1.5)


def test_a_model_without_a_method_is_named():
    with pytest.raises(ValueError, match="model=EncoderLM has no dropping method; make one first"):
        adjust_probability(EncoderLM(), 0.8)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (0.1, r"mean_keep=0.1 asks for 3.6 dropped .* hold 2.7"),
        (lambda progress: 1 - 0.9 * (progress == 0.5), r"mean_keep=0.1 asks"),
        (lambda progress: 1 + 0.2 * progress, r"scheduler\(0.5\)=1.1 is outside"),
        (lambda progress: float("nan"), r"scheduler\(0\)=nan"),
        (0.0, "scheduler=0.0"),
        ("much", "scheduler='much'"),
    ],
)
def test_a_scheduler_that_cannot_be_met_leaves_the_old_one_in_force(scheduler, message):
    model = gpt()
    dropping = sbld(model, SENSITIVITY, saving=0.2)
    before = dropping.schedule
    with pytest.raises(ValueError, match=message):
        adjust_probability(model, scheduler)
    assert dropping.schedule is before
    assert sum(dropping.keep_probability(0.3)) / 4 == pytest.approx(0.8)


def test_a_dip_between_the_points_that_were_tried_is_refused_before_the_first_step():
    model = gpt()
    dropping = sbld(model, SENSITIVITY)
    dropping.schedule = lambda progress: 0.1 if 0.331 < progress < 0.336 else 0.9
    steps = []
    with pytest.raises(ValueError, match=r"mean_keep=0.1 asks for"):
        run(model, [dropping], steps=4, on_step=steps.append)
    assert steps == [], "the run began although its third step could not be met"


def test_of_several_methods_the_one_at_work_is_adjusted():
    model = gpt()
    first = uniform(model, saving=0.1)
    second = uniform(model, saving=0.2)
    assert adjust_probability(model, 0.7) == second.keep_probability(0)
    run(model, [first], steps=2)
    adjust_probability(model, 0.5)
    assert first.keep_probability(0) == (0.5,) * 4 and second.keep_probability(0)[0] != 0.5


def test_a_method_does_not_keep_its_model_alive():
    model = gpt()
    uniform(model)
    held = weakref.ref(model)
    del model
    gc.collect()
    assert held() is None


def test_the_interface_that_methods_share():
    model = gpt()
    dropping = LayerDropping(
        "half of two",
        model,
        schedule=constant(0.75),
        allocation=lambda mean_keep: (1.0, 1.0, 2 * mean_keep - 1, 2 * mean_keep - 1),
        seed=4,
        settings={"width": D},
    )
    assert dropping.describe() == {
        "method": "half of two",
        "seed": 4,
        "mode": "bernoulli",
        "scope": "per_batch",
        "rescale": "none",
        "effect": "skip",
        "width": D,
    }
    assert run(model, [dropping]).steps[0].keep_probability == (1.0, 1.0, 0.5, 0.5)


@pytest.mark.parametrize(
    ("scheduler", "progress", "message"),
    [
        (0.7, 7, r"progress=7 is outside \[0, 1\]"),
        (0.7, "now", "progress='now' must be a number"),
        (lambda progress: 0.1 if 0.305 < progress < 0.306 else 0.9, 0.3055, "mean_keep=0.1 asks"),
    ],
)
def test_what_cannot_be_read_is_refused_before_the_scheduler_is_put_in_force(
    scheduler, progress, message
):
    model = gpt()
    dropping = sbld(model, SENSITIVITY, saving=0.2)
    before = dropping.schedule
    with pytest.raises(ValueError, match=message):
        adjust_probability(model, scheduler, progress=progress)
    assert dropping.schedule is before


def test_a_refused_method_leaves_the_one_on_the_model():
    model = gpt()
    dropping = uniform(model, saving=0.2)
    for wrong in ({"saving": "much"}, {"mode": ["bernoulli"]}, {"seed": -1}):
        with pytest.raises(ValueError, match=rf"{next(iter(wrong))}="):
            uniform(model, **wrong)
    adjust_probability(model, 0.9)
    assert dropping.keep_probability(0.5) == pytest.approx((0.9,) * 4)


@pytest.mark.parametrize("saving", [np.float32(0.25), torch.tensor(0.25)])
@pytest.mark.parametrize(
    "make", [uniform, lambda model, saving: sbld(model, SENSITIVITY, saving=saving)]
)
def test_the_record_of_a_run_holds_plain_numbers_whatever_was_given(make, saving):
    described = make(gpt(), saving=saving).describe()
    assert json.loads(json.dumps(described))["saving"] == 0.25
