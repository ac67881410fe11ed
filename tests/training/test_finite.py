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
from sbldlib.training.run import Run

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


def error_of(model, spoil, *, data=None, **settings) -> NotFiniteError:
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
    assert caught.value.step == BAD_STEP
    return caught.value


def stopped(model, spoil, **settings) -> str:
    return str(error_of(model, spoil, **settings))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_spoilt_weight_is_named_before_the_next_forward(value):
    model = gpt()
    forwards = []
    model.register_forward_pre_hook(lambda *_: forwards.append(1))

    def spoil() -> None:
        spoil_weight(model.blocks[2].mlp.hidden.weight, value)
        forwards.clear()

    error = error_of(model, spoil)
    assert str(error) == (
        f"step {BAD_STEP}: the weight blocks.2.mlp.hidden.weight is not finite, layer 2"
    )
    assert (error.step, error.layer) == (BAD_STEP, 2) and not forwards


def test_a_spoilt_weight_outside_the_blocks_is_named():
    model = gpt()
    error = error_of(model, lambda: spoil_weight(model.final_norm.bias, math.nan))
    assert "the weight final_norm.bias is not finite, outside the blocks" in str(error)
    assert (error.step, error.layer) == (BAD_STEP, None)


def test_a_spoilt_weight_that_is_not_trained_is_found_by_the_loss():
    model = gpt()
    held = model.blocks[1].mlp.hidden.weight.requires_grad_(False)
    error = error_of(model, lambda: spoil_weight(held, math.nan))
    assert str(error).startswith(f"step {BAD_STEP}: the loss is nan, the weight blocks.1.mlp")
    assert error.layer == 1


def test_weights_that_the_optimisers_own_step_blew_up_are_caught():
    model = gpt()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e38)
    forwards = []

    def loss(model, batch):
        forwards.append(1)
        return 1e4 * next_token_loss(model, batch)

    run = Run(model, Source(), optimizer, config(clip_norm=1e9, warmup=0.0), (), loss)
    run.check_weights()
    forwards.clear()
    run.step({})
    assert forwards == [1]
    with pytest.raises(NotFiniteError, match=r"step 1: the weight token_embedding.weight is not"):
        run.check_weights()  # as before a save
    with pytest.raises(NotFiniteError, match=r"step 1: the weight token_embedding.weight is not"):
        run.step({})
    assert forwards == [1]


def test_huge_weights_are_finite():
    model = gpt()
    run = Run(model, Source(), make_optimizer(model), config(), (), next_token_loss)
    spoil_weight(model.blocks[0].mlp.hidden.weight, 3e38)  # the square of which is infinite
    run.check_weights()


def test_the_last_good_checkpoint_ends_the_message():
    error = NotFiniteError("step 3: the loss is nan", step=3, layer=1)
    assert str(error) == "step 3: the loss is nan" and error.checkpoint is None
    error.checkpoint = "runs/a/checkpoints/step-00000002"
    assert str(error) == (
        "step 3: the loss is nan; the last good checkpoint is runs/a/checkpoints/step-00000002"
    )


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("make_model", [gpt, EncoderLM])
def test_a_spoilt_activation_names_its_layer(make_model, layer):
    model = make_model()
    block = attach(model).blocks[layer]
    error = error_of(model, lambda: spoil_output(block.module, math.nan))
    assert f"step {BAD_STEP}: the loss is nan, first at the output of layer {layer}" in str(error)
    assert f"({block.name})" in str(error) and error.layer == layer


def test_a_spoilt_loss_is_told_from_spoilt_blocks():
    model = gpt()
    message = stopped(model, lambda: spoil_output(model.final_norm, math.inf))
    assert "outside the blocks: all their outputs are finite" in message


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_a_spoilt_gradient_names_the_layer_where_the_backward_met_it(layer, value):
    model = gpt()
    error = error_of(model, lambda: spoil_gradient(model.blocks[layer].mlp, value))
    assert str(error).startswith(f"step {BAD_STEP}: the gradient's norm is nan, met first")
    assert f"blocks.{layer}." in str(error) and f"layer {layer}" in str(error)
    assert error.layer == layer


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


def test_a_spoilt_weight_that_is_skipped_stops_the_run_too():
    model = gpt()
    spoil_weight(model.blocks[2].mlp.hidden.weight, math.nan)
    with skip_layers(model, {2}), pytest.raises(NotFiniteError, match=r"step 0: the weight .*2"):
        train(model, Source(), make_optimizer(model), config=config())
