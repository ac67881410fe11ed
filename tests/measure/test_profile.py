from __future__ import annotations

import os

import pytest
import torch
from small import gpt, random_batches, same_weights, weights

from sbldlib.measure.profile import KINDS, PHASES, REST, StepProfile, kind_of, profile_steps
from sbldlib.training.optimizer import make_optimizer


@pytest.fixture(scope="module")
def measured() -> StepProfile:
    model = gpt()
    return profile_steps(model, random_batches(1)[0], make_optimizer(model), num_steps=2)


def test_every_phase_took_its_time_and_the_shares_add_up(measured):
    assert tuple(measured.phases) == PHASES and min(measured.phases.values()) > 0
    assert sum(measured.phase_shares().values()) == pytest.approx(1)
    assert sum(measured.kind_shares().values()) == pytest.approx(1)
    assert measured.num_steps == 2


def test_operators_are_told_by_their_own_time_and_no_time_is_counted_twice(measured):
    own = list(measured.operators.values())
    assert own == sorted(own, reverse=True)
    assert {"aten::mm", "aten::addmm"} <= measured.operators.keys()
    assert sum(own) == pytest.approx(sum(measured.phases.values()), rel=0.05)


def test_every_kind_of_operator_of_a_gpt_is_found(measured):
    shares = measured.kind_shares()
    assert tuple(shares) == (*KINDS, REST) and min(shares.values()) > 0


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mm", "matrix products"),
        ("aten::addmm", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::gelu_backward", "GELU"),
        ("aten::native_layer_norm_backward", "norms"),
        ("aten::_log_softmax", "softmax and loss"),
        ("aten::_fused_adamw_", "optimizer"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("aten::copy_", REST),
        ("aten::softmax_of_nobody", REST),
    ],
)
def test_operators_by_kind(operator, kind):
    assert kind_of(operator) == kind


def test_it_trains_and_leaves_the_process_as_it_was():
    model, batch = gpt(), random_batches(1)[0]
    by_hand, before = gpt(), dict(os.environ)
    optimizer = make_optimizer(by_hand)
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(by_hand(batch[0]).flatten(0, 1), batch[1].ravel())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    profile_steps(model, batch, make_optimizer(model), num_steps=3)
    assert same_weights(model, weights(by_hand)), "one step before, and three that are measured"
    assert dict(os.environ) == before


def test_nothing_to_measure_is_refused(measured):
    model = gpt()
    with pytest.raises(ValueError, match="num_steps=0 must be at least 1"):
        profile_steps(model, random_batches(1)[0], make_optimizer(model), num_steps=0)
    with pytest.raises(ValueError, match="model is on meta"):
        profile_steps(model.to("meta"), random_batches(1)[0], make_optimizer(gpt()))
    with pytest.raises(ValueError, match="must be seconds of a step"):
        StepProfile(phases={}, operators={"aten::mm": 1.0}, num_steps=1)
    assert StepProfile.from_json(measured.to_json()) == measured
