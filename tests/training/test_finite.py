from __future__ import annotations

import math

import pytest
import torch
from small import EncoderLM, Source, gpt, random_batches, same_weights, weights
from torch import nn

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import next_token_loss
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.finite import NotFiniteError
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

BAD_STEP = 2


class SpoilGradient(torch.autograd.Function):
    """The input itself; its gradient is spoilt."""

    @staticmethod
    def forward(context, x, value):
        context.value = value
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * context.value, None


def spoil_gradient(module: nn.Module, value: float) -> None:
    """From now on the gradient that leaves this module backwards is spoilt."""
    module.register_forward_pre_hook(lambda _, args: (SpoilGradient.apply(args[0], value),))


def spoil_output(module: nn.Module, value: float) -> None:
    module.register_forward_hook(lambda _, __, output: output * value)


def spoil_weight(parameter: torch.Tensor, value: float) -> None:
    with torch.no_grad():
        parameter.view(-1)[0] = value


def config(**settings) -> TrainConfig:
    return TrainConfig(budget=Budget(steps=BAD_STEP + 1), **settings)


def stopped(model, spoil, *, data=None, **settings) -> str:
    """Spoil after some good steps; the run must stop with weights and moments as they were."""
    before: dict = {}
    optimizer = make_optimizer(model)

    def moments() -> list[torch.Tensor]:
        states = optimizer.state_dict()["state"].values()
        return [value for state in states for value in state.values()]

    def on_step(step) -> None:
        if step.step == BAD_STEP - 1:
            spoil()
            before.update(weights=weights(model), moments=[m.clone() for m in moments()])

    with pytest.raises(NotFiniteError) as caught:
        train(model, data or Source(), optimizer, config=config(**settings), on_step=on_step)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before["weights"][name], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(moments(), before["moments"], rtol=0, atol=0)
    assert attach(model).dropped == set() and attach(model).recorded is None
    return str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_spoilt_weight_is_named(value):
    model = gpt()
    message = stopped(model, lambda: spoil_weight(model.blocks[2].mlp.hidden.weight, value))
    assert message.startswith(f"step {BAD_STEP}: the loss is nan")
    assert "weight blocks.2.mlp.hidden.weight is not finite already, layer 2" in message


def test_a_spoilt_weight_outside_the_blocks_is_named():
    model = gpt()
    message = stopped(model, lambda: spoil_weight(model.final_norm.bias, math.nan))
    assert "weight final_norm.bias is not finite already, outside the blocks" in message


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("make_model", [gpt, EncoderLM])
def test_a_spoilt_activation_names_its_layer(make_model, layer):
    model = make_model()
    block = attach(model).blocks[layer]
    message = stopped(model, lambda: spoil_output(block.module, math.nan))
    assert f"step {BAD_STEP}: the loss is nan, first at the output of layer {layer}" in message
    assert f"({block.name})" in message


def test_a_spoilt_loss_is_told_from_spoilt_blocks():
    model = gpt()
    message = stopped(model, lambda: spoil_output(model.final_norm, math.inf))
    assert "outside the blocks: all their outputs are finite" in message


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_a_spoilt_gradient_names_the_layer_where_the_backward_met_it(layer, value):
    model = gpt()
    message = stopped(model, lambda: spoil_gradient(model.blocks[layer].mlp, value))
    assert message.startswith(f"step {BAD_STEP}: the gradient's norm is nan, met first")
    assert f"blocks.{layer}." in message and f"layer {layer}" in message


def test_a_gradient_spoilt_after_the_blocks_is_told():
    model = gpt()
    message = stopped(model, lambda: spoil_gradient(model.final_norm, math.nan))
    assert "met first, going back, at blocks.3." in message

    model = gpt()
    message = stopped(
        model, lambda: model.final_norm.weight.register_hook(lambda gradient: gradient * math.nan)
    )
    assert "at final_norm.weight, outside the blocks" in message


def test_gradients_whose_norm_overflows_are_told():
    model = gpt()
    message = stopped(model, lambda: spoil_gradient(model.blocks[2], 1e25))
    assert "the gradient's norm is inf, though each gradient is finite" in message


def test_the_bad_micro_batch_is_found_among_good_ones():
    class Spoilt(Source):
        def batch(self, step, micro_batch=0):
            tokens_BT, targets_BT = super().batch(step, micro_batch)
            if (step, micro_batch) == (BAD_STEP, 1):
                tokens_BT = torch.full_like(tokens_BT, 7)
            return tokens_BT, targets_BT

    model = gpt()
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.blocks[1].register_forward_hook(
        lambda _, __, output: output * math.nan if (seen[-1] == 7).all() else output
    )
    message = stopped(model, lambda: None, data=Spoilt(), accumulate=3)
    assert message.startswith(f"step {BAD_STEP}: the loss of micro-batch 1 is nan")
    assert "first at the output of layer 1" in message


def test_a_model_without_blocks_stops_too():
    model = nn.Sequential(nn.Embedding(32, 8), nn.Linear(8, 32))
    before = weights(model)

    def loss(model, batch):
        return next_token_loss(model, batch) * math.inf

    with pytest.raises(NotFiniteError, match="step 0: the loss is inf, all weights are finite"):
        train(model, random_batches(2), make_optimizer(model), loss=loss)
    assert same_weights(model, before)


def test_a_spoilt_layer_does_harm_only_where_it_runs():
    model = gpt()
    spoil_weight(model.blocks[2].mlp.hidden.weight, math.nan)
    with skip_layers(model, {2}):
        assert len(train(model, Source(), make_optimizer(model), config=config())) == 3
    with pytest.raises(NotFiniteError, match=r"step 0: the loss is nan, .*layer 2"):
        train(model, Source(), make_optimizer(model), config=config())
