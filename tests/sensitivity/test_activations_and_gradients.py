"""The estimators that other papers use, held to their definitions written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from small import gpt, random_batches
from torch import nn

from sbldlib.losses import next_token_loss
from sbldlib.sensitivity import calculate_sensitivities

NUM_LAYERS = 4


@torch.no_grad()
def residual_stream(model, tokens_BT):
    """The activation before each block, and after the last."""
    x_BTD = model._embed(tokens_BT, 0)
    stream = [x_BTD]
    for block in model.blocks:
        stream.append(block(stream[-1], None))
    return stream


def test_influence_and_angle_are_of_the_cosines_between_input_and_output():
    model, batches = gpt(), random_batches(3)
    influence = calculate_sensitivities(model, batches=batches, method="block_influence")
    angle = calculate_sensitivities(model, batches=batches, method="angular_distance")
    for number, (tokens_BT, _) in enumerate(batches):
        stream = residual_stream(model, tokens_BT)
        for layer in range(NUM_LAYERS):
            before, after = stream[layer].double(), stream[layer + 1].double()
            dot = (before * after).sum(-1)
            cosine = dot / before.norm(dim=-1) / after.norm(dim=-1)
            assert influence.samples[layer][number] == pytest.approx(1 - float(cosine.mean()))
            turned = float(cosine.acos().mean()) / math.pi
            assert angle.samples[layer][number] == pytest.approx(turned)


@pytest.mark.parametrize("scale, influence, angle", [(1.0, 0.0, 0.0), (-1.0, 2.0, 1.0)])
def test_a_block_that_turns_nothing_or_everything(scale, influence, angle):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.one, self.two = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x_BTD):
            return scale * x_BTD

    blocks = nn.Sequential(nn.Embedding(32, 4), nn.Sequential(Scaled(), Scaled()), nn.Linear(4, 32))
    for method, expected in (("block_influence", influence), ("angular_distance", angle)):
        found = calculate_sensitivities(blocks, batches=random_batches(2), method=method)
        assert found.values == pytest.approx((expected, expected), abs=1e-7)


def test_gradient_norm_is_the_sum_over_a_layers_weights():
    model, batches = gpt(), random_batches(3)
    found = calculate_sensitivities(model, batches=batches, method="gradient_norm")
    for number, batch in enumerate(batches):
        model.zero_grad()
        next_token_loss(model, batch).backward()
        for layer, block in enumerate(model.blocks):
            squares = sum(float(p.grad.square().sum()) for p in block.parameters())
            assert found.samples[layer][number] == pytest.approx(squares, rel=1e-4)


def gradient_norms(model, batch, layer_off):
    """Norm of each parameter's gradient where one layer's backward is cut out."""
    model.zero_grad()
    tokens_BT, targets_BT = batch
    x_BTD = model._embed(tokens_BT, 0)
    for layer, block in enumerate(model.blocks):
        out_BTD = block(x_BTD, None)
        x_BTD = x_BTD + (out_BTD - x_BTD).detach() if layer == layer_off else out_BTD
    logits_BTV = F.linear(model.final_norm(x_BTD), model.token_embedding.weight)
    F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten()).backward()
    return [0.0 if p.grad is None else float(p.grad.norm()) for p in model.parameters()]


def test_dropbp_is_the_change_of_all_gradient_norms_without_a_layers_backward():
    model, batches = gpt(), random_batches(2)
    found = calculate_sensitivities(model, batches=batches, method="dropbp")
    for number, batch in enumerate(batches):
        full = gradient_norms(model, batch, None)
        for layer in range(NUM_LAYERS):
            without = gradient_norms(model, batch, layer)
            expected = sum((a - b) ** 2 for a, b in zip(full, without, strict=True))
            assert found.samples[layer][number] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("method", ["gradient_norm", "dropbp"])
def test_gradients_survive_activation_recomputation(method):
    model, batches = gpt(), random_batches(2)
    expected = calculate_sensitivities(model, batches=batches, method=method)
    model.activation_recomputation = True
    found = calculate_sensitivities(model, batches=batches, method=method)
    assert found.values == pytest.approx(expected.values, rel=1e-5)


def test_frozen_weights_count_as_nothing():
    model, batches = gpt(), random_batches(2)
    for parameter in model.blocks[1].parameters():
        parameter.requires_grad_(False)
    found = calculate_sensitivities(model, batches=batches, method="gradient_norm")
    assert found.values[1] == 0 and min(found.values[0], *found.values[2:]) > 0


@pytest.mark.parametrize("method", ["gradient_norm", "dropbp"])
def test_a_model_without_gradients_is_refused(method):
    model = gpt().requires_grad_(False)
    with pytest.raises(ValueError, match="GPT has no parameter with requires_grad=True"):
        calculate_sensitivities(model, batches=random_batches(2), method=method)


@pytest.mark.parametrize("method", ["block_influence", "angular_distance", "dropbp"])
def test_a_block_that_changes_the_shape_is_refused(method):
    class Widening(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm = nn.LayerNorm(width)
            self.one, self.two = nn.Linear(width, width), nn.Linear(width, 2 * width)

        def forward(self, x_BTD):
            return self.two(self.one(self.norm(x_BTD)))

    stack = nn.Sequential(Widening(4), Widening(8))
    model = nn.Sequential(nn.Embedding(32, 4), stack, nn.Linear(16, 32))
    with pytest.raises(ValueError, match=r"layer 0 \(1\.0\) does not turn its first input into"):
        calculate_sensitivities(model, batches=random_batches(2), method=method)
