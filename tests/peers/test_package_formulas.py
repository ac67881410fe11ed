"""The methods' formulas against the packages that hold them, where those import.

Seen to pass beside torch 2.13 with torchtune 0.6.1, timm 1.0.31, torchvision 0.29.2 and the
progressive_layer_drop.py of DeepSpeed 0.14.5. torchtune needs a torchao, and timm and torchvision
compiled operators, that have no build for this torch on a CPU alone: there they were given
stand-ins, none of which these formulas touch. DeepSpeed removed PLD in 2026.

Legend: B batch, T tokens, D width.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest
import torch
from dropping.toys import Stack, inputs, stack
from small import gpt
from torch import Tensor

from sbldlib.dropping.schedules import pld_theta
from sbldlib.dropping.skipping import attach
from sbldlib.methods import dont_drop_dropout, layerskip, linear, uniform

pytestmark = pytest.mark.peer


def package(name: str, install: str) -> Any:
    """The module, or a skip that says what would bring it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except (ImportError, RuntimeError, AttributeError) as error:
        pytest.skip(f"{name} does not import ({str(error).strip()[:80]}): {install}")


def torchtune() -> Any:
    return package(
        "torchtune.modules.layer_dropout", "pip install torchtune, and a torchao that it takes"
    )


def torchvision() -> Any:
    return package("torchvision.ops", "pip install torchvision, in the build of this torch")


def timm() -> Any:
    return package("timm.layers.drop", "pip install timm, and torchvision in this torch's build")


def deepspeed() -> Any:
    return package(
        "deepspeed.runtime.progressive_layer_drop", "pip install 'deepspeed<0.15', which has PLD"
    )


def drops(method, progress: float = 0.0) -> list[float]:
    return [1 - keep for keep in method.keep_probability(progress)]


# ---------------------------------------------------------------- torchtune: LayerSkip's authors


@pytest.mark.parametrize("num_layers", [2, 5, 8, 32])
def test_layerskips_rates_are_torchtunes(num_layers):
    peer = torchtune()
    model = gpt(num_layers)
    blocks = stack(num_layers).blocks
    peer.prepare_layer_dropout(blocks, prob_max=0.3, prob_layer_scale=peer.ScaleType.EXP)
    expected = [block.dropout.prob for block in blocks]
    assert drops(layerskip(model, p_max=0.3)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("step", [0, 1, 9, 20])
def test_layerskips_curriculum_is_torchtunes_scale(step):
    peer = torchtune()
    scale = peer.get_scale(peer.ScaleType.EXP, 20, step)
    last = drops(layerskip(gpt(4), p_max=0.5, schedule="exponential"), step / 20)[-1]
    assert last == pytest.approx(0.5 * scale, abs=1e-12)


@pytest.mark.parametrize(("scale", "factory"), [("UNIFORM", uniform), ("LINEAR", None)])
def test_torchtunes_other_scales(scale, factory):
    peer = torchtune()
    blocks = stack(6).blocks
    peer.prepare_layer_dropout(
        blocks, prob_max=0.4, prob_layer_scale=getattr(peer.ScaleType, scale)
    )
    expected = [block.dropout.prob for block in blocks]
    if factory is None:  # l / (L - 1) p_max: Don't Drop Dropout's over the layers
        ours = drops(dont_drop_dropout(gpt(6), p_max=0.4))
    else:
        ours = drops(factory(gpt(6), saving=0.4))
    assert ours == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_run_are_computed_as_torchtune_does(seed):
    """Per sample: gathered, run, put back; the same rows give the same output, bit for bit."""
    peer = torchtune()
    model, x_BTD = stack(2).train(), inputs(rows=6)
    dropout = peer.LayerDropout(prob=0.5, seed=seed)
    expected_BTD = dropout(model.blocks[1], x_BTD)
    rows = changed_rows(expected_BTD, x_BTD)
    skipping = attach(model)
    skipping.set_rows({1: rows}, num_rows=6)
    assert 0 < len(rows) < 6 and torch.equal(model.blocks[1](x_BTD), expected_BTD)


def changed_rows(output_BTD: Tensor, x_BTD: Tensor) -> list[int]:
    return [row for row in range(len(x_BTD)) if not torch.equal(output_BTD[row], x_BTD[row])]


# ---------------------------------------------------------------- timm and torchvision


@pytest.mark.parametrize("num_layers", [2, 7, 24])
def test_dont_drop_dropouts_depth_is_timms_drop_path_rates(num_layers):
    rates = timm().calculate_drop_path_rates(0.6, num_layers)
    method = dont_drop_dropout(gpt(num_layers), p_max=0.6)
    assert drops(method) == pytest.approx(rates, abs=1e-6)
    assert drops(method, 0.5) == pytest.approx([rate / 2 for rate in rates], abs=1e-6)


def test_huangs_linear_decay_is_not_timms_rule():
    """timm spaces rates from 0 to p, so that its first layer always runs; Huang's does not."""
    rates = timm().calculate_drop_path_rates(0.5, 4)
    assert rates[0] == 0 and sum(rates) / 4 == pytest.approx(0.25)
    assert drops(linear(gpt(4), saving=0.25)) == pytest.approx([0.1, 0.2, 0.3, 0.4])


def residual_of(model: Stack, x_BTD: Tensor) -> Tensor:
    return model.blocks[1](x_BTD) - x_BTD


@pytest.mark.parametrize("name", ["torchvision", "timm"])
@pytest.mark.parametrize("keep", [0.5, 0.8])
def test_train_inverse_is_stochastic_depth_by_row(name, keep):
    """x + residual / k on the rows that run, x on the others."""
    peer = torchvision() if name == "torchvision" else timm()
    model, x_BTD = stack(2).train(), inputs(rows=12)
    torch.manual_seed(2)
    if name == "torchvision":
        noisy_BTD = peer.stochastic_depth(residual_of(model, x_BTD), 1 - keep, "row")
    else:
        noisy_BTD = peer.drop_path(residual_of(model, x_BTD), 1 - keep, training=True)
    rows = [row for row in range(12) if noisy_BTD[row].any()]
    assert 0 < len(rows) < 12
    skipping = attach(model)
    skipping.set_rows({1: rows}, num_rows=12)
    skipping.set_residual_scale({1: 1 / keep})
    torch.testing.assert_close(model.blocks[1](x_BTD), x_BTD + noisy_BTD)


@pytest.mark.parametrize("seed", range(3))
def test_dropping_for_the_whole_batch_is_stochastic_depth_by_batch(seed):
    peer = torchvision()
    model, x_BTD = stack(2).train(), inputs()
    torch.manual_seed(seed)
    noisy_BTD = peer.stochastic_depth(residual_of(model, x_BTD), 0.5, "batch")
    skipping = attach(model)
    skipping.set_dropped(() if noisy_BTD.any() else {1})
    skipping.set_residual_scale({1: 2.0})
    torch.testing.assert_close(model.blocks[1](x_BTD), x_BTD + noisy_BTD)


# ---------------------------------------------------------------- DeepSpeed: PLD's authors


@pytest.mark.parametrize(("theta", "gamma"), [(0.5, 0.001), (0.3, 0.01), (1.0, 0.001)])
def test_theta_is_deepspeeds(theta, gamma):
    peer = deepspeed().ProgressiveLayerDrop(theta=theta, gamma=gamma)
    ours = pld_theta(theta, gamma=gamma * 5000)
    assert peer.get_theta() == 1.0 == ours(0.0)
    for step in (1, 100, 1000, 5000):
        peer.update_state(step)
        assert ours(step / 5000) == pytest.approx(float(peer.get_theta()), abs=1e-12)
