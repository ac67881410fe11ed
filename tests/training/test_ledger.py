"""The ledger against torch's own counter, the detector, and what becomes of skipped weights."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from small import EncoderLM, Source, gpt, same_weights, weights
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sbldlib.dropping.schedules import constant
from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import next_token_loss
from sbldlib.measure import count_flops
from sbldlib.methods import PlanMismatchError, uniform
from sbldlib.methods.base import EFFECTS, LayerDropping
from sbldlib.records import RunRecord
from sbldlib.training.callbacks import Callback
from sbldlib.training.config import SKIPPED_WEIGHTS, Budget, TrainConfig
from sbldlib.training.loop import train

NUM_LAYERS = 4


class Drop(LayerDropping):
    """Drops these layers at every step, or runs these rows, with any effect."""

    def __init__(self, model, layers=(), *, rows=None, from_step: int = 0, **options):
        options.setdefault("scope", "per_batch" if rows is None else "per_sequence")
        super().__init__(
            "by hand",
            model,
            schedule=constant(0.5),
            allocation=lambda mean_keep: (mean_keep,) * NUM_LAYERS,
            **options,
        )
        self.layers, self.rows, self.from_step = set(layers), rows, from_step

    def draw(self, keep, step):
        return set(range(NUM_LAYERS)) - (self.layers if step >= self.from_step else set())

    def draw_rows(self, keep, step, num_rows):
        return self.rows


def run(model: nn.Module, *callbacks: Callback, steps: int = 3, **changes) -> RunRecord:
    return train(
        model,
        Source(),
        torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1),
        config=TrainConfig(**{"budget": Budget(steps=steps), **changes}),
        callbacks=callbacks,
    )


# ---- the ledger


def counted_by_torch(model: nn.Module, method: LayerDropping, micro_batches: int = 1) -> int:
    """All operations of one step's forward and backward, by torch's own counter."""
    method.planned.set_on(attach(model))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for number in range(micro_batches):
            next_token_loss(model.train(), Source().batch(0, number)).backward()
    attach(model).clear_draw()
    return counter.get_total_flops()


DRAWS = {
    "nothing": {"layers": ()},
    "skip": {"layers": {0, 2}},
    "skip all": {"layers": {0, 1, 2, 3}},
    "rows": {"rows": ((0, 3), (), (0, 1, 2, 3), (1,))},
    "rows, rescaled": {"rows": ((2,), (0, 1), (3,), (0,)), "rescale": "train_inverse"},
    "skip_backward": {"layers": {1, 3}, "effect": "skip_backward"},
    "freeze": {"layers": {0, 1}, "effect": "freeze"},
    "freeze in the middle": {"layers": {2}, "effect": "freeze"},
    "freeze all": {"layers": {0, 1, 2, 3}, "effect": "freeze"},
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_ledger_is_what_torch_counts(draw, recompute):
    model = gpt()
    model.activation_recomputation = recompute
    method = Drop(model, **draw)
    step = run(model, method, steps=1).steps[0]
    assert step.flops == counted_by_torch(model, method)
    full = gpt()
    full.activation_recomputation = recompute
    assert step.flops_full == count_flops(full, Source().batch(0)).full


def test_a_models_own_blocks_keep_the_ledger_exact_too():
    for draw in (DRAWS["skip"], DRAWS["rows"], DRAWS["skip_backward"]):
        model = EncoderLM()
        method = Drop(model, **draw)
        step = run(model, method, steps=1).steps[0]
        assert step.flops == counted_by_torch(model, method)


@pytest.mark.parametrize("draw", ["rows", "skip_backward"])
def test_micro_batches_share_the_draw_and_are_all_counted(draw):
    model = gpt()
    method = Drop(model, **DRAWS[draw])
    step = run(model, method, steps=1, accumulate=3).steps[0]
    assert step.flops == counted_by_torch(model, method, micro_batches=3)
    forward, backward = method.planned.shares()
    if draw == "rows":
        assert step.forward_share == pytest.approx(forward) and step.backward_share == ()
    else:
        assert step.forward_share == () and step.backward_share == backward


def test_shares_and_realised_drops():
    model = gpt()
    assert run(model, Drop(model, {1})).steps[0].forward_share == ()
    record = run(model, Drop(model, **DRAWS["rows"]))
    assert record.steps[0].forward_share == (0.5, 0.0, 1.0, 0.25)
    assert record.steps[0].layers_run == (0, 2, 3)
    assert record.realised_drop == record.realised_backward_drop == 1 - 1.75 / 4
    record = run(model, Drop(model, **DRAWS["freeze in the middle"]))
    assert record.steps[0].backward_share == (0.0, 0.0, 0.0, 1.0)
    assert (record.realised_drop, record.realised_backward_drop) == (0.0, 0.75)
    with skip_layers(model, {3}):
        record = run(model, Drop(model, **DRAWS["skip_backward"]))
    assert record.steps[0].backward_share == (1.0, 0.0, 1.0, 0.0)
    assert record.realised_drop == 0.25 and record.realised_backward_drop == 0.5


def test_a_flops_budget_is_spent_on_what_runs():
    def steps(**draw) -> int:
        model = gpt()
        budget = Budget(flops=10 * count_flops(gpt(), Source().batch(0)).full)
        return len(run(model, Drop(model, **draw), budget=budget))

    assert steps(layers=()) == 10
    assert steps(layers={1, 3}) > steps(layers={1, 3}, effect="skip_backward") > 10


# ---- the detector


class Set(Callback):
    """Changes what is drawn, after the method did."""

    def __init__(self, change) -> None:
        self.change = change

    def before_step(self, context):
        self.change(attach(context.model))


CHANGES = {
    "cleared": lambda skipping: skipping.clear_draw(),
    "other rows": lambda skipping: skipping.set_rows({0: (1,), 1: (0, 1)}),
    "another layer forward only": lambda skipping: skipping.set_forward_only({2}),
    "nothing below": lambda skipping: skipping.set_forward_only({3}, gradient="none"),
    "dropped": lambda skipping: skipping.set_dropped({0, 1}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    "draw", [{"rows": ((0, 1), (2,), (0, 1, 2, 3), (0, 1, 2, 3))}]
    + [{"layers": {1}, "effect": effect} for effect in EFFECTS],
    ids=["rows", *EFFECTS],
)  # fmt: skip
def test_what_was_not_planned_stops_the_run(draw, change):
    model = gpt()
    with pytest.raises(PlanMismatchError, match=r"step 0: .*planned"):
        run(model, Drop(model, **draw), Set(change))
    assert attach(model).dropped == attach(model).forward_only == frozenset()


def test_the_messages_name_layer_and_shares():
    model = gpt()
    rows = {"rows": ((0, 1), (2,), (0, 1, 2, 3), (0, 1, 2, 3))}
    with pytest.raises(
        PlanMismatchError, match=r"layer 0 was planned to run forward for 0.5 .* counted for 0.25"
    ):
        run(model, Drop(model, **rows), Set(CHANGES["other rows"]))
    with pytest.raises(
        PlanMismatchError, match=r"layer 1 was planned to run backward for 0 .* counted for 1"
    ):
        run(model, Drop(model, {1}, effect="skip_backward"), Set(CHANGES["cleared"]))


def test_rows_need_a_batch_of_one_size():
    class Uneven(Source):
        def batch(self, step: int, micro_batch: int = 0):
            return Source(rows=4 - micro_batch).batch(step, micro_batch)

    model = gpt()
    with pytest.raises(ValueError, match=r"rows were drawn for a batch of 4, .* is 3"):
        train(
            model,
            Uneven(),
            torch.optim.SGD(model.parameters(), 0.1),
            config=TrainConfig(budget=Budget(steps=1), accumulate=2),
            callbacks=[uniform(model, saving=0.5, scope="per_sequence")],
        )


# ---- skipped weights


def moments(optimizer: torch.optim.Optimizer, module: nn.Module) -> list:
    return [copy.deepcopy(optimizer.state[p]) for p in module.parameters()]


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("policy", SKIPPED_WEIGHTS)
def test_what_the_optimiser_does_with_a_skipped_layer(policy, effect):
    model = gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    held, states = [], []

    def note(step) -> None:
        held.append(weights(model.blocks[1]))
        states.append(moments(optimizer, model.blocks[1]))

    train(
        model,
        Source(),
        optimizer,
        config=TrainConfig(budget=Budget(steps=4), skipped_weights=policy, clip_norm=1e6),
        callbacks=[Drop(model, {1}, from_step=2, effect=effect)],
        on_step=note,
    )
    assert not same_weights(model.blocks[1], held[0])
    for (before, after), (state, later) in zip(
        pairwise(held[1:]), pairwise(states[1:]), strict=True
    ):
        for name, weight in after.items():
            assert torch.equal(weight, before[name]) == (policy == "freeze"), name
        for old, new in zip(state, later, strict=True):
            if policy == "freeze":
                assert all(torch.equal(new[key], old[key]) for key in old)
            else:  # a gradient of zero: the moments fall by their own factors
                assert new["step"] == old["step"] + 1
                torch.testing.assert_close(new["exp_avg"], 0.9 * old["exp_avg"])
                torch.testing.assert_close(new["exp_avg_sq"], 0.999 * old["exp_avg_sq"])


def test_decay_moves_a_skipped_weight_by_momentum_and_weight_decay():
    """Worked by hand for AdamW's first step without a gradient."""
    model = gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.5, eps=1e-8)
    held = []
    config = TrainConfig(
        budget=Budget(steps=2), warmup=0.0, final_learning_rate=1.0, skipped_weights="decay",
        clip_norm=1e6,
    )  # fmt: skip
    weight = model.blocks[1].mlp.hidden.weight
    states = []

    def note(step) -> None:
        held.append(weight.detach().clone())
        states.append(copy.deepcopy(optimizer.state[weight]))

    train(
        model, Source(), optimizer, config=config,
        callbacks=[Drop(model, {1}, from_step=1)], on_step=note,
    )  # fmt: skip
    mean = 0.9 * states[0]["exp_avg"] / (1 - 0.9**2)
    square = 0.999 * states[0]["exp_avg_sq"] / (1 - 0.999**2)
    expected = held[0] * (1 - 0.01 * 0.5) - 0.01 * mean / (square.sqrt() + 1e-8)
    torch.testing.assert_close(held[1], expected)


def test_where_every_weight_gets_a_gradient_the_policies_are_one():
    one, other = (run(gpt(), skipped_weights=policy).losses for policy in SKIPPED_WEIGHTS)
    assert one == other


def test_decay_leaves_weights_that_are_not_trained():
    model = gpt()
    model.blocks[0].requires_grad_(False)
    before = weights(model.blocks[0])
    run(model, skipped_weights="decay")
    assert same_weights(model.blocks[0], before)


def test_an_unknown_policy_names_the_nearest():
    with pytest.raises(ValueError, match=r"skipped_weights='frozen' .*'freeze'"):
        TrainConfig(skipped_weights="frozen")
